"""What `check` says of rows that a run can use: copies, contradictions, lengths, unknown tokens."""

from __future__ import annotations

import json
import shutil
import time
from collections import namedtuple
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from nlpkit.checking.config import Findings, examine
from nlpkit.checking.counts import TokenCounts
from nlpkit.cli.main import main
from nlpkit_bert.resolve import REQUIRED

if TYPE_CHECKING:
    from pathlib import Path

    from nlpkit.errors import Problem

GOOD = [f"text number {number},{'ab'[number % 2]}" for number in range(20)]
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(
    rows: list[str], *, columns: str = "text,label", data: dict[str, Any] | None = None, **keys: Any
) -> Findings:
    """What is found in a file of these rows, which begin in line 2."""
    with open("train.csv", "w", encoding="utf-8") as file:
        file.write("\n".join([columns, *rows]))
    data = {"train": "train.csv", "validation": None, **(data or {})}
    config = {"name": "x", "model": "transformer", "device": "cpu", "data": data, **keys}
    return examine(config)


def only(findings: Findings) -> Problem:
    (problem,) = findings.problems
    assert problem.severity == "warning"
    assert findings.usable
    return problem


def test_rows_without_a_fault_have_none() -> None:
    assert found(GOOD).problems == []


class TestCopies:
    def test_copies_are_counted_and_two_are_named(self) -> None:
        problem = only(found([*GOOD, GOOD[3], GOOD[3], GOOD[7]]))
        assert str(problem) == (
            "train.csv:22: is train.csv:5 again, text and target; such rows: 3 of 23 train "
            "rows; remove them: they count twice"
        )

    def test_a_text_with_two_labels_is_named_with_both(self) -> None:
        problem = only(found([*GOOD, "text number 3,a", "text number 8,b"]))
        assert str(problem) == (
            'train.csv:22: has the text of train.csv:5 and another target: "a", not "b"; such '
            "rows: 2 of 22 train rows; correct or remove one of each two"
        )

    def test_training_rows_in_another_file_are_named_whatever_their_label(
        self, folder: Path
    ) -> None:
        (folder / "test.csv").write_text("text,label\ntext,a\ntext number 3,a\ntext number 4,a\n")
        problem = only(found(GOOD, data={"test": "test.csv"}))
        assert str(problem) == (
            "test.csv:3: has the text of train.csv:5, a training row; such rows: 2 of 3 test rows; "
            "remove them from one of the two: they flatter the test metrics"
        )

    def test_copies_that_a_split_tears_apart_are_in_both_parts(self) -> None:
        kinds = {
            "validation metrics" in problem.remedy
            for problem in found(GOOD * 2, data={"validation": 0.5}).problems
        }
        assert True in kinds

    def test_rows_that_are_left_out_are_copies_of_nothing(self, folder: Path) -> None:
        (folder / "test.csv").write_text("text,label\ntext,c\ntext,c\ntext,a\n")
        problem = only(found(GOOD, data={"test": "test.csv", "on_bad_rows": "skip"}))
        assert problem.remedy == "2 such rows, left out"

    def test_other_blanks_or_capitals_make_another_text(self) -> None:
        assert found([*GOOD, "text  number 3,b", "Text number 3,b"]).problems == []

    def test_pairs_repeat_where_both_texts_do(self) -> None:
        rows = [f"same,text {number},{'ab'[number % 2]}" for number in range(20)]
        pairs = {"task": {"text": ["q", "a"]}, "columns": "q,a,label"}
        assert found(rows, **pairs).problems == []
        assert "train.csv:22: is train.csv:3 again" in str(only(found([*rows, rows[1]], **pairs)))

    @pytest.mark.parametrize(
        ("target", "one", "other"), [("multilabel", '"x,y"', "y"), ("regression", "1", "1.5")]
    )
    def test_other_targets_contradict_each_other_too(
        self, target: str, one: str, other: str
    ) -> None:
        rows = [f"text {number},{one}" for number in range(10)]
        problems = found([*rows, f"text 3,{other}", rows[5]], task={"target": target}).problems
        assert [problem.message.partition(";")[0] for problem in problems] == [
            "is train.csv:7 again, text and target",
            "has the text of train.csv:5 and another target",
        ]

    def test_another_weight_is_no_other_target(self) -> None:
        rows = [f"{row},1" for row in GOOD]
        keys = {"task": {"weight": "weight"}, "columns": "text,label,weight"}
        assert "again, text and target" in str(only(found([*rows, f"{GOOD[3]},2"], **keys)))


