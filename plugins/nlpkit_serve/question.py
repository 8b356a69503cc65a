"""Reads what a client asks, and says what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from starlette.exceptions import HTTPException

from nlpkit.bundle.fields import check_ranked
from nlpkit.contracts import Row
from nlpkit.errors import DataError, InputError, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nlpkit.bundle.predict import Model

TEXTS = 256
"""Texts of one request, at most."""
CHARACTERS = 10_000
"""Characters of one text, of both of a pair, or of all its words, at most."""
WORDS = 5_000
"""Words of a text that is given as a list of them, at most: as many as so many characters make."""

TOKENS = 2_048
"""Tokens of a text that is written, at most."""
BEAMS = 16
"""Texts that a search follows, at most."""
STOPS = 16
"""Texts that end one, at most."""

_KEYS = ("text", "texts", "top_k", "generate", "stream")
_EXAMPLE = '{"texts": ["…"]}'


@dataclass(frozen=True)
class Question:
    """What a request asks.

    Attributes:
        rows: The texts; in the place of one that cannot be used, what is wrong with it.
        single: Whether it asked for one `text`, not for a list.
        top_k: How many of the best labels it wants; None for the best alone.
        generate: How texts are written.
        stream: Whether it wants to see the text grow.
    """

    rows: Sequence[Row | DataError]
    single: bool = False
    top_k: int | None = None
    generate: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False


def read(body: bytes, model: Model) -> Question:
    """The question that a body holds.

    Args:
        body: JSON in UTF-8.
        model: What is asked.

    Raises:
        HTTPException: 400 for what is no question to the model, 413 for too many texts.
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
    top_k, stream = asked.get("top_k"), asked.get("stream", False)
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        raise HTTPException(400, '"top_k" must be a whole number of at least 1')
    if stream and not (stream is True and single and model.writes):
        raise HTTPException(400, '"stream" is true or false, and for one "text" that is written')
    try:
        if top_k is not None:
            check_ranked(model.codec.ranked)
        generate = _bounded(asked.get("generate", {}), model)
    except InputError as error:
        raise HTTPException(400, str(error)) from None
    rows = [
        _row(text, "text" if single else f"texts[{number}]", model.columns, model.task.words)
        for number, text in enumerate(texts)
    ]
    return Question(rows, single, top_k, generate, stream)


def _bounded(asked: Any, model: Model) -> Mapping[str, Any]:
    """How texts are written, within the limits. Raises InputError."""
    if not isinstance(asked, dict):
        raise InputError('"generate" must be an object, such as {"max_tokens": 20}')
    settings = model.codec.settings(asked)
    if not model.writes:
        return {}
    bounded = {"max_tokens": min(settings.max_tokens, TOKENS), **asked}
    if bounded["max_tokens"] > TOKENS or settings.beams > BEAMS or len(settings.stop) > STOPS:
        raise InputError(
            f"at most {TOKENS} max_tokens, {BEAMS} beams and {STOPS} words to stop at can be asked"
        )
    return bounded


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


def _row(value: Any, address: str, columns: Sequence[str], words: bool) -> Row | DataError:
    pair, words = len(columns) > 1, words and len(columns) == 1
    parts: list[Any] = value if isinstance(value, list) and (pair or words) else [value]
    values, kinds = parts if pair else [value], str if words else str | None
    if len(values) != len(columns) or not all(isinstance(each, kinds) for each in parts):
        problem = "is no text and no list of words" if words else "is no text"
        problem = f"is no pair of texts ({' and '.join(columns)})" if pair else problem
        return DataError(address, problem=problem)
    if len(parts) > WORDS:
        return DataError(address, problem=f"has {len(parts)} words; at most {WORDS} are taken")
    size = sum(len(each or "") for each in parts)
    if size > CHARACTERS:
        return DataError(address, problem=f"has {size} characters; at most {CHARACTERS} are taken")
    return Row(dict(zip(columns, values, strict=True)), address)
