"""What `seq2seq` makes of odd inputs: each row of its page, by the public ways."""

from __future__ import annotations

import builtins
import json
import math
from typing import Any

import pytest

import nlpkit
from nlpkit.cli.main import main
from nlpkit.contracts import Row
from nlpkit.errors import InputError
from nlpkit_tasks.written import WritingCodec
from tests.docs.pages import TASKS, table
from tests.tasks.odd import Odd, config, loaded

ROWS = [{"source": f"abc {letter}", "target": f"{letter} cba"} for letter in "abcdefgh"]
CHAR = {"name": "char", "max_length": 12}


def trained(folder, rows=ROWS, **task) -> nlpkit.Run:
    data = {"train": rows, "validation": ROWS[:4]}
    settings = config({"name": "seq2seq", **task}, tokenizer=CHAR, model=model())
    return nlpkit.train(settings, data=data, out=folder)


def model() -> dict[str, Any]:
    return {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2}


def problems(rows=ROWS, export=(), **task) -> list[str]:
    settings = config({"name": "seq2seq", **task}, tokenizer=CHAR, model=model())
    settings["export"] = [*export]
    found = nlpkit.check(settings, data={"train": rows, "validation": ROWS[:4]})
    return [str(each) for each in found if each.severity == "error"]


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Odd:
    folder = tmp_path_factory.mktemp("odd")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        run = trained(folder / "run", max_target_length=4)
    return Odd({"seq2seq": run}, {"seq2seq": loaded(run)}, folder)


def nothing_to_read_or_write(odd, tmp_path, capsys):
    for side in ("source", "target"):
        for text in ("", "  \n", "\u200b", None, math.nan):
            (found,) = problems([*ROWS, {**ROWS[0], side: text}])
            assert found.startswith(f'train row 8: column "{side}": ')
    said = odd.said("seq2seq", " ")
    assert said.startswith("text 0")
    given = tmp_path / "in.jsonl"
    given.write_text('{"source": "abc"}\n{"source": ""}\n')
    first, second = odd_lines(odd, given)
    assert first["output"] is not None
    assert "in.jsonl:2" in second["error"]


def odd_lines(odd, given) -> list[Any]:
    output = given.with_name("out.jsonl")
    command = ["predict", str(odd.runs["seq2seq"].path), "--input", str(given)]
    assert main([*command, "--output", str(output)]) == 0
    return [json.loads(line) for line in output.read_text().splitlines()]


def a_long_target(odd, tmp_path, capsys):
    assert odd.runs["seq2seq"].result["data"]["truncated"]["train"] == 1.0


def more_than_the_model_takes(odd, tmp_path, capsys):
    (found,) = problems(max_target_length=13)
    assert found.startswith("task.max_target_length: 13 is more than the 12 tokens")
    (found,) = problems(generate={"max_tokens": 13})
    assert found.startswith("task.generate.max_tokens: 13 is more than the 12 tokens")
    assert problems(generate={"max_tokens": 12}, max_target_length=12) == []
    assert odd.said("seq2seq", "abc", max_tokens=12).output is not None
    assert odd.said("seq2seq", "abc", max_tokens=13) == (
        "text 0: max_tokens is 13, more than the 12 tokens that the model takes; "
        "set max_tokens to at most 12"
    )


def formats_of_one_graph(odd, tmp_path, capsys):
    for name in ("torchscript", "state_dict", "torch_export"):
        (found,) = problems(export=[name])
        assert found == (
            f"export[0]: {name} takes no models of several graphs, which this task has; "
            "take one of: onnx"
        )


def an_end_in_a_target(odd, tmp_path, capsys):
    rows = [{"source": "abc", "target": f"{letter} [SEP] cba"} for letter in "abcd"]
    codec = odd.models["seq2seq"].codec
    for row, example in zip(rows, examples(odd, rows), strict=True):
        assert codec.faultless(example).output.strip() == row["target"][0]


def examples(odd, rows) -> list[Any]:
    encoder = odd.models["seq2seq"].encoder
    return [each.example for each in encoder.encoded([Row(row, "") for row in rows], "evaluate")]