class TestLabels:
    def test_labels_with_few_rows_are_named_the_rarest_first(self) -> None:
        problem = only(found([*GOOD, "one,c", "two,d", "three,c"]))
        assert str(problem) == (
            "train.csv:22: 2 of 4 labels have fewer than 5 training rows: d (1), c (2) "
            "(also train.csv:23); give them more rows, or merge them"
        )

    def test_of_several_labels_the_file_is_named(self) -> None:
        rows = [f"text {number},x" for number in range(9)]
        problem = only(found([*rows, 'text,"x,y"'], task={"target": "multilabel"}))
        assert "1 of 2 labels have fewer than 5 training rows: y (1);" in str(problem)

    def test_labels_that_a_reader_takes_for_one_are_named_with_what_sets_them_apart(self) -> None:
        rows = [f"text {number},{'ab'[number % 2]} é" for number in range(20)]
        odd = ["A é", "a e\u0301", "a\u00a0é", "b\u200b é", "a  é"]
        rows += [f"more {odd[number % 5]} {number},{odd[number % 5]}" for number in range(25)]
        assert str(only(found(rows))) == (
            "train.csv:22: labels that differ by capitals, blanks or the form of Unicode alone: "
            '"A é" (5), "a  é" (5), "a e\\u0301" (5), "a\\u00a0é" (5), "a é" (10); '
            '"b\\u200b é" (5), "b é" (10) (also train.csv:25); write each in one way, if both mean '
            "the same"
        )

    @pytest.mark.parametrize("target", ["class", "multilabel"])
    def test_labels_that_hold_others_are_named(self, target: str) -> None:
        labels = ["a", "b", "a|b", "b ; c", "x;y"]
        rows = [f"text {number},{labels[number % 5]}" for number in range(25)]
        place, also = ("train.csv:4: ", " (also train.csv:5)") if target == "class" else ("", "")
        assert str(only(found(rows, task={"target": target}))) == (
            f"{place}labels that hold others, joined by ; or |: a|b (5), b ; c (5){also}; if "
            "they are several labels, write a list or separate them by commas "
            "(task.target: multilabel)"
        )
        one = [row for row in rows if ";" not in row]
        assert found(one, task={"target": target}).problems == []

    def test_signs_set_labels_apart(self) -> None:
        labels = ["c", "c++", "c#", "ab", "a-b", "a_b", "1", "1.5", "é", "e"]
        assert found([f"text {n},{labels[n % 10]}" for n in range(50)]).problems == []

    @pytest.mark.parametrize("label", ["nan", "None", "NULL", "n/a", "-1"])
    def test_labels_that_often_stand_for_a_missing_one_are_named(self, label: str) -> None:
        problem = only(found([*GOOD, *(f"odd {number},{label}" for number in range(6))]))
        assert str(problem) == (
            f"train.csv:22: labels that often stand for a missing one: {label} (6) (also "
            "train.csv:23); if they do, leave the cells empty: they are bad rows then"
        )


