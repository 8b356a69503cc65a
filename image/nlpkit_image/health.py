"""Whether what a container serves answers: `python -m nlpkit_image.health`, the health check."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

from nlpkit_image.paths import write_private
from nlpkit_image.user import state

_PATIENCE = 5  # seconds


def ask(url: str) -> None:
    """From now on the container is healthy while somebody answers there."""
    write_private(state() / "health", url, (os.geteuid(), os.getegid()))


def main() -> int:
    """0 where an answer came, whatever it says, and where there is nothing to ask."""
    asked = state() / "health"
    url = asked.read_text(encoding="utf-8") if asked.exists() else ""
    if not url:
        return 0
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is this machine
    try:
        with opener.open(url, timeout=_PATIENCE):
            return 0
    except urllib.error.HTTPError:
        return 0
    except (OSError, ValueError):
        return 1


if __name__ == "__main__":
    sys.exit(main())