def an_unknown_source(odd, tmp_path, capsys):
    said = odd.said("seq2seq", "我们 去看")
    assert said.output is not None
    assert -100 < said.score < 0


def one_column(odd, tmp_path, capsys):
    (found,) = problems(source="target")
    assert 'source and target are the same column, "target"' in found


def a_column_that_is_missing(odd, tmp_path, capsys):
    given = tmp_path / "in.csv"
    given.write_text("text,target\nabc,cba\n")
    run, output = str(odd.runs["seq2seq"].path), str(tmp_path / "out.jsonl")
    assert main(["predict", run, "--input", str(given), "--output", output]) == 2
    assert "the columns are: text, target" in capsys.readouterr().err


def many_beams(odd, tmp_path, capsys):
    known = odd.models["seq2seq"].bundle.vocabulary.size
    beams = {"method": "beam", "max_tokens": 2}
    most, more = (odd.said("seq2seq", "abc a", beams=n, **beams) for n in (known, 3 * known))
    assert vars(most) == vars(more)


def without_sacrebleu(odd, tmp_path, capsys):
    def import_(name: str, *rest: Any) -> Any:
        if name.startswith(("sacrebleu", "MeCab")):
            raise ModuleNotFoundError(name=name.partition(".")[0])
        return own(name, *rest)

    own = builtins.__import__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "__import__", import_)
        (found,) = problems()
        assert found.endswith("pip install 'nlpkit-sdk[translation]', or set task.bleu to null")
        with pytest.raises(InputError, match=r"nlpkit-sdk\[translation\]"):
            trained(tmp_path / "run")
        assert not (tmp_path / "run" / "result.json").exists()
        assert problems(bleu=None) == []


ODD = {
    "A source or a target that is empty, missing, of blanks alone, or that the tokenizer drops": (
        nothing_to_read_or_write
    ),
    "A target longer than task.max_target_length": a_long_target,
    "A task.max_target_length or max_tokens above tokenizer.max_length": more_than_the_model_takes,
    "export: [torchscript], or another format of one graph": formats_of_one_graph,
    "A target that holds the text of the token that ends texts": an_end_in_a_target,
    "A source of which the tokenizer knows nothing": an_unknown_source,
    "Source and target in the same column": one_column,
    "A column that is missing in prediction": a_column_that_is_missing,
    "More beams than the vocabulary has tokens": many_beams,
    "task.bleu without sacrebleu, or ja-mecab without what it needs": without_sacrebleu,
}
"""What the page says of odd inputs, and what finds it so."""


@pytest.mark.parametrize("row", ODD)
def test_an_odd_input_gives_what_the_page_says(trained_once, tmp_path, capsys, row):
    ODD[row](trained_once, tmp_path, capsys)


def test_an_interrupted_file_keeps_the_texts_that_were_written(trained_once, tmp_path, monkeypatch):
    given, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"source": f"{'abc ' * (row % 3)}{row}"} for row in range(300)]
    given.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    command = ["predict", str(trained_once.runs["seq2seq"].path), "--input", str(given)]
    own, calls = WritingCodec.predict, []

    def interrupted(self, engine, batch, settings):
        calls.append(len(batch.inputs["input_ids"]))
        if sum(calls) > 260:
            raise KeyboardInterrupt
        return own(self, engine, batch, settings)

    monkeypatch.setattr(WritingCodec, "predict", interrupted)
    assert main([*command, "--output", str(output)]) == 130
    (draft,) = tmp_path.glob(".out.jsonl.*.partial")
    assert len(draft.read_text().splitlines()) == 256
    monkeypatch.setattr(WritingCodec, "predict", own)
    assert main([*command, "--output", str(output), "--resume"]) == 0
    whole = tmp_path / "whole.jsonl"
    assert main([*command, "--output", str(whole)]) == 0
    assert output.read_bytes() == whole.read_bytes()


def test_every_odd_input_of_the_page_is_tried():
    (page,) = [each for each in TASKS if each.name == "seq2seq.md"]
    rows = [line.cells[0] for line in table(page) if line.heading == "Odd inputs"]
    assert rows[2:] == [*ODD]  # after the head
