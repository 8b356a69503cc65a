"""The table of laws names tests that there are, and each task is a case of them."""

from __future__ import annotations

from nlpkit.plugin.host import Host
from tests.docs.pages import REPOSITORY, table
from tests.laws.cases import TASKS

TESTS = REPOSITORY / "tests"
PAGE = REPOSITORY / "docs" / "laws.md"
LAWS = {
    line.cells[0]: line.cells[2].split(", ")
    for line in table(PAGE)
    if line.heading == "Laws" and line.cells[0].isdecimal()
}


def test_every_law_has_tests_that_there_are():
    assert list(LAWS) == [str(number + 1) for number in range(11)]
    for law, files in LAWS.items():
        assert [name for name in files if not has_tests(name)] == [], f"law {law}"


def has_tests(name: str) -> bool:
    file = TESTS / name
    return file.exists() and "def test_" in file.read_text("utf-8")


def test_every_test_of_laws_is_named():
    laws = {f"laws/{path.name}" for path in (TESTS / "laws").glob("test_*.py")}
    assert laws <= {name for files in LAWS.values() for name in files}


def test_every_task_is_a_case_of_the_laws():
    assert {entry.record.name for entry in Host.discover().entries("task")} == set(TASKS)
    for task in TASKS.values():
        assert {task.batches, *task.evaluations} <= task.gradients.keys()
        assert task.evaluations
        assert task.rows