def vocabulary(folder: Path, *words: str, lowercase: bool = False) -> dict[str, Any]:
    """A pretrained WordPiece tokenizer that knows these words."""
    tokens = {token: number for number, token in enumerate(["[UNK]", *words])}
    tokenizer = Tokenizer(models.WordPiece(tokens, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    return {"name": "pretrained", "pretrained": str(folder)}


DIGITS = [*"0123456789", *(f"##{digit}" for digit in "0123456789")]


class TestTokens:
    def test_lengths_are_told_in_percentiles(self) -> None:
        rows = [f"{'x' * length},{'ab'[length % 2]}" for length in range(1, 101)]
        facts = found(rows, tokenizer={"name": "char", "max_length": 100}).texts
        assert facts is not None
        assert facts.lengths == {"text": {"p50": 52, "p95": 97, "p99": 101, "max": 102}}
        assert facts.truncated == 0.02
        assert facts.unknown == 0

    def test_texts_that_are_cut_are_a_warning_from_five_percent(self) -> None:
        rows = [f"{'x' * length},{'ab'[length % 2]}" for length in range(1, 101)]
        assert found(rows, tokenizer={"name": "char", "max_length": 98}).problems == []
        problem = only(found(rows, tokenizer={"name": "char", "max_length": 90}))
        assert str(problem) == (
            "train.csv:90: 12 of 100 rows are longer than 90 tokens and are cut (also "
            "train.csv:91); 99% fit into tokenizer.max_length: 101, if the model takes it"
        )

    def test_windows_are_counted_and_only_what_none_has_is_cut(self) -> None:
        rows = [f"{'x' * length},{'ab'[length % 2]}" for length in range(1, 101)]
        windows = {"task": {"name": "sequence", "long_text": "window"}}
        tokenizer = {"name": "char", "max_length": 90}
        findings = found(rows, tokenizer=tokenizer, **windows)
        assert findings.problems == []
        assert findings.texts is not None
        assert (findings.texts.truncated, findings.texts.windowed) == (0, 0.12)
        assert findings.texts.windows == 1.12
        rows = [f"{'x' * 300}{row}" if at % 10 == 0 else row for at, row in enumerate(rows)]
        findings = found(rows, tokenizer={"name": "char", "max_length": 10}, **windows)
        assert str(only(findings)) == (
            "train.csv:2: 10 of 100 rows are longer than 32 windows of 10 tokens and are cut (also "
            "train.csv:12); a larger tokenizer.max_length, if the model takes it"
        )

    def test_windows_that_cannot_overlap_are_an_error(self) -> None:
        windows = {"task": {"name": "sequence", "long_text": "window"}}
        findings = found(GOOD, tokenizer={"name": "char", "max_length": 7}, **windows)
        errors = [str(each) for each in findings.problems if each.severity == "error"]
        assert errors == [
            "tokenizer.max_length: windows of 7 tokens cannot overlap; set it to 8 or more"
        ]

    def test_unknown_tokens_are_a_warning_that_names_the_commonest_characters(
        self, folder: Path
    ) -> None:
        tokenizer = vocabulary(folder, "text", "number", "A", *DIGITS)
        rows = [*GOOD, "text 卡,a", "😀 卡 text卡,b"]
        findings = found(rows, tokenizer=tokenizer)
        assert findings.texts is not None
        assert findings.texts.unknown == pytest.approx(4 / (10 * 3 + 10 * 4 + 6))
        assert str(only(findings)) == (
            "train.csv:22: 5.3% of the tokens are unknown to the vocabulary, in 2 of 22 rows; "
            "the commonest: 卡 (U+5361), 😀 (U+1F600) (also train.csv:23); a tokenizer for this "
            "language, or tokenizer: bpe, which knows all"
        )

    def test_unknown_words_of_known_characters_are_named_themselves(self, folder: Path) -> None:
        tokenizer = vocabulary(folder, "text", "number", "q", "A", *DIGITS)
        problem = only(found([*GOOD, "qq text,a"], tokenizer=tokenizer))
        assert "; the commonest: qq; " in str(problem)

    def test_a_trained_tokenizer_may_lack_what_validation_has(self, folder: Path) -> None:
        (folder / "v.csv").write_text("text,label\n新的文字,a\n", encoding="utf-8")
        found_in = {"validation": "v.csv"}
        for tokenizer in ("wordpiece", "char"):
            problem = only(found(GOOD, data=found_in, tokenizer=tokenizer))
            assert problem.address == "v.csv:2"
            assert "新 (U+65B0)" in problem.message
            assert problem.remedy == "tokenizer: bpe knows all"
        assert found(GOOD, data=found_in, tokenizer="bpe").problems == []

    def test_capitals_that_a_vocabulary_lacks_are_a_warning(self, folder: Path) -> None:
        small = ["text", "number", *DIGITS]
        problem = only(found(GOOD, tokenizer=vocabulary(folder, *small)))
        assert problem.key == "tokenizer"
        assert problem.message.startswith("the vocabulary has no capitals, and the tokenizer keeps")
        assert found(GOOD, tokenizer=vocabulary(folder, *small, lowercase=True)).problems == []
        assert found(GOOD, tokenizer=vocabulary(folder, *small, "A")).problems == []

    def test_texts_of_which_nothing_is_left_are_a_warning(self) -> None:
        problem = only(found([*GOOD, "\ufffd,a"]))
        assert problem.address == "train.csv:22"
        assert problem.message == "1 of 21 rows hold nothing that the tokenizer keeps"

    def test_a_tokenizer_that_cannot_be_had_is_an_error_and_labels_are_checked_all_the_same(
        self, folder: Path
    ) -> None:
        (folder / "test.csv").write_text("text,label\nnew,c\n")
        tokenizer = {"name": "pretrained", "pretrained": str(folder)}
        keys = {"tokenizer": tokenizer, "data": {"test": "test.csv"}}
        findings = found(GOOD, **keys)
        assert findings.texts is None
        assert [problem.severity for problem in findings.problems] == ["error", "error"]
        assert "has none of tokenizer.json, vocab.txt" in findings.problems[0].message
        assert '"c" is not one of the 2 labels' in findings.problems[1].message
        findings = found(GOOD, launch="ray", **keys)  # it may lie on the cluster
        assert findings.problems[0].severity == "warning"


class TestDisk:
    @pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
    def test_room_for_checkpoints_and_tokens_is_looked_for(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, weights: str
    ) -> None:
        (folder / "other.safetensors").write_bytes(bytes(30_000_000))
        size = 60_000_000 - 88  # without the header and its length
        part = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
        with (folder / weights).open("wb") as file:
            file.write((80).to_bytes(8, "little") + json.dumps({"w": part}).ljust(80).encode())
            file.truncate(60_000_000)
        sizes = {**dict.fromkeys(REQUIRED, 4), "vocab_size": 100}
        (folder / "config.json").write_text(json.dumps({**sizes, "model_type": "bert"}))
        tokenizer = vocabulary(folder, "text", "number", "A", *DIGITS)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 600_000_000))
        tokenizer["max_length"] = 4
        model = {"name": "bert", "pretrained": str(folder)}
        rows = [f"text {number},{'ab'[number % 2]}" for number in range(10)]

        def of_disk() -> list[Problem]:  # that the weights do not fit is said too
            problems = found(rows, tokenizer=tokenizer, model=model).problems
            return [each for each in problems if each.address.endswith("runs")]

        (problem,) = of_disk()
        assert problem.message == (
            "0.6 GB are free, and 4 checkpoints of 0.2 GB and the model take 0.8 GB"
        )
        assert problem.remedy == "make room, or set NLPKIT_RUNS to a folder on another disk"
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 780_003_000))
        assert of_disk() == []

    def test_tokens_alone_can_be_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 700))
        problem = only(found(GOOD))
        assert "the tokens take 0.0 GB" in problem.message
        assert "NLPKIT_CACHE" in problem.remedy


