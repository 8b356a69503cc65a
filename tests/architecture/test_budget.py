"""Small means less to know: lines of code have a budget, raised only in a commit that says why."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BUDGET = {
    "nlpkit": 1_490,  # the modules beside its rooms
    "nlpkit/bundle": 1_555,
    "nlpkit/checking": 845,
    "nlpkit/checkpoint": 590,
    "nlpkit/cli": 395,
    "nlpkit/commands": 1_085,
    "nlpkit/config": 1_270,
    "nlpkit/cpu": 235,
    "nlpkit/data": 1_680,
    "nlpkit/engine": 740,
    "nlpkit/plugin": 515,
    "nlpkit/run": 1_075,
    "nlpkit/testing": 405,
    "nlpkit/training": 900,
    "plugins": 6_970,
    "jobs": 2_740,
    "image": 600,
}
"""Lines by room. A room may grow by what a new capability needs, as its commit says."""

LONGEST_FILE = 400
LONGER = {"nlpkit/contracts.py": 581}
"""What is to be read on one page."""
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def files(folder: str) -> list[Path]:
    """The files of a room: of a package that has rooms, those beside them."""
    rooms = any(room.startswith(f"{folder}/") for room in BUDGET)
    return sorted((REPOSITORY / folder).glob("*.py" if rooms else "**/*.py"))


def test_every_room_has_a_budget():
    folders = {path.parent for path in (REPOSITORY / "nlpkit").rglob("*.py")}
    assert {str(folder.relative_to(REPOSITORY)) for folder in folders} <= BUDGET.keys()


def lines_of_code(source: str) -> int:
    """Lines that hold code: no docstrings, comments or blanks."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                lines.difference_update(range(node.lineno, (node.end_lineno or 0) + 1))
    return len(lines)


def test_docstrings_comments_and_blanks_are_not_counted():
    source = '"""One\ntwo."""\n\n# three\nx = [\n    1,  # four\n]\n\n\ndef f():\n    """Five."""\n'
    assert lines_of_code(source) == 4


@pytest.mark.parametrize("folder", BUDGET)
def test_the_code_stays_in_its_budget(folder):
    sizes = {path: lines_of_code(path.read_text("utf-8")) for path in files(folder)}
    longest = ", ".join(
        f"{path.relative_to(REPOSITORY)} {sizes[path]}"
        for path in sorted(sizes, key=sizes.__getitem__, reverse=True)[:5]
    )
    assert sum(sizes.values()) <= BUDGET[folder], f"the longest files: {longest}"


@pytest.mark.parametrize("folder", [*BUDGET, "tests"])
def test_no_file_is_longer_than_a_file_should_be(folder):
    lengths = {
        str(path.relative_to(REPOSITORY)): len(path.read_text("utf-8").splitlines())
        for path in files(folder)
    }
    assert not {
        path: length for path, length in lengths.items() if length > LONGER.get(path, LONGEST_FILE)
    }
