from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import nlpkit
from nlpkit.checking.config import check, examine
from nlpkit.cli.main import main
from nlpkit.config.load import load_config

if TYPE_CHECKING:
    from pathlib import Path

GREETINGS = ["hello there", "good morning", "hi", "good day", "how do you do"]
FAREWELLS = ["bye", "see you", "so long", "take care", "good night"]
ROWS = ["text,label", *(f"{text},greeting" for text in GREETINGS)]
ROWS += [f"{text},farewell" for text in FAREWELLS]
LABELS = (("привет", "😀 да"), ("שלום", "否"))
VALIDATION = "text,label\nhello you,greeting\n"


READER = """
import nlpkit
from tokenizers import Tokenizer, models

def build(options, texts):
    return Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))

def warn(options):
    return [nlpkit.Problem(key="tokenizer.name", message="is odd", severity="warning")]

def refuse(options):
    raise nlpkit.InputError("words.txt: is not there")

@nlpkit.hookimpl
def nlpkit_tokenizers():
    for name in ("warn", "refuse"):
        yield nlpkit.TokenizerRecord(
            name=name, target="my_reader:build", check=f"my_reader:{name}", trained=False
        )
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").write_text("\n".join(ROWS))
    (tmp_path / "test.csv").write_text("text,label\nhello,greeting\nciao,farewel\nhum,farewel\n")
    (tmp_path / "c.yaml").write_text(
        "name: x\nmodel: transformer\ndata:\n  train: train.csv\n  validation: null\ndevice: cpu\n"
    )
    return tmp_path


def config(**keys: Any) -> dict[str, Any]:
    data = {"train": "train.csv", "validation": None, **keys.pop("data", {})}
    return {"name": "x", "model": "transformer", "device": "cpu", "data": data, **keys}


def texts(**keys: Any) -> list[str]:
    return [str(problem) for problem in check(config(**keys))]


@pytest.mark.usefixtures("folder")
class TestProblems:
    def test_a_good_config_has_none(self) -> None:
        assert texts() == []

    def test_labels_that_the_training_rows_lack_are_named_once(self) -> None:
        assert texts(data={"test": "test.csv"}) == [
            'test.csv:3: column "label": "farewel" is not one of the 2 labels; did you mean '
            '"farewell"? (2 such rows; data.on_bad_rows: skip drops them)'
        ]

    @pytest.mark.parametrize("policy", ["skip", "quarantine"])
    def test_rows_that_are_left_out_are_warnings_with_their_number(self, policy: str) -> None:
        findings = examine(config(data={"test": "test.csv", "on_bad_rows": policy}))
        assert [problem.severity for problem in findings.problems] == ["warning"]
        assert findings.problems[0].remedy == "2 such rows, left out"
        assert findings.usable
        assert findings.rows == {"train": 10, "test": 1}

    def test_files_that_are_missing_are_named_with_the_key_and_the_nearest_name(self) -> None:
        assert texts(data={"train": "trian.csv", "test": "0000.jsonl"}) == [
            'data.train: trian.csv: there is no such file; did you mean "train.csv"?',
            "data.test: 0000.jsonl: there is no such file",
        ]

    def test_columns_and_labels_may_be_in_any_script(self, folder: Path) -> None:
        rows = [f"{text} {n},{label}" for text, label in LABELS for n in "一二三四五"]
        (folder / "行.csv").write_text("\n".join(["文本,إجابة", *rows]), "gb18030")
        data = {"train": "行.csv", "encoding": "gb18030"}
        assert texts(task={"text": "文本", "label": "إجابة"}, data=data) == []
        assert texts(task={"text": "文体", "label": "إجابة"}, data=data)[0].startswith(
            '行.csv:2: column "文体": does not exist (the columns are: 文本, إجابة)'
        )

    def test_missing_training_rows_are_named(self) -> None:
        assert texts(data={"train": None}) == [
            'data.train: missing; it names the training rows of "files"'
        ]

    def test_wrong_columns_of_text_and_label_are_found_together(self) -> None:
        found = texts(task={"text": "txt", "label": "labels"}, data={"on_bad_rows": "skip"})
        assert found == [
            'train.csv:2: column "txt": does not exist; did you mean "text"? (the columns are: '
            "text, label); 10 such rows",
            'train.csv:2: column "labels": does not exist; did you mean "label"? (the columns '
            "are: text, label); 1 such row",
        ]
        assert not examine(config(task={"text": "txt"}, data={"on_bad_rows": "skip"})).usable

    def test_each_kind_of_bad_row_is_one_problem(self, folder: Path) -> None:
        rows = [*ROWS, ",greeting", ",farewell", "well,", "ha"]
        (folder / "train.csv").write_text("\n".join(rows))
        found = check(config())
        assert [problem.address for problem in found] == [
            "train.csv:12",
            "train.csv:14",
            "train.csv:15",
        ]
        assert found[0].remedy.startswith("2 such rows")

    def test_what_is_odd_about_a_file_is_a_warning(self, folder: Path) -> None:
        path = folder / "train.csv"
        path.write_text(path.read_text().replace(",", ";"))
        (problem,) = (each for each in check(config()) if "semicolons" in each.message)
        assert problem.severity == "warning"
        assert problem.remedy == 'data.delimiter: ";" says it for good'

    def test_options_that_need_validation_rows_are_warned_of_without_them(
        self, folder: Path
    ) -> None:
        found = check(config(train={"early_stopping": 2}, eval={"monitor": "accuracy"}))
        assert [(problem.key, problem.severity) for problem in found] == [
            ("train.early_stopping", "warning"),
            ("eval.monitor", "warning"),
        ]
        assert "has no effect: data.validation is null" in found[0].message
        both = {"train": {"early_stopping": 2}, "eval": {"monitor": "accuracy"}}
        (folder / "validation.csv").write_text(VALIDATION)
        assert texts(data={"validation": "validation.csv"}, **both) == []

    def test_a_value_to_monitor_that_the_task_lacks_is_an_error(self, folder: Path) -> None:
        (folder / "validation.csv").write_text(VALIDATION)
        (found,) = texts(data={"validation": "validation.csv"}, eval={"monitor": "acuracy"})
        assert found.startswith('eval.monitor: "acuracy" is no value of task "sequence"')
        assert texts(data={"validation": "validation.csv"}, eval={"monitor": "loss"}) == []

    def test_a_fraction_that_leaves_no_validation_row_is_an_error(self) -> None:
        assert texts(data={"validation": 0.01}) == [
            "data.validation: 0.01 of 10 training rows is no row (a label keeps at least one "
            "row); give a larger fraction, a file, or null"
        ]

    def test_a_tokenizer_says_what_it_finds_in_its_files(self, folder: Path) -> None:
        (folder / "my_reader.py").write_text(READER)
        (folder / "odd.yaml").write_text(
            (folder / "c.yaml").read_text() + "plugins: [./my_reader.py]\ntokenizer: {name: warn}\n"
        )
        findings = examine(load_config("odd.yaml"))
        assert "odd.yaml:8: tokenizer.name: is odd" in map(str, findings.problems)
        assert findings.usable
        findings = examine(load_config("odd.yaml", ["tokenizer.name=refuse"]))
        assert "odd.yaml:8: tokenizer: words.txt: is not there" in map(str, findings.problems)
        assert not findings.usable

    def test_a_single_label_is_an_error(self, folder: Path) -> None:
        (folder / "train.csv").write_text("\n".join(ROWS[:6]))
        (found,) = texts()
        assert found.startswith('data.train: column "label": the training rows have one label')

    def test_options_of_the_task_that_do_not_fit_the_rows_are_named(self) -> None:
        (found,) = texts(task={"class_weights": {"greting": 2.0}})
        assert found.startswith('task.class_weights: "greting" is not one of the 2 labels')

    def test_a_device_that_is_not_there_is_an_error(self) -> None:
        (found,) = texts(device="cuda:99")
        assert found.startswith("device: cuda:99 is not there")

    def test_an_empty_file_is_an_error(self, folder: Path) -> None:
        (folder / "test.csv").write_text("text,label\n")
        (found,) = texts(data={"test": "test.csv"})
        assert found.startswith("data.test: ")

    def test_components_are_checked_before_data(self) -> None:
        assert texts(model="transformr", data={"train": "nothing.csv"})[0].startswith(
            'model.name: no model is called "transformr"'
        )

    @pytest.mark.parametrize("target", ["multilabel", "regression"])
    def test_other_targets_are_checked_by_their_task(self, folder: Path, target: str) -> None:
        good = {"multilabel": "{},x\n", "regression": "{},2.5\n"}[target]
        good = "".join(good.format(letter) for letter in "abdef")
        (folder / "train.csv").write_text("text,label\n" + good)
        assert texts(task={"target": target}) == []
        (folder / "test.csv").write_text("text,label\nc,y\n")
        (found,) = texts(task={"target": target}, data={"test": "test.csv"})
        assert found.startswith('test.csv:2: column "label": "y" is not ')

    def test_pairs_of_texts_are_checked(self, folder: Path) -> None:
        rows = [f"x,y{number},{number % 2}" for number in range(10)]
        (folder / "train.csv").write_text("\n".join(["q,a,label", "x,,2", *rows, "y0,x,1"]))
        (found,) = texts(task={"text": ["q", "a"]})
        assert found.startswith('train.csv:2: column "a": the text is empty')


def test_the_bundled_sample_has_no_problem() -> None:
    findings = examine({"name": "x", "model": "transformer", "data": "sample"})
    assert not findings.problems
    assert set(findings.rows) == {"train", "validation", "test"}
    assert findings.labels == 10


def test_it_is_what_nlpkit_check_calls(folder: Path) -> None:
    assert nlpkit.check(folder / "c.yaml") == []


class TestCommand:
    def test_a_good_config_is_described(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["check", "c.yaml", "train.epochs=1", "name=a b"]) == 0
        out = capsys.readouterr().out
        for part in ["train 10", "wordpiece, at most 128 tokens", "0.0005", "2 labels"]:
            assert part in out
        assert out.splitlines()[-1] == "  nlpkit train c.yaml train.epochs=1 'name=a b'"
        assert "auto" not in out  # what it comes to is for the run to find out
        assert main(["check", "c.yaml", "device=cpu"]) == 0
        out = capsys.readouterr().out
        assert re.search(r"^  device +cpu$", out, re.MULTILINE)

    def test_problems_of_the_data_end_with_exit_code_2(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["check", "c.yaml", "data.test=test.csv", "task.label=lable"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("does not exist") == 2
        assert "Traceback" not in err

    def test_problems_of_the_config_have_their_line(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "c.yaml").write_text("name: x\nmodel: transformer\nseed: x\ntrain: {epoch: 1}\n")
        assert main(["check", "c.yaml"]) == 2
        err = capsys.readouterr().err
        assert "c.yaml:3: seed: " in err
        assert 'c.yaml:4: train.epoch: unknown key; did you mean "epochs"?' in err

    def test_warnings_stop_nothing(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        overrides = ["data.test=test.csv", "data.on_bad_rows=skip"]
        assert main(["check", "c.yaml", *overrides]) == 0
        assert "warning: test.csv:3" in capsys.readouterr().err


def test_no_torch_is_imported(folder: Path) -> None:
    code = (
        "import sys, nlpkit.checking.config\n"
        "assert nlpkit.checking.config.check('c.yaml') == []\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rows_in_memory_are_checked_like_those_of_files():
    rows = [{"text": f"{word} {at}", "label": word} for at in range(6) for word in ("a", "b")]
    given = {"name": "x", "model": "transformer", "precision": "fp32"}
    assert nlpkit.check(given, {"train": rows}) == []
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        [*rows, {"text": "", "label": "a"}], index=[f"T-{at}" for at in range(13)]
    )
    found = nlpkit.check(given, data={"train": frame, "validation": rows[:2]})
    (problem,) = [each for each in found if each.severity == "error"]
    assert problem.address == "train row 12 (index 'T-12')"
    assert problem.message == 'column "text": the text is empty'
    (problem,) = nlpkit.check(given, {"train": [*rows, {"text": "c", "label": "c"}, 7]})
    assert str(problem).startswith("train row 13: is int, not a mapping")
    (problem,) = nlpkit.check(given, {"trian": rows})
    assert "data: 'trian' is no split; give rows by split" in str(problem)
    (problem,) = nlpkit.check({**given, "modle": 1}, {"train": rows})
    assert problem.key == "modle"
