"""Secrets stay where they are: a URL is said and stored without its password and its query.

A query is what signs a URL, and nobody can tell such a one from another; so none is shown.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

# What follows `user:` up to the last @, for a password may hold any character itself. Digits that
# end where a port may end are one, but in a store of objects: its keys may begin with `4/`.
_USER = r"[^\s/:@\[]*:(?![:…])"
_PORT = r"\d+(?:[/?#:,;)\]}>'\"\s]|$)"
_PASSWORD = re.compile(rf"(\b(?:s3[an]?|gs)://{_USER}|://{_USER}(?!{_PORT}))(.+)(?=@)")
_QUERY = re.compile(r"(://[^\s?'\"<>]*\?)(?!…)([^\s'\"<>)]+)")


_REVEALED: set[str] = set()
_SHORTEST = 6  # characters of a value that is looked for; less is a word that stands anywhere


def kept(value: str) -> str:
    """A secret that somebody is given, who may say it where an error is told: none shows it."""
    if len(value) >= _SHORTEST:
        _REVEALED.add(value)
    return value


def shown(text: str) -> str:
    """A URL, or a text with some, without passwords and queries: `https://me:…@host/a.csv?…`.

    What `kept` was told is left out too.
    """
    for secret in sorted(_REVEALED, key=len, reverse=True):
        text = text.replace(secret, "…")
    if "://" not in text:
        return text
    return _QUERY.sub(r"\1…", _PASSWORD.sub(r"\1…", text))


def has_password(text: str) -> bool:
    """Whether a URL in it holds a password."""
    return _PASSWORD.search(text) is not None


def hidden(text: str, url: str) -> str:
    """What somebody says of a URL, without its secrets, in whatever form they are told."""
    secrets = {found[2] for each in (_PASSWORD, _QUERY) for found in each.finditer(url)}
    parts = {part for each in secrets for part in (each, unquote(each), *re.split("[/@&=]", each))}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, "…") if len(part) > 2 else text
    return shown(text)
