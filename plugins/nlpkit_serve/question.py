"""Reads what a client asks, and says what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from starlette.exceptions import HTTPException

from nlpkit.contracts import Row
from nlpkit.errors import DataError, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXTS = 256
"""Texts of one request, at most."""
CHARACTERS = 10_000
"""Characters of one text, or of both of a pair, at most."""

_KEYS = ("text", "texts", "top_k")
_EXAMPLE = '{"texts": ["…"]}'


@dataclass(frozen=True)
class Question:
    """What a request asks.

    Attributes:
        rows: The texts; in the place of one that cannot be used, what is wrong with it.
        single: Whether it asked for one `text`, not for a list.
        top_k: How many of the best labels it wants; None for the best alone.
    """

    rows: Sequence[Row | DataError]
    single: bool
    top_k: int | None


def read(body: bytes, columns: Sequence[str]) -> Question:
    """The question that a body holds.

    Args:
        body: JSON in UTF-8.
        columns: The task's columns of texts.

    Raises:
        HTTPException: 400 for what is no question, 413 for too many texts.
    """
    asked = _object(body)
    if unknown := [key for key in asked if key not in _KEYS]:
        raise HTTPException(
            400, f'there is no key "{shorten(unknown[0])}"; the keys are {", ".join(_KEYS)}'
        )
    single = "text" in asked
    if single == ("texts" in asked):
        raise HTTPException(400, 'give either "text" or "texts"')
    texts = [asked["text"]] if single else asked["texts"]
    if not isinstance(texts, list):
        raise HTTPException(400, '"texts" must be a list')
    if len(texts) > TEXTS:
        raise HTTPException(413, f"{len(texts)} texts; at most {TEXTS} can be asked at once")
    top_k = asked.get("top_k")
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        raise HTTPException(400, '"top_k" must be a whole number of at least 1')
    rows = [
        _row(text, "text" if single else f"texts[{number}]", columns)
        for number, text in enumerate(texts)
    ]
    return Question(rows, single, top_k)


def _object(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode("utf-8-sig")  # some clients begin with a byte order mark
        value = json.loads(text, parse_constant=_no_number, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"the body is not UTF-8: {error}") from None
    except RecursionError:
        raise HTTPException(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise HTTPException(400, f"the body is no JSON ({error}); send {_EXAMPLE}") from None
    if not isinstance(value, dict):
        raise HTTPException(400, f"the body must be an object: {_EXAMPLE}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise HTTPException(400, f'the key "{shorten(key)}" stands twice')
        found[key] = value
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"it has no {name}")


def _row(value: Any, address: str, columns: Sequence[str]) -> Row | DataError:
    pair = len(columns) > 1
    values: list[Any] = value if pair and isinstance(value, list) else [value]
    if len(values) != len(columns) or not all(isinstance(each, str | None) for each in values):
        problem = f"is no pair of texts ({' and '.join(columns)})" if pair else "is no text"
        return DataError(address, problem=problem)
    size = sum(len(each or "") for each in values)
    if size > CHARACTERS:
        return DataError(address, problem=f"has {size} characters; at most {CHARACTERS} are taken")
    return Row(dict(zip(columns, values, strict=True)), address)
