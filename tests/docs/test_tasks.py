"""The page of each task: it is in the index, and its commands do with its files what it shows."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from nlpkit.cli.main import main
from nlpkit.plugin.host import Host
from tests.docs.pages import INDEX, README, TASKS, blocks, commands, table, titled

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_every_task_has_a_page_and_a_row_in_the_index_and_in_the_readme():
    tasks = {entry.record.name for entry in Host.discover().entries("task")}
    assert {page.stem for page in TASKS} == tasks
    for page, folder in ((README, "docs/tasks/"), (INDEX, "")):
        links = {line.cells[0] for line in table(page)}
        assert {f"[{task}]({folder}{task}.md)" for task in tasks} <= links


@pytest.mark.parametrize("page", TASKS, ids=lambda page: page.stem)
def test_its_commands_say_what_it_shows(page, tmp_path, monkeypatch, capsys):
    """The lines of JSON are what they print, but for numbers."""
    monkeypatch.chdir(tmp_path)
    for name, text in titled(page).items():
        (tmp_path / name).write_text(text, "utf-8")
    lines = [line for block in blocks(page, "sh") for line in commands(block.text)]
    assert {line.split()[1] for line in lines} >= {"check", "train", "predict"}
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    answers = [block.text for block in blocks(page, "json") if not block.title]
    shown = [each for text in answers for each in read(text)]
    assert [each for line in printed for each in read(line)] == shown != []


def read(text: str) -> Iterator[object]:
    """The values of JSON that stand one after the other."""
    decoder = json.JSONDecoder(parse_float=lambda _: "a number")
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:]
