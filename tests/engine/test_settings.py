"""What is refused of generation's settings, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from nlpkit.engine.settings import Settings
from nlpkit.errors import InputError

DRAWN: dict[str, Any] = {"method": "sample"}


def test_the_defaults_are_those_that_are_documented() -> None:
    settings = Settings.of({})
    assert settings == Settings(
        max_tokens=128,
        method="greedy",
        beams=4,
        length_penalty=0.6,
        temperature=1.0,
        top_k=None,
        top_p=None,
        stop=(),
        seed=13,
    )
    assert not settings.drawing
    assert not settings.searching


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_tokens", [0, -1, 1.5, True, "8", None]),
        ("method", ["beams", None, 3, ["beam"]]),
        ("beams", [0, 2.0, False]),
        ("length_penalty", [-0.1, 10.1, 10**400, float("nan"), float("inf"), "0.6", None]),
        ("temperature", [-1, 1e-9, 10**400, float("nan"), float("inf"), True]),
        ("top_k", [0, -3, 1.0]),
        ("top_p", [0, 0.0, 1.01, -1, float("nan"), "0.9"]),
        ("stop", ["END", [""], [3], None, ["\ud800"]]),
        ("seed", [-1, 2**63, 1.0, None]),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_can(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(InputError, match=rf"^{name} must be .+, not .+$"):
            Settings.of({name: value})


def test_what_is_no_mapping_is_refused() -> None:
    for values in ("max_tokens=3", ["max_tokens"], 3, None):
        with pytest.raises(InputError, match="^generate must be a mapping, such as .+, not .+"):
            Settings.of(values)  # type: ignore[arg-type]


def test_another_method_leaves_out_what_is_usual_for_one() -> None:
    usual = {"method": "sample", "temperature": 0.5, "max_tokens": 7}
    assert Settings.of({}, usual).temperature == 0.5
    assert Settings.of({"method": "sample"}, usual).temperature == 0.5
    assert Settings.of({"method": "beam"}, usual) == Settings(method="beam", max_tokens=7)
    with pytest.raises(InputError, match="temperature 0.7 has no effect on method .beam.;"):
        Settings.of({"method": "beam", "temperature": 0.7}, usual)
    with pytest.raises(InputError, match="method must be greedy, sample or beam, not 'search'"):
        Settings.of({"method": "search"}, usual)


def test_a_value_is_shown_as_it_was_given_on_one_line() -> None:
    with pytest.raises(InputError) as caught:
        Settings.of({"top_p": 0})
    assert str(caught.value) == (
        "top_p must be above 0 and at most 1, or null (for the likeliest token alone use method: "
        "greedy), not 0"
    )


def test_an_unknown_key_is_told_what_was_probably_meant() -> None:
    with pytest.raises(InputError, match='no setting "temprature"; did you mean "temperature"?'):
        Settings.of({"temprature": 1})
    with pytest.raises(InputError, match='no setting "zzz"; there are max_tokens, method, '):
        Settings.of({"zzz": 1})


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"method": "greedy", "top_k": 50}, "top_k"),
        ({"method": "sample", "beams": 4}, "beams"),
        ({"beams": 4, "temperature": 1.0}, "beams"),
        ({"method": "beam", "top_p": 0.9}, "top_p"),
        ({"method": "beam", "temperature": 0}, "temperature"),
        ({"method": "sample", "length_penalty": 1.0}, "length_penalty"),
    ],
)
def test_what_would_have_no_effect_is_refused(values: dict[str, Any], name: str) -> None:
    with pytest.raises(InputError, match=rf'^{name} .+ has no effect on method ".+"; add method'):
        Settings.of(values)


def test_without_a_method_what_is_asked_chooses_it() -> None:
    assert Settings.of({"beams": 4}) == Settings(method="beam")
    assert Settings.of({"temperature": 0.7}).method == "sample"
    assert Settings.of({"top_k": None}).method == "greedy"
    assert Settings.of({"top_k": None}, {"beams": 2}).method == "beam"
    usual = {"temperature": 0.5, "max_tokens": 7}
    assert Settings.of({"beams": 2}, usual) == Settings(method="beam", beams=2, max_tokens=7)
    assert Settings.of({"top_k": 3}, usual).temperature == 0.5


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0},
        {"top_k": 1},
        {"beams": 1},
        {"method": "sample", "temperature": 0.0, "top_p": 0.5},
        {"method": "sample", "top_k": 1},
        {"method": "beam", "beams": 1},
    ],
)
def test_what_means_greedy_is_greedy(values: dict[str, Any]) -> None:
    settings = Settings.of(values)
    assert not settings.drawing
    assert not settings.searching


def test_stop_words_are_kept_as_they_were_given_when_the_list_changes() -> None:
    words = ["a"]
    settings = Settings.of({"stop": words})
    words.append("b")
    assert settings.stop == ("a",)


def test_a_prompt_that_does_not_fit_is_told_by_how_much() -> None:
    settings = Settings(max_tokens=128)
    assert settings.misfit(72, 200) == ""
    assert settings.misfit(10**9, None) == ""
    assert settings.misfit(73, 200) == (
        "has 73 tokens, and max_tokens is 128: together more than the 200 that the model takes; "
        "set max_tokens to at most 127"
    )
    assert settings.misfit(200, 200).endswith("; shorten it")
