"""Runs the tests that hold the laws, and writes into docs/laws.md what came of them (`make laws`).

The table of that page says which tests these are. What needs a cluster or builds an image is left
to `make test-jobs` and `make image-test`. `python -m benchmarks.laws 4 6` runs those of two laws,
and writes nothing.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import Counter

import pytest
import torch

from benchmarks.page import processor, put, table
from tests.docs.test_laws import LAWS, PAGE

HEAD = """
By `make laws` with torch {torch} and Python {python} on {cores} cores ({processor}), two at a
time, in {minutes} minutes. What was skipped needs a GPU, or data that were not there.

"""


KINDS = ("passed", "skipped")
PARALLEL = ("-n", "2", "--dist", "worksteal")


class Outcomes:
    """How many tests of a file passed, failed, or were skipped."""

    def __init__(self) -> None:
        self.counts = Counter[tuple[str, str]]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts a test once; what goes wrong before or after it too."""
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.nodeid.split("::")[0], report.outcome] += 1


def main(chosen: list[str]) -> int:
    """Runs them all, or those of some laws; gives what is not 0 where one failed."""
    begun, outcomes = time.monotonic(), Outcomes()
    files = {f"tests/{name}" for law in chosen or LAWS for name in LAWS[law]}
    jobs = {name for name in files if name.startswith("tests/jobs/")}  # whose slow ones want Ray
    codes = [
        pytest.main([*sorted(part), *PARALLEL, "-m", marks], plugins=[outcomes])
        for part, marks in ((files - jobs, "not image"), (jobs, "not (slow or image)"))
        if part
    ]
    if {*codes} - {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        return 1
    if not chosen:
        head = HEAD.format(
            torch=torch.__version__.split("+")[0],
            python=platform.python_version(),
            cores=os.cpu_count(),
            processor=processor(),
            minutes=round((time.monotonic() - begun) / 60),
        )
        put("What was found", head + table(["law", *KINDS], rows(outcomes.counts)), path=PAGE)
    return 0


def rows(counts: Counter[tuple[str, str]]) -> list[list[str]]:
    """A line for each law."""
    return [
        [law, *(str(sum(counts[f"tests/{name}", kind] for name in files)) for kind in KINDS)]
        for law, files in LAWS.items()
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
