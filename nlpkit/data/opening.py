"""The bytes of a location, which is a path or an fsspec URL, whatever goes wrong with it."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from nlpkit.errors import DataError, NlpkitError, closest
from nlpkit.secrets import hidden

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_PATTERN = "* stands for itself: name one file or, on this machine, a folder of shards"


def path_of(location: str) -> str:
    """A location without what a URL has behind its path, such as a signature.

    A # is a character like others, but on the web.
    """
    if "://" not in location:
        return location
    return re.split("[?#]" if _web(location) else "[?]", location, maxsplit=1)[0]


def _web(location: str) -> bool:
    return re.match(r"(\w+::)*https?://", location, re.IGNORECASE) is not None


@contextmanager
def opened(location: str, address: str, *, unpack: bool = True) -> Iterator[IO[bytes]]:
    """The bytes of a location, unpacked where it ends in .gz.

    Raises:
        DataError: They cannot be read; a URL's library may also say so while they are.
    """
    try:
        with _raw(location) as raw:
            if unpack and path_of(location).lower().endswith(".gz"):
                with gzip.open(raw) as file:
                    yield cast("IO[bytes]", file)
            else:
                yield raw
    except FileNotFoundError as error:
        cause = error.__cause__  # fsspec's http says so too where a connection fails
        if _web(location) and cause and getattr(cause, "status", 0) != 404:
            problem = f"cannot be reached ({_reason(cause, location)})"
            raise DataError(address, problem=problem) from None
        folder = Path(location).parent
        names = os.listdir(folder) if "://" not in location and folder.is_dir() else []
        raise DataError(
            address,
            problem="there is no such file",
            suggestion=closest(Path(location).name, names),
            remedy=_NO_PATTERN if "*" in location else "",
        ) from None
    except IsADirectoryError:
        raise DataError(address, problem="is a folder; name a file in it") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        problem = f"is not a whole gzip file ({error})"
        raise DataError(
            address, problem=problem, remedy="copy it again, or pack it again"
        ) from None
    except NlpkitError:
        raise
    except Exception as error:
        if "://" not in location and not isinstance(error, OSError):
            raise  # the libraries of URLs have errors of many kinds
        raise DataError(address, problem=f"cannot be read ({_reason(error, location)})") from None


def _reason(error: BaseException, location: str) -> str:
    """What an error says, without the secrets of the address."""
    if status := getattr(error, "status", None):  # of http
        return f"{status} {getattr(error, 'message', '')}"
    return hidden(str(getattr(error, "strerror", None) or error), location)


def _raw(location: str) -> IO[bytes]:
    if "://" not in location:
        return Path(location).open("rb")
    import fsspec  # type: ignore[import-untyped]  # takes 50 ms, and local paths do without

    # not fsspec.open, which has words of its own instead of the cause where a URL has a ? or *
    protocol, sign, rest = location.partition("://")
    files, path = fsspec.url_to_fs(f"{protocol.lower()}{sign}{rest}")
    return io.BufferedReader(files.open(path, "rb"))  # its own reads few lines at once
