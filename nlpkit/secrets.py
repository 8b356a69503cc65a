"""Secrets stay where they are: a URL is said and stored without its password and its query.

A query is what signs a URL, and nobody can tell such a one from another; so none is shown, nor a
fragment that is written as one (`#access_token=…`). Who asks with http(s) may be a token, so all
that stands before the @ is replaced there; elsewhere (`ssh://git@host`, `abfs://container@account`)
it is a name. A path made of a URL has one slash behind the colon (`https:/…`) and counts as one.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

# What follows `user:` up to the last @, for a password may hold any character itself. Digits that
# end where a port may end are one, but in a store of objects: its keys may begin with `4/`.
_SIGN = r":/{1,2}"
_USER = r"[^\s/:@\[]*?(?::|%3[Aa])(?![:…])"
_PORT = r"\d+(?:[/?#:,;)\]}>'\"\s]|$)"
_PASSWORD = re.compile(
    rf"(\b(?:s3[an]?|gs){_SIGN}{_USER}|(?<=\w){_SIGN}{_USER}(?!{_PORT}))(.+)(?=@)"
)
_USER_OF_HTTP = re.compile(rf"(\bhttps?{_SIGN})([^\s/@?#'\"<>…]+)(?::…)?(?=@)", re.IGNORECASE)
_NO_SCHEME = re.compile(rf"((?<![\w:/])//{_USER})([^\s/]+)(?=@)")
# In a URL with spaces or quotes it goes on as long as `&name=` comes, but not into another URL.
_QUERY = re.compile(
    r"(:/(?:(?!:/)[^?'\"<>\n])*?(?:\?|#(?=[^\s'\"<>]*=)))(?!…)"
    r"((?:(?:(?!:/).)*&[\w.-]+=)?[^\s'\"<>]*[^\s'\"<>).,;:])"
)
_PARTS = (_PASSWORD, _USER_OF_HTTP, _NO_SCHEME, _QUERY)

_REVEALED: set[str] = set()
_SHORTEST = 6  # characters of a value that is looked for; less is a word that stands anywhere


def kept(value: str) -> str:
    """A secret that somebody is given, who may say it where an error is told: none shows it."""
    if len(value) >= _SHORTEST:
        _REVEALED.add(value)
    return value


def shown(text: str) -> str:
    """A URL, or a text with some, without passwords and queries: `https://…@host/a.csv?…`.

    What `kept` was told is left out too.
    """
    for secret in sorted(_REVEALED, key=len, reverse=True):
        text = text.replace(secret, "…")
    if ":/" not in text and "//" not in text:
        return text
    for part in _PARTS:
        text = part.sub(r"\1…", text)
    return text


def has_password(text: str) -> bool:
    """Whether a URL in it holds a password, or a token in its place."""
    return any(part.search(text) for part in (_PASSWORD, _USER_OF_HTTP, _NO_SCHEME))


def hidden(text: str, url: str) -> str:
    """What somebody says of a URL, without its secrets, in whatever form they are told."""
    secrets = {found[2] for each in _PARTS for found in each.finditer(url)}
    parts = {part for each in secrets for part in (each, unquote(each), *re.split("[/:@&=]", each))}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, "…") if len(part) > 2 else text
    return shown(text)