def test_the_command_shows_lengths_and_unknown_tokens(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found([*GOOD, GOOD[0]])
    (folder / "c.yaml").write_text(
        "name: x\nmodel: transformer\ndata: {train: train.csv, validation: null}\ndevice: cpu\n"
    )
    assert main(["check", "c.yaml", "tokenizer=char"]) == 0
    out, err = capsys.readouterr()
    assert "tokens of a row  p50 15, p95 16, p99 16, max 16; 0.0% of the rows are cut" in out
    assert "unknown tokens   0.00%" in out
    assert "windows" not in out
    assert err.startswith("warning: train.csv:22: is train.csv:2 again")


def test_the_command_shows_how_many_windows_rows_have(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found(GOOD)
    (folder / "c.yaml").write_text(
        "name: x\nmodel: transformer\ndata: {train: train.csv, validation: null}\ndevice: cpu\n"
        "tokenizer: {name: char, max_length: 15}\n"
    )
    assert main(["check", "c.yaml", "task.long_text=window"]) == 0
    out, _ = capsys.readouterr()
    assert "windows of a row  1.50; 50.0% of the rows have more than one" in out
    assert "max 16; 0.0% of the rows are cut" in out


def test_a_long_text_of_unknown_words_is_counted_in_time_of_its_length() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    text = "word " * 100_000
    counts, started = TokenCounts(tokenizer), time.process_time()
    counts.add("text", text, tokenizer.encode(text), 0)
    assert time.process_time() - started < 5
