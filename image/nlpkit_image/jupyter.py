"""Jupyter Lab, which whoever reaches it runs code with: behind a password, always."""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from nlpkit_image.paths import INSTALLED, WORKSPACE, StartError, secret, write_private

if TYPE_CHECKING:
    from collections.abc import Callable

    from nlpkit_image.user import Person

HASH, FILE, PORT = "JUPYTER_PASSWORD_HASH", "JUPYTER_PASSWORD_FILE", "JUPYTER_PORT"
REMOVED = (HASH, FILE, "JUPYTER_TOKEN", "JUPYTER_TOKEN_FILE")
"""Variables that the server is not given: the tokens would be a second way in."""

_SHAPE = re.compile(r"argon2:\$argon2\S+|(sha1|sha256|sha512):[0-9a-f]+:[0-9a-f]+")


def port() -> int:
    """The port that Jupyter listens at."""
    text = os.environ.get(PORT) or "8888"
    if not text.isdigit():
        raise StartError(f'{PORT}: "{text}" is no port')
    return int(text)


def command(who: Person) -> tuple[list[str], str]:
    """The command line of the server, and what to tell about it.

    The hash goes into a file of that person, for a command line is everybody's to read. What makes
    the server safe is on the command line, which wins over every file of settings.

    Raises:
        StartError: The password's hash or file cannot be used.
    """
    hashed, told = _password()
    provider = "PasswordIdentityProvider"
    settings = {provider: {"hashed_password": hashed}}
    path = who.state / "jupyter" / "jupyter_server_config.json"
    write_private(path, json.dumps(settings), (who.uid, who.gid))
    line = [
        f"{INSTALLED}/bin/jupyter",
        "lab",
        f"--config={path}",
        "--ServerApp.ip=0.0.0.0",
        f"--ServerApp.port={port()}",
        "--ServerApp.port_retries=0",
        "--ServerApp.open_browser=False",
        f"--ServerApp.root_dir={WORKSPACE}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--IdentityProvider.token=",
        f"--{provider}.token=",
        f"--{provider}.password_required=True",
        f"--{provider}.allow_password_change=False",
    ]
    return line, told


def _password() -> tuple[str, str]:
    """The hash of the password, and what to tell: a password that was made up is shown once."""
    from jupyter_server.auth import security

    hashed: Callable[[str], str] = security.passwd

    if HASH in os.environ and FILE in os.environ:
        raise StartError(f"{HASH} and {FILE} are both set; keep one")
    if HASH in os.environ:
        given = os.environ[HASH].strip()
        if not _SHAPE.fullmatch(given):
            raise StartError(
                f"{HASH}: is no hash of a password; `docker run --rm -it IMAGE jupyter server "
                "password --help` says more, and without it a password is made up"
            )
        return given, "with the password of " + HASH
    if FILE in os.environ:
        return hashed(secret(Path(os.environ[FILE]))), f"with the password in {os.environ[FILE]}"
    made = secrets.token_urlsafe(15)
    return hashed(made), f"with the password {made}   (shown this once; {FILE} sets your own)"
