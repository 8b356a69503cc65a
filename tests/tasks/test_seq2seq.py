"""`seq2seq`: what is encoded, and how what is written is measured."""

from __future__ import annotations

import builtins
import json
import sys
import time
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

import nlpkit
from nlpkit.checking.config import examine
from nlpkit.cli.main import main
from nlpkit.contracts import Batch, Prediction, Row
from nlpkit.data.plan import first_ids
from nlpkit.data.vocabulary import vocabulary_of
from nlpkit.errors import ConfigError, DataError, InputError
from nlpkit.testing import check_task
from nlpkit_tasks.objective import VocabularyObjective
from nlpkit_tasks.seq2seq.config import Seq2SeqConfig
from nlpkit_tasks.seq2seq.metrics import ExactMatch, overlaps
from nlpkit_tasks.seq2seq.task import Seq2SeqTask
from tests.tasks.language import WORDS, encoder_of, pairs, samples, tokenizer

GENERATOR = np.random.default_rng(3)


def bytes_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def told(outputs: list[str], references: list[str]) -> tuple[list[Prediction], Batch]:
    about = {"reference": [*map(bytes_of, references)]}
    batch = Batch(inputs={}, targets={}, count=1.0, about=about)
    return [Prediction(output=each) for each in outputs], batch


def nearly(text: str) -> str:
    """With every third word another, or gone."""
    others = [GENERATOR.choice([*WORDS, ""]) if at % 3 == 2 else word for at, word in text]
    return " ".join(filter(None, others))


@pytest.mark.parametrize("words", ["13a", "zh", "char"])
def test_bleu_and_chrf_are_sacrebleus_whatever_the_batches(words):
    references = [each["target"] + "." for each in pairs(40)] + [
        "我们 去 看 电影。",
        "Ünïcode, ok?",
    ]
    outputs = [nearly([*enumerate(each.split())]) for each in references]
    for metric, own in zip(overlaps(words), (BLEU(tokenize=words), CHRF()), strict=True):
        state, name = np.zeros_like(metric.state), next(iter(metric.better))
        for start, size in ((0, 1), (1, 17), (18, 24)):  # as ranks add up
            (part,) = (each for each in overlaps(words) if name in each.better)
            part.update(*told(outputs[start : start + size], references[start : start + size]))
            state += part.state
        expected = own.corpus_score(outputs, [references]).score
        assert 0 < expected < 100
        assert metric.compute(state)[name] == pytest.approx(expected, abs=1e-9)
        assert metric.details(state)[f"{name}_signature"] == str(own.get_signature())


def test_of_nothing_bleu_and_chrf_are_0():
    for metric in overlaps("13a"):
        assert [*metric.compute(metric.state).values()] == [0.0]


def test_an_exact_match_is_the_text_as_it_stands():
    metric = ExactMatch()
    metric.update(*told(["a b", "a b ", "A b"], ["a b", "a b", "a b"]))
    assert metric.compute(metric.state) == {"exact_match": 1 / 3}


def test_each_token_behind_the_first_is_a_target_once():
    encoder = encoder_of(Seq2SeqConfig(max_target_length=9), 80)
    rows = [Row(each, f"a:{at}") for at, each in enumerate(pairs(30))]
    found = [each for each, _ in samples(encoder, rows, "evaluate")]
    batch, codec = encoder.codec.collate(found, [0] * 30), encoder.codec
    bos, eos = codec.vocabulary.special["bos"], codec.vocabulary.special["eos"]
    counted, whole = 0, 0
    columns = *batch.inputs.values(), batch.targets["ids"]
    for row, source, mask, given, ids in zip(rows, *columns, strict=True):
        assert codec.vocabulary.text(source[mask == 1]) == row.values["source"]
        ids = ids[ids != -100]
        assert given[: len(ids)].tolist() == [bos, *ids[:-1]]
        assert ids[-1] == eos
        assert len(ids) <= 9
        assert row.values["target"].startswith(codec.vocabulary.text(ids))
        counted += len(ids)
        whole += codec.vocabulary.text(ids) == row.values["target"]
    assert batch.count == counted
    assert 3 < whole < 27
    assert [each.output for each in codec.gold(batch)] == [row.values["target"] for row in rows]
    lost = [each.cut for each in encoder.encoded(rows, "evaluate")]
    assert sum(lost) == 30 - whole
    assert codec.lengths(found[0]) == [(len(found[0]["input_ids"]), len(found[0]["target_ids"]))]


def test_what_cannot_be_is_said():
    with pytest.raises(ValidationError, match='source and target are the same column, "a"'):
        Seq2SeqConfig(source="a", target="a")
    with pytest.raises(ConfigError, match=r"task.max_target_length: 41 is more than the 40 tokens"):
        encoder_of(Seq2SeqConfig(max_target_length=41), 40)
    encoder = encoder_of(Seq2SeqConfig(), 40)
    for source, target in (("", "a"), ("a", " "), ("a", None), (3, "a")):
        (found,) = encoder.encoded([Row({"source": source, "target": target}, "a:1")], "train")
        assert isinstance(found.example, DataError)
    (found,) = encoder.encoded([Row({"target": "a"}, "a:1")], "predict")
    assert "the columns are: target" in str(found.example)


def test_without_sacrebleu_there_is_a_remedy(monkeypatch):
    def import_(name: str, *rest: Any) -> Any:
        if name.startswith("sacrebleu"):
            raise ModuleNotFoundError(name=name)
        return own(name, *rest)

    own = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", import_)
    with pytest.raises(InputError, match=r"pip install 'nlpkit-sdk\[translation\]'"):
        encoder_of(Seq2SeqConfig(), 40).codec.metrics()
    assert len(encoder_of(Seq2SeqConfig(bleu=None), 40).codec.metrics()) == 2


