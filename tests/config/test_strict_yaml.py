from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpkit.config.strict_yaml import read, write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("0", 0),
        ("5e-5", 5e-5),
        ("0.1", 0.1),
        (".5", 0.5),
        ("1e3", 1000.0),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_numbers_booleans_and_null(text: str, value: object) -> None:
    read_value = read(f"key: {text}").value["key"]
    assert read_value == value
    assert type(read_value) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *("no", "yes", "on", "off", "True", "NULL"),
        *("010", "1_000", "0x10", "0o7", "0-3", ".nan", ".Inf", "1e999", "9" * 5000),
        *("2024-01-31", "2024-01-31T10:00:00Z", "12:30", "=", "<<"),
    ],
)
def test_all_else_is_text(text: str) -> None:
    assert read(f"key: {text}").value == {"key": text}


@pytest.mark.parametrize("written", ['"3"', "'3'", "!!str 3", "|-\n  3"])
def test_a_quoted_number_is_text(written: str) -> None:
    document = read(f"key: {written}")
    assert document.value == {"key": "3"}
    assert not document.faults


def test_keys_are_text_whatever_they_look_like() -> None:
    assert read("{1: a, null: b, true: c}").value == {"1": "a", "null": "b", "true": "c"}


def test_every_path_has_its_line() -> None:
    document = read("a:\n  b: 1\n  c:\n  - x\n  - {d: 2}\n")
    assert document.lines == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 3,
        ("a", "c", 0): 4,
        ("a", "c", 1): 5,
        ("a", "c", 1, "d"): 5,
    }


def test_aliases_are_values_of_their_own_with_the_line_of_the_alias() -> None:
    document = read("a: &shared {x: 1}\nb: *shared\n")
    assert document.value == {"a": {"x": 1}, "b": {"x": 1}}
    assert document.lines["b",] == 2


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: [1", 2, "is not YAML"),
        ("a: \x01", 1, "is not YAML"),
        ("a: 1\nb: \x01", 2, "is not YAML"),
        ("? [1]\n: 2", 1, "has a key that is not text"),
        ("a: &a [*a]", 1, "*a is not the name of an anchor"),
        ("[" * 200, 1, "is nested more than 50 levels deep"),
        ('a: "\\uD800"', 1, "holds half of a character"),
        ("a: ! 1", 1, "has the tag !"),
        ("a: !!set {b, c}", 1, "has the tag tag:yaml.org,2002:set"),
    ],
)
def test_what_is_no_strict_yaml_has_a_line(text: str, line: int, message: str) -> None:
    (fault,) = read(text).faults
    assert fault.line == line
    assert message in fault.message


def test_every_duplicate_is_found() -> None:
    faults = read("a: 1\na: 2\nb: {c: 1, c: 2}\n").faults
    assert [(fault.line, fault.path) for fault in faults] == [(2, ("a",)), (3, ("b", "c"))]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "no",
        "010",
        "1",
        "1.5",
        "null",
        "~",
        ".inf",
        "- a",
        "a: b",
        "a #b",
        "{",
        "*a",
        "&a",
        "!x",
        "'",
        "%",
        "true",
        " a ",
    ]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_what_is_written_is_read_back(value: dict[str, Any]) -> None:
    document = read(write(value))
    assert not document.faults
    assert repr(document.value or {}) == repr(value)
