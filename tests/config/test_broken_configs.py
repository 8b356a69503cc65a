"""A corpus of broken configs: each says what is wrong, where, and what to do, and says it soon."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from nlpkit.cli.main import main

BROKEN = sorted(Path(__file__).parent.glob("broken/*.yaml"))
SECONDS = 2.0  # of this process
ADDRESS = r"error: (\S+\.yaml(:\d+)?: |override \S+: |sample://\S+:\d+: )"
REMEDY = r"; |did you mean| is not | try |: no slash|known: | needs two | \(.+\)"
"""What to do; or what would be right, which says it too."""


def comments(path: Path, label: str) -> list[str]:
    lines = path.read_text("utf-8").splitlines()
    return [line.removeprefix(label) for line in lines if line.startswith(label)]


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_every_problem_is_named_with_its_line_and_a_remedy(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(path.parent)
    expected = [text.replace("{file}", path.name) for text in comments(path, "# expect: ")]
    begun = time.process_time()
    code = main(["check", path.name, *comments(path, "# override: ")])
    assert time.process_time() - begun < SECONDS
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    problems = re.split(r"\n(?=error: |warning: )", err.rstrip())
    for text in expected:
        assert any(text in problem for problem in problems), err
    assert len(problems) == len(expected), err
    for problem in problems:
        assert re.match(ADDRESS, problem), problem
        assert re.search(REMEDY, problem), problem


def test_the_corpus_is_large() -> None:
    assert len(BROKEN) >= 50