def test_without_what_divides_japanese_there_is_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "MeCab", None)
    with pytest.raises(InputError, match=r"what ja-mecab needs: pip install 'sacrebleu\[ja\]'"):
        overlaps("ja-mecab")


def test_it_is_a_task_as_the_contract_has_it():
    rows = [Row(each, f"a:{at}") for at, each in enumerate(pairs(6))]
    options = Seq2SeqConfig(label_smoothing=0.1)
    check_task(
        Seq2SeqTask(options),
        rows,
        tokenizer=encoder_of(options, 40).codec.vocabulary.tokenizer,
        objective=lambda schema: VocabularyObjective(options, schema),
    )


def test_the_rows_that_are_written_for_are_the_same_each_time_and_some():
    some = first_ids(1_000, 200, 13)
    assert len({*some.tolist()}) == 200
    assert some.tolist() == sorted(some.tolist()) != [*range(200)]
    assert first_ids(1_000, 200, 14).tolist() != some.tolist()
    assert {*first_ids(1_000, 100, 13).tolist()} < {*some.tolist()}
    assert first_ids(3, 200, 13).tolist() == [0, 1, 2]


def test_some_rows_are_written_for_in_training_and_all_in_the_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = {
        "name": "some",
        "task": {"name": "seq2seq", "generate": {"max_tokens": 3}},
        "tokenizer": {"max_length": 40},
        "model": {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2},
        "train": {"max_steps": 4, "batch_size": 4},
        "eval": {"every": 2, "generated_rows": 2},
        "observers": [],
        "device": "cpu",
    }
    counts = []

    def counted(self: ExactMatch, output: list[Prediction], batch: Batch) -> None:
        counts.append(len(output))
        if len(output) == 5:
            time.sleep(0.5)
        own(self, output, batch)

    own = ExactMatch.update
    monkeypatch.setattr(ExactMatch, "update", counted)
    rows = {"train": pairs(8), "validation": pairs(5, seed=9)}
    run = nlpkit.train(config, data=rows, out=tmp_path / "run")
    assert counts == [2, 2, 5]
    assert run.result["evaluation_seconds"] > 0.5  # the last writing too
    assert len(run.predictions("validation")) == 5
    values = run.metrics["validation"]
    assert values == pytest.approx(nlpkit.evaluate(run.path, rows["validation"]), rel=1e-6)
    assert set(values) > {"perplexity", "bleu", "chrf", "exact_match"}
    assert "13a" in run.result["details"]["validation"]["bleu_signature"]

    held, output, asked = tmp_path / "held.jsonl", tmp_path / "said.jsonl", {"max_tokens": 1}
    held.write_text("".join(f"{json.dumps(row)}\n" for row in rows["validation"]))
    command = ["evaluate", str(run.path), str(held), "--output", str(output)]
    assert main([*command, "--generate", "max_tokens=1", "beams=1"]) == 0
    lines = map(json.loads, output.read_text().splitlines())
    written = nlpkit.load(run).predict(
        [row["source"] for row in rows["validation"]], generate=asked
    )
    assert [each["prediction"] for each in lines] == [each.output for each in written]
    assert nlpkit.evaluate(run, held, generate=asked)["exact_match"] == 0
    assert main([*command, "--generate", "max_tokens=0"]) == 2


def test_check_tells_the_lengths_of_both_and_what_tokens_give_back(tmp_path):
    rows = [{"source": "ein Hund rennt", "target": f"A dog runs, {word} ."} for word in WORDS[:8]]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = {
        "name": "pairs",
        "task": "seq2seq",
        "data": {"train": str(path), "validation": str(path)},
        "tokenizer": {"name": "wordpiece", "lowercase": False, "max_length": 16},
        "model": "transformer",
    }
    texts = examine(config).texts
    assert texts is not None
    assert texts.lengths["source"]["max"] == 5
    assert texts.lengths["target"]["max"] > 5
    limited = {**config, "task": {"name": "seq2seq", "max_target_length": 4}}
    (cut,) = [each for each in examine(limited).problems if "are cut" in each.message]
    assert "longer than 16 tokens (source) or 3 tokens (target) and are cut" in cut.message
    assert cut.remedy.startswith("99% have at most 5 (source), ")
    values, details = texts.ceiling
    back = [row["target"].replace(" .", ".") for row in rows]  # as wordpiece decodes
    told = [row["target"] for row in rows]
    assert values["bleu"] == pytest.approx(BLEU().corpus_score(back, [told]).score, abs=1e-9)
    assert values["exact_match"] == 0
    assert "tok:13a" in details["bleu_signature"]
    whole = examine({**config, "tokenizer": {"max_length": 16}}).texts
    assert whole is not None
    assert whole.ceiling[0] == {"bleu": pytest.approx(100), "chrf": 100, "exact_match": 1}


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (["我们去看电影", "她在看一本书 (book)"], "zh"),
        (["we see 电影", "a book"], "13a"),
        (["映画を見に行きましょう", "これは本です"], "13a"),
    ],
)
def test_bleu_divides_chinese_as_such_where_nothing_else_is_asked(targets, words):
    rows = [Row({"source": "x", "target": target}, "a:1") for target in targets]
    task = Seq2SeqTask(Seq2SeqConfig())
    codec = task.codec(task.fit(rows), vocabulary_of(tokenizer("bpe"), 16))
    bleu = codec.metrics()[1]
    assert f"tok:{words}" in bleu.details(bleu.state)["bleu_signature"]
    asked = Seq2SeqTask(Seq2SeqConfig(bleu="char"))
    bleu = asked.codec(asked.fit(rows), codec.vocabulary).metrics()[1]
    assert "tok:char" in bleu.details(bleu.state)["bleu_signature"]
