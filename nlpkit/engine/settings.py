"""How a text is generated, as a config, a command, a request or Python says it: plain JSON."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from nlpkit.errors import InputError, closest, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_COOLEST = 1e-3
"""The lowest temperature that can be divided by: below it float32 logits overflow."""
_STEEPEST = 10.0
"""The largest length penalty: its power of a text's length is a number, however long that is."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a text is generated.

    Temperature 0, top_k 1 and beams 1 are greedy.

    Attributes:
        max_tokens: New tokens of a text at most, its end among them.
        method: "greedy" takes the likeliest token each time, "sample" draws one, "beam" searches
            for the likeliest text.
        beams: Texts that a search follows at a time.
        length_penalty: α of Wu et al. 2016: 0 prefers short texts, 1 nearly their mean.
        temperature: What logits are divided by before a token is drawn.
        top_k: Only the k likeliest tokens are drawn from; None: all.
        top_p: Only the smallest set of likeliest tokens whose probabilities reach p is drawn from,
            after `temperature` and `top_k`; None: all.
        stop: A text ends before the first of these words.
        seed: What is drawn follows from it and from the prompt.

    Raises:
        InputError: A value cannot be used.
    """

    max_tokens: int = 128
    method: Literal["greedy", "sample", "beam"] = "greedy"
    beams: int = 4
    length_penalty: float = 0.6
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    stop: Sequence[str] = ()
    seed: int = 13

    def __post_init__(self) -> None:
        for name, (good, wanted) in _WANTED.items():
            if not good(value := getattr(self, name)):
                shown = "null" if value is None else shorten(repr(value))
                raise InputError(f"{name} must be {wanted}, not {shown}")
        object.__setattr__(self, "stop", tuple(self.stop))

    @classmethod
    def of(cls, values: Mapping[str, Any], usual: Mapping[str, Any] | None = None) -> Settings:
        """Settings from JSON; without a method, what has an effect on one alone chooses it.

        Args:
            values: What is asked, by key.
            usual: What holds where nothing else is asked: where another method is, without what has
                an effect on its own alone.

        Raises:
            InputError: As for `Settings`; it is no mapping, has an unknown key, or one that has no
                effect on the method.
        """
        if not isinstance(values, Mapping):
            shown = shorten(repr(values))
            raise InputError(
                f'generate must be a mapping, such as {{"max_tokens": 20}}, not {shown}'
            )
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                meant = closest(str(name), known)
                remedy = f'did you mean "{meant}"?' if meant else f"there are {', '.join(known)}"
                raise InputError(f'generation has no setting "{shorten(str(name))}"; {remedy}')
        values, usual = _with_method(values), _with_method(usual or {})
        method = values.get("method")
        fitting = {
            name: value
            for name, value in usual.items()
            if method in (None, usual.get("method")) or _METHOD_OF.get(name, method) == method
        }
        settings = cls(**{**fitting, **values})
        for name, value in values.items():
            owner = _METHOD_OF.get(name, settings.method)
            greedy = settings.method == "greedy" and value == _GREEDY.get(name)
            if owner != settings.method and value is not None and not greedy:
                raise InputError(
                    f'{name} {value} has no effect on method "{settings.method}"; '
                    f'add method "{owner}", or remove {name}'
                )
        return settings

    @property
    def searching(self) -> bool:
        """Whether several texts are followed for each prompt."""
        return self.method == "beam" and self.beams > 1

    @property
    def drawing(self) -> bool:
        """Whether chance has a part in it."""
        return self.method == "sample" and self.temperature > 0 and self.top_k != 1

    def misfit(self, tokens: int, longest: int | None) -> str:
        """Why a prompt of so many tokens cannot be continued; "" where it can.

        Args:
            tokens: Of the prompt.
            longest: What the model takes, in tokens; None: any.
        """
        if longest is None or tokens + self.max_tokens <= longest:
            return ""
        room = longest - tokens
        remedy = f"set max_tokens to at most {room}" if room > 0 else "shorten it"
        if not tokens:
            most = f"more than the {longest} tokens that the model takes"
            return f"max_tokens is {self.max_tokens}, {most}; {remedy}"
        return (
            f"has {tokens} tokens, and max_tokens is {self.max_tokens}: together more than the "
            f"{longest} that the model takes; {remedy}"
        )


def _with_method(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Values with the method that they have an effect on, where they name none and it is one."""
    owners = {
        _METHOD_OF[name]
        for name, value in values.items()
        if name in _METHOD_OF and value is not None
    }
    return values if "method" in values or len(owners) != 1 else {**values, "method": owners.pop()}


def _whole(value: Any, least: int = 1, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max


def _words(value: Any) -> bool:
    good = isinstance(value, list | tuple) and all(isinstance(each, str) and each for each in value)
    return good and "".join(value).encode(errors="ignore").decode() == "".join(value)


_WANTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "max_tokens": (_whole, "a whole number above 0"),
    "method": (lambda value: value in ("greedy", "sample", "beam"), "greedy, sample or beam"),
    "beams": (_whole, "a whole number above 0"),
    "length_penalty": (
        lambda value: _number(value) and 0 <= value <= _STEEPEST,
        f"a number from 0 to {_STEEPEST:g}",
    ),
    "temperature": (
        lambda value: _number(value) and (value == 0 or value >= _COOLEST),
        f"0, which is greedy, or a number from {_COOLEST}",
    ),
    "top_k": (lambda value: value is None or _whole(value), "a whole number above 0, or null"),
    "top_p": (
        lambda value: value is None or (_number(value) and 0 < value <= 1),
        "above 0 and at most 1, or null (for the likeliest token alone use method: greedy)",
    ),
    "stop": (_words, 'a list of texts that are not empty, such as ["."]'),
    "seed": (lambda value: _whole(value, 0, 2**63 - 1), "a whole number from 0 to 2^63 - 1"),
}
_METHOD_OF = {
    "beams": "beam",
    "length_penalty": "beam",
    "temperature": "sample",
    "top_k": "sample",
    "top_p": "sample",
}
_GREEDY = {"beams": 1, "temperature": 0, "top_k": 1}
