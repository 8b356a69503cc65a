"""The page of the task `token`: its rows, its config and its commands."""

from __future__ import annotations

import json

import pytest

from nlpkit.cli.main import main
from tests.docs.pages import REPOSITORY, blocks, commands, titled

PAGE = REPOSITORY / "docs" / "tasks" / "token.md"


def test_its_config_trains_and_says_what_the_page_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text in titled(PAGE).items():
        (tmp_path / name).write_text(text, "utf-8")
    (shown,) = (json.loads(block.text) for block in blocks(PAGE, "json") if not block.title)
    (lines,) = (commands(block.text) for block in blocks(PAGE, "sh"))
    for line in lines[:-1]:
        assert main(line.split()[1:]) == 0, capsys.readouterr().err
    *_, predict = lines
    capsys.readouterr()
    assert main([*predict.split()[1:3], shown["text"]]) == 0
    found = json.loads(capsys.readouterr().out)
    for said in (shown, found):
        for entity in said["entities"]:
            assert entity.pop("score") == pytest.approx(1, abs=0.2)
    assert found == shown
