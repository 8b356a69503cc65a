"""Tables fit the width that they are given, in terminal cells."""

from __future__ import annotations

import pytest
import wcwidth
from hypothesis import given
from hypothesis import strategies as st

from nlpkit.cli.table import layout


def test_short_rows_are_aligned():
    assert layout(("name", "rate"), [("a", 0.5), ("long name", 12.25)], None) == [
        "name          rate",
        "─────────  ───────",
        "a           0.5000",
        "long name  12.2500",
    ]


def test_the_longest_column_is_wrapped_at_words():
    rows = [("one", "a summary that is far too long for this")]

    assert layout(("name", "summary"), rows, 24) == [
        "name  summary",
        "────  ──────────────────",
        "one   a summary that is",
        "      far too long for",
        "      this",
    ]


def test_chinese_takes_two_cells_a_letter():
    assert layout(("text", "n"), [("我的卡丢了", 1), ("card", 2)], 12) == [
        "text       n",
        "─────────  ─",
        "我的卡丢   1",
        "了",
        "card       2",
    ]


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("👩‍👩‍👧‍👦", 2),
        ("👍🏽", 2),
        ("🇩🇪", 2),
        ("❤️", 2),
        ("1️⃣", 2),
        ("नमस्ते", 4),
        ("தமிழ்", 4),
        ("ที่นี่", 2),
        ("e\N{COMBINING ACUTE ACCENT}", 1),
        ("zero\N{ZERO WIDTH SPACE}width", 9),
    ],
)
def test_a_column_is_as_wide_as_what_a_terminal_shows(text, cells):
    assert layout(("a", "b"), [(text, "x")], None)[2] == f"{text}  x"
    assert (
        layout(("a", "b"), [(text, "x"), ("-" * 9, "y")], None)[2]
        == text + " " * (11 - cells) + "x"
    )
    assert layout(("a",), [(text * 3,)], cells)[2:] == [text] * 3


def test_numbers_keep_four_digits_whatever_their_size():
    lines = layout(("n",), [(0.0,), (1.0,), (5e-5,), (123456.7,), (float("nan"),), (3,)], None)

    assert [line.strip() for line in lines[2:]] == [
        "0.0000",
        "1.0000",
        "5e-05",
        "1.235e+05",
        "nan",
        "3",
    ]


def test_none_is_empty_and_line_breaks_are_spaces():
    assert layout(("a", "b"), [(None, "x\n  y")], None)[-1] == "   x y"


def test_a_table_without_rows_is_its_heading():
    assert layout(("a", "b"), [], 80) == ["a  b", "─  ─"]


WORDS = st.text(st.sampled_from("abc def_我了0"), max_size=60)


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), max_size=4), st.integers(20, 160))
def test_no_line_is_wider_than_the_terminal_and_no_letter_is_lost(rows, width):
    lines = layout(("a", "b", "c"), rows, width)

    assert max(map(wcwidth.width, lines)) <= width
    letters = sorted("".join("".join(row) for row in rows).replace(" ", ""))
    assert sorted("".join(lines[2:]).replace(" ", "")) == letters
