"""Errors cross process borders whole, and list problems as a reader goes through the file."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest

from nlpkit.errors import ConfigError, DataError, Interrupted, NlpkitError, Problem, of_system

if TYPE_CHECKING:
    from collections.abc import Iterator


def tree(kind: type[NlpkitError]) -> Iterator[type[NlpkitError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == "nlpkit.errors":
            yield from tree(below)


def made(kind: type[NlpkitError]) -> NlpkitError:
    if issubclass(kind, ConfigError):
        return kind([Problem(address="a.yaml:3", key="seed", message="is not a number")])
    if issubclass(kind, DataError):
        return kind("a.csv:2", problem="is unknown", column="label", value="x", suggestion="y")
    if issubclass(kind, Interrupted):
        return kind("what is saved", signal=2)
    return kind("what is wrong")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", list(tree(NlpkitError)))
def test_every_error_survives_pickling(kind: type[NlpkitError], protocol: int) -> None:
    error = made(kind)
    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(again) is kind
        assert (str(again), vars(again)) == (str(error), vars(error))


def test_problems_come_by_file_and_line_and_those_without_a_line_after_them() -> None:
    addresses = ["override a=1", "b.yaml:10", "b.yaml:9", "b.yaml", "a.yaml:12", ""]
    error = ConfigError(Problem(address=address, message="wrong") for address in addresses)
    assert [problem.address for problem in error.problems] == [
        "a.yaml:12",
        "b.yaml:9",
        "b.yaml:10",
        "override a=1",
        "b.yaml",
        "",
    ]


def test_what_the_system_refuses_has_its_place_of_a_rename_the_one_to_be_replaced(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    (tmp_path / "partial").touch()
    with pytest.raises(OSError, match="metrics") as caught:
        (tmp_path / "partial").replace(tmp_path / "metrics.jsonl")
    assert of_system(caught.value) == f"{tmp_path / 'metrics.jsonl'}: Is a directory"
    assert of_system(OSError("odd")) == "odd"
