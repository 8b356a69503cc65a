"""Texts and lines without end: bad rows, in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nlpkit.contracts import Row
from nlpkit.data.rows import BadRows, scan
from nlpkit.errors import DataError
from nlpkit_data.config import FilesConfig
from nlpkit_data.files import Files
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.task import SequenceTask

MIB = 1 << 20
LONGEST = MIB // 2  # here: 10,000,000 take a second each
HUGE = LONGEST + 2 * MIB
PROGRAM = """
import sys
from pathlib import Path
from nlpkit_data.config import FilesConfig
from nlpkit_data.files import Files
for _ in Files(FilesConfig()).rows(sys.argv[1]): pass
status = Path("/proc/self/status").read_text()
print(status.partition("VmHWM:")[2].split()[0])
"""


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("nlpkit.data.encoding", "nlpkit_data.delimited", "nlpkit_data.files"):
        monkeypatch.setattr(f"{module}.LONGEST", LONGEST)


def read(name: str, content: bytes, **options: Any) -> list[Any]:
    Path(name).write_bytes(content)
    rows = Files(FilesConfig(**options)).rows(name)
    return [each.values if isinstance(each, Row) else str(each) for each in rows]


TOO_LONG = f"a value has more than {LONGEST:,} characters; is a quote open? (shorten it)"
GOOD = {"text": "x", "label": "y"}


@pytest.mark.parametrize("letter", ["a", "é", "卡"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_line_without_end_is_a_bad_row_of_a_csv(letter: str, quote: str) -> None:
    cell = quote + letter * HUGE + quote
    content = f"text,label\nx,y\n{cell},y\nx,y\ny,{cell}\nx,y\n"
    assert read("a.csv", content.encode()) == [
        GOOD,
        f"a.csv:3: {TOO_LONG}",
        GOOD,
        f"a.csv:5: {TOO_LONG}",
        GOOD,
    ]


def test_a_line_is_not_cut_in_silence_where_no_value_is_too_long() -> None:
    names = list(map(str, range(30)))
    long, short = (",".join([cell] * len(names)) for cell in ("x" * (LONGEST // 3), "y"))
    assert read("a.csv", f"{','.join(names)}\n{long}\n{short}\n".encode()) == [
        f"a.csv:2: {TOO_LONG}",
        dict.fromkeys(names, "y"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_other_encodings_go_on_behind_it(encoding: str) -> None:
    content = f"text,label\n{'卡' * HUGE},y\nx,y\n".encode(encoding)
    assert read("a.csv", content, encoding=encoding) == [f"a.csv:2: {TOO_LONG}", GOOD]


def test_a_line_of_json_without_end_is_a_bad_row() -> None:
    rows = [GOOD, {"text": "x" * HUGE, "label": "y"}, GOOD]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    assert read("a.jsonl", content) == [
        GOOD,
        f"a.jsonl:2: has more than {LONGEST:,} characters",
        GOOD,
    ]


def test_a_quote_that_swallows_too_much_is_an_error_of_the_file() -> None:
    line = f"{'x' * 1000},y\n"
    count = LONGEST // len(line) + 9
    with pytest.raises(DataError) as caught:
        read("a.csv", f'text,label\nx,y\n"{line * count}x",y\n'.encode())
    assert str(caught.value) == (
        f"a.csv:3: a value has more than {LONGEST:,} characters; is a quote open? (it goes on to "
        f"line {2 + LONGEST // len(line) + 1}; data.quotes: none, if quotes mean nothing here)"
    )


def test_a_text_that_would_fill_the_memory_is_a_bad_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SequenceTask, "longest", 5)
    task = SequenceTask(SequenceConfig())
    Path("a.csv").write_text("text,label\nx,y\nxxxxxx,y\nxxxxx,y\n")
    bad = BadRows("skip")
    rows, _ = scan(Files(FilesConfig()), "a.csv", task, bad)
    assert list(rows.mask) == [True, False, True]
    assert [each["problem"] for each in bad.summary()] == [
        "a.csv:3: the text has 6 characters; is a quote open? (5 are the most; cut it)"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "quoted"])
def test_200_mb_in_one_cell_take_little_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{'jsonl' if kind == 'jsonl' else 'csv'}"
    start, end = {
        "csv": ("label,text\nx,y\nx,", "\n"),
        "quoted": ('label,text\nx,y\nx,"', '"\n'),
        "jsonl": ('{"text": "x"}\n{"text": "', '"}\n'),
    }[kind]
    sizes = []
    for pieces in (1, 200):
        with path.open("w") as file:
            file.write(start)
            for _ in range(pieces):
                file.write("long text " * 100_000)
            file.write(end)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, check=True, text=True
        )
        sizes.append(int(done.stdout))
    assert sizes[1] - sizes[0] < 150 << 10  # KiB
