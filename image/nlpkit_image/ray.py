"""A head or a worker of a Ray cluster, which takes jobs of whoever has its token."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from nlpkit_image.paths import INSTALLED, SETTINGS, StartError, secret, write_private

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nlpkit_image.user import Person

_VALUE, _PATH = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def token(who: Person) -> dict[str, str]:
    """Variables that name a copy of the cluster's token which that person alone may read.

    Raises:
        StartError: There is a token, and it cannot be used.
    """
    text = os.environ.get(_VALUE, "").strip()
    path = Path(os.environ.get(_PATH) or SETTINGS / "token")
    if not text and not path.exists() and _PATH not in os.environ:
        return {}
    copy = who.state / "ray" / "token"
    write_private(copy, text or secret(path), (who.uid, who.gid))
    return {_PATH: str(copy), "RAY_AUTH_MODE": "token"}


def command(role: str, arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command line of `ray-head` or `ray-worker`.

    Raises:
        StartError: There is no token, or a worker is not told the head.
    """
    if _PATH not in environment:
        raise StartError(
            "a cluster needs a token, for whoever reaches it runs code there: `openssl rand -hex "
            f"32 > token; chmod 600 token`, mounted at {SETTINGS}/token in every container"
        )
    options, own = _taken(arguments, "--node-ip-address")
    own = own or _address()
    if role == "ray-head":
        return ["sh", f"{INSTALLED}/jobs/head.sh", own, *options]
    options, head = _taken(options, "--address")
    if not head:
        raise StartError("ray-worker: --address HEAD is missing, the head's name or address")
    return ["sh", f"{INSTALLED}/jobs/worker.sh", head.removesuffix(":6379"), own, *options]


def _taken(arguments: Sequence[str], name: str) -> tuple[list[str], str]:
    """The other arguments, and the value of an option: `--name VALUE` or `--name=VALUE`."""
    rest, value = [], ""
    words = iter(arguments)
    for word in words:
        if word == name:
            value = next(words, "")
        elif word.startswith(f"{name}="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
    return rest, value


def _address() -> str:
    """This container's, as others on its network see it."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError as error:
        raise StartError(
            f"the container's own address is not known ({error}); name it with --node-ip-address"
        ) from None
