"""An interrupted output is gone on with: no row is lost or doubled, and every byte is the same."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nlpkit.bundle.forms import form_of
from nlpkit.bundle.load import load
from nlpkit.cli.main import main
from nlpkit.cli.render import Bar
from nlpkit.commands.prediction_draft import Draft, drafts
from nlpkit.files import locked
from tests.bundle.bundles import LABELS, PAIRS, make_run
from tests.bundle.words import ROWS, lines

PROGRAM = "import sys; from nlpkit.cli.main import main; sys.exit(main())"
WINDOW = 64
COUNT = 3 * WINDOW + 20


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        return {
            "class": make_run(folder / "cards"),
            "pairs": make_run(folder / "pairs", PAIRS, text=["first", "second"]),
            "multilabel": make_run(folder / "many", LABELS, target="multilabel"),
            "words": make_run(folder / "words", ROWS, name="token", text="tokens", label="tags"),
        }


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlpkit.bundle.predict.WINDOW", 1)


def text(number: int) -> str:
    """Short and long ones, some with what csv and JSON have to quote, some empty."""
    odd = ["", 'a "quoted", one', "two\nlines", "a lone\rreturn", "möglich 卡", '"', ",", "\u2028"]
    return odd[number // 5 % len(odd)] if number % 5 == 0 else f"money {'card ' * (number % 7)}"


COLUMNS = {"pairs": ("first", "second"), "words": ("tokens",)}


def words(number: int) -> list[str]:
    """Of one window and of several; one has no width."""
    return ["Rome", "\u200b", *["calls", "Peter"] * (number % 9)]


def write_input(path: Path, count: int = COUNT, task: str = "class") -> Path:
    """Rows as the suffix says; in every file some rows are broken."""
    columns = COLUMNS.get(task, ("text",))
    if path.suffix == ".conll":
        given = [words(number) for number in range(count)]
        rows = [{"tokens": each, "tags": ["O"] * len(each)} for each in given]
        sentences = lines(rows).split("\n\n")
        sentences[9::50] = ["broken"] * len(sentences[9::50])
        path.write_text("\n\n".join(sentences), encoding="utf-8")
        return path
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        kind = path.name.removesuffix(".gz").rpartition(".")[2]
        delimiter = "\t" if kind == "tsv" else ","
        table = csv.writer(file, delimiter=delimiter, lineterminator="\r\n")
        if kind in ("csv", "tsv"):
            table.writerow(["id", *columns])
        for number in range(count):
            texts = [text(number + at) for at in range(len(columns))]
            if kind == "txt":
                file.write(texts[0].replace("\n", " ").replace("\r", " ") + "\n")
            elif kind == "jsonl":
                values = [words(number)] if task == "words" else texts
                values = [7, *texts[1:]] if number == 70 else values
                line = json.dumps(dict(zip(columns, values, strict=True)))
                file.write("{broken\n" if number % 50 == 9 else f"{line}\n")
            else:
                table.writerow([number] if number % 50 == 9 else [number, *texts])
    return path


def arguments(run: Path, source: Path, output: Path, *more: str) -> list[str]:
    return ["predict", str(run), "--input", str(source), "--output", str(output), *more]


def draft_path(run: Path, output: Path, top_k: int | None = None) -> Path:
    model = load(run)
    form = form_of(None, list)
    decides = {"precision": "fp32", "columns": model.columns, "encoding": "utf-8"}
    return Draft(output, form, model, top_k=top_k, **decides).path


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("target", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("class", "csv"),
        ("class", "csv.gz"),
        ("class", "tsv"),
        ("class", "txt"),
        ("class", "jsonl"),
        ("pairs", "csv"),
        ("pairs", "jsonl.gz"),
        ("multilabel", "csv"),
        pytest.param("words", "conll", marks=pytest.mark.slow),
        ("words", "jsonl"),
    ],
)
def test_a_file_cut_anywhere_ends_as_if_nothing_had_happened(
    runs: dict[str, Path],
    tmp_path: Path,
    task: str,
    kind: str,
    target: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes: list[bytes] = []  # those that stood beside the draft, one after the other
    advance = Bar.advance

    def advanced(bar: Bar, amount: int = 1, detail: str = "") -> None:
        advance(bar, amount, detail)
        notes.extend(path.read_bytes() for path in tmp_path.glob(".out.*.rows"))

    run, output = runs[task], tmp_path / f"out.{target}"
    source = write_input(tmp_path / f"in.{kind}", task=task)
    top_k = None if task == "words" else 2  # which has none
    more = ("--top-k", str(top_k)) if top_k else ()
    with monkeypatch.context() as patch:
        patch.setattr(Bar, "advance", advanced)
        assert main(arguments(run, source, output, *more)) == 0
    assert not list(tmp_path.glob(".out.*"))
    summary = capsys.readouterr().err.splitlines()[-2:]
    assert "could not be predicted" in summary[0]
    whole, draft = output.read_bytes(), draft_path(run, output, top_k)
    for cut in (0, 5, len(whole) * 2 // 3, len(whole) - 1, len(whole)):
        output.unlink()
        draft.write_bytes(whole[:cut])
        if known := [note for note in notes if json.loads(note)["bytes"] <= cut]:
            draft.with_suffix(".rows").write_bytes(known[-1])
        assert main(arguments(run, source, output, *more, "--resume")) == 0
        assert output.read_bytes() == whole
        said = capsys.readouterr().err.splitlines()
        assert said[-2:] == summary
        assert ("goes on after" in said[0]) == (cut > 5)
        assert not drafts(output)


def test_csv_output_is_read_back_as_it_was_written(runs: dict[str, Path], tmp_path: Path) -> None:
    source, output = write_input(tmp_path / "in.jsonl"), tmp_path / "out.csv"
    assert main(arguments(runs["class"], source, output)) == 0
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert len(rows) == COUNT
    assert rows[10]["text"] == "two\nlines"
    assert rows[15]["text"] == "a lone\rreturn"


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_says_how_to_go_on(
    runs: dict[str, Path],
    tmp_path: Path,
    number: signal.Signals,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, output = write_input(tmp_path / "in.csv"), tmp_path / "out.jsonl"
    assert main(arguments(runs["class"], source, output)) == 0
    whole, advance = output.read_bytes(), Bar.advance

    def advanced(bar: Bar, amount: int = 1, detail: str = "") -> None:
        advance(bar, amount, detail)
        if bar.done == 2 * WINDOW:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(Bar, "advance", advanced)
        assert main(arguments(runs["class"], source, output)) == 128 + number
    (draft,) = drafts(output)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"ended by {number.name}; {draft} has what was predicted; go on with --resume"
    assert draft.read_bytes() == b"".join(whole.splitlines(keepends=True)[: 2 * WINDOW])
    assert output.read_bytes() == whole  # the one before, which stays until the new one is whole
    assert main(arguments(runs["class"], source, output, "--resume")) == 0
    assert f"goes on after {2 * WINDOW} rows" in capsys.readouterr().err
    assert output.read_bytes() == whole


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("class", "csv"),
        pytest.param("words", "conll", marks=pytest.mark.slow),
        pytest.param("words", "jsonl", marks=pytest.mark.slow),
    ],
)
def test_a_killed_process_loses_no_row(
    runs: dict[str, Path], tmp_path: Path, task: str, kind: str
) -> None:
    source, output = tmp_path / f"in.{kind}", tmp_path / "out.jsonl"
    write_input(source, 8_300, task)
    command = [sys.executable, "-c", PROGRAM, *arguments(runs[task], source, output)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (left := drafts(output)) or not left[0].stat().st_size:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not output.exists()
    assert main(arguments(runs[task], source, output, "--resume")) == 0
    resumed = output.read_bytes()
    assert main(arguments(runs[task], source, output)) == 0
    assert output.read_bytes() == resumed
    assert resumed.count(b"\n") == 8_300


def test_a_full_disk_leaves_what_can_be_gone_on_with(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("money\n" * 9_000)
    line = shlex.join([sys.executable, "-c", PROGRAM, *arguments(runs["class"], source, output)])
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 500; exec {line}"], capture_output=True, text=True, check=False
    )
    (draft,) = drafts(output)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-2:]
    assert said[0] == f"{draft} has what was predicted; go on with --resume"
    assert said[1] == f"error: {output}: File too large"
    assert main(arguments(runs["class"], source, output, "--resume")) == 0
    assert "goes on after 4,096 rows" in capsys.readouterr().err
    assert output.read_bytes().count(b"\n") == 9_000


@pytest.mark.usefixtures("small_windows")
def test_what_was_left_is_never_overwritten_or_mixed(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, output = runs["class"], tmp_path / "out.jsonl"
    source = write_input(tmp_path / "in.csv")
    assert main(arguments(run, source, output, "--resume")) == 0
    draft = draft_path(run, output)
    output.rename(draft)
    left = draft.read_bytes()
    capsys.readouterr()

    def refused(*more: str, where: Path = source) -> str:
        assert main(arguments(run, where, output, *more)) == 2
        assert draft.read_bytes() == left
        assert not output.exists()
        return capsys.readouterr().err

    assert f"{draft} is what an interrupted prediction left; go on with --resume" in refused()
    assert "begun with another model or other options" in refused("--resume", "--top-k", "2")
    changed = write_input(tmp_path / "changed.csv")
    changed.write_bytes(changed.read_bytes().replace(b"\r\n69,money", b"\r\n69,monei"))
    assert "the rows up to here are others than in" in refused("--resume", where=changed)
    shorter = write_input(tmp_path / "shorter.csv", 50)
    assert "more lines than the input rows" in refused("--resume", where=shorter)
    with locked(draft.with_name(f"{draft.name}.lock")):
        assert main(arguments(run, source, output, "--resume")) == 1
        assert "another process is writing it" in capsys.readouterr().err
    assert main(arguments(run, source, output, "--resume")) == 0
    assert output.read_bytes() == left


@pytest.mark.usefixtures("small_windows")
def test_resume_of_what_is_finished_or_never_began(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.csv"
    source = write_input(tmp_path / "in.csv")
    resume = arguments(runs["class"], source, output, "--resume")
    nothing, finished = "nothing to resume; starts from the beginning", "out.csv: is finished"

    def said(command: list[str]) -> str:
        assert main(command) == 0
        return capsys.readouterr().err

    assert nothing in said(resume)
    assert finished in said(resume)
    assert nothing in said([*resume, "--top-k", "1"])  # as the output is of other options
    assert nothing in said(resume)
    write_input(source, COUNT + 1)
    assert nothing in said(resume)
    assert finished in said(resume)


def test_resume_is_for_files_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["a text", "--output", "out.csv"], ["--output", "o.csv"], ["--input", "in.csv"]):
        assert main(["predict", "run", *given, "--resume"]) == 2
        said = capsys.readouterr().err
        assert "--resume needs --input and --output" in said or "give TEXTs" in said


@pytest.mark.usefixtures("small_windows")
def test_standard_input_is_not_gone_on_with_and_leaves_nothing(
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = io.BytesIO(b"money\n" * 9_000 + b"m\xf6glich")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(given, "utf-8"))
    output = tmp_path / "out.jsonl"
    assert main(["predict", str(runs["class"]), "--output", str(output)]) == 2
    assert "is not UTF-8" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small_windows")
def test_where_no_row_is_good_nothing_is_left(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    for content, problem in (("\n" * 100, "in.txt:1: "), ("", "in.txt: has no texts")):
        source.write_text(content)
        assert main(arguments(runs["class"], source, output)) == 2
        assert problem in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]
