"""Tests for those who have a GPU: `make test-gpu`.

Most run on the CPU too, with the same functions, so that they are known to work before a GPU sees
them. `--require-gpu` makes it an error that there is none.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-gpu", action="store_true", help="fail where there is no CUDA GPU")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--require-gpu", False) and not torch.cuda.is_available():
        raise pytest.UsageError("no CUDA GPU found; without one, `make test` runs what it can")


@pytest.fixture(autouse=True)
def _no_tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before
