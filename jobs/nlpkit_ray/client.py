"""The API of a cluster, over HTTP: who may use it is asked first, and errors are put in a line."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import aiohttp
import requests
from ray.exceptions import AuthenticationError

from nlpkit.cli.render import Terminal
from nlpkit.environment import is_loopback
from nlpkit.errors import InputError, NlpkitError, RunError
from nlpkit_ray.private import CHATTY, YOUNG, client, staying

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from ray.job_submission import JobSubmissionClient

_PATIENCE = 4.0  # seconds in which a cluster says whether it wants a token
_YOUNG = 30.0  # seconds in which a head that has just started comes to take jobs
_PAUSE = 0.3  # seconds before it is asked again
_CHUNK = 1 << 20  # bytes
_GCS = 6379
_SETTLES = 3.0  # seconds after a job's end in which Ray may write its record once more
HELPERS = ("nlpkit-probe-", "nlpkit-transfer-")
"""How the names begin of jobs that are nobody's."""
_ODD = (TypeError, ValueError, LookupError, AttributeError)  # of JSON that is not what Ray sends
_ELSE = "what answers there is no Ray, or another version of it; is it the dashboard's address?"
_EXAMPLE = "http://127.0.0.1:8265"
_TOKEN = (
    "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or put the cluster's token into ~/.ray/auth_token"
)


def connect(address: str | None, *, insecure: bool = False) -> Connection:
    """The cluster at an address.

    Args:
        address: `http://host:8265`; None: that of RAY_ADDRESS.
        insecure: Also one off this machine that asks nobody for a token, or is sent it in clear.

    Raises:
        InputError: It cannot be reached, wants another token, or lets everybody in.
    """
    url = _url(address or os.environ.get("RAY_ADDRESS", ""))
    mode, parts, here = _mode(url), urlsplit(url), is_loopback(url)
    if mode != "token" and not insecure and not here:
        fault = "asks nobody who they are, so whoever reaches it runs code there"
        if mode == "unknown":
            fault = "does not say whom it lets in; is it the address of the dashboard?"
        raise InputError(f"{url}: {fault}; start it with RAY_AUTH_MODE=token, or say insecure=True")
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    proxies = {"no_proxy": parts.hostname} if here else {}
    # An empty header, else Ray sends a token to who wants none; `auth`, else ~/.netrc replaces it.
    how = {"headers": {"Authorization": ""}, "auth": lambda request: request, "proxies": proxies}
    how["allow_redirects"] = False
    if mode == "token":
        if parts.scheme == "http" and not insecure and not here:
            raise InputError(
                f"{url}: the token would go there in clear; go through a tunnel (ssh -N -L "
                f"8265:{parts.netloc} HOST, then --address {_EXAMPLE}) or https://, or "
                "say insecure=True"
            )
        if not (token := _token()):
            raise InputError(f"{url}: wants a token; {_TOKEN}")
        how["headers"] = {"Authorization": f"Bearer {token}"}
    try:
        return Connection(url, client(url, how), how)
    except (AuthenticationError, requests.exceptions.InvalidHeader):
        raise InputError(f"{url}: this is not its token; {_TOKEN}") from None
    except _ODD:
        raise InputError(f"{url}: {_ELSE}") from None
    except (RuntimeError, OSError) as error:
        raise InputError(f"{url}: {_line(error)}") from None


@dataclass(frozen=True)
class Connection:
    """A cluster that lets us in.

    Attributes:
        url: Of its API.
        client: Ray's own.
        how: Options of every request: what says who we are, which nothing shows, and the way there.
    """

    url: str
    client: JobSubmissionClient
    how: dict[str, Any] = field(repr=False)

    def submit(
        self,
        *,
        submission_id: str,
        entrypoint: str,
        metadata: dict[str, str],
        runtime_env: dict[str, Any] | None = None,
    ) -> None:
        """Submits a job that asks Ray for no resources, so that it starts at once."""
        deadline, told = time.monotonic() + _YOUNG, False
        while True:
            try:
                with _explained(submission_id):
                    self.client.submit_job(
                        submission_id=submission_id,
                        entrypoint=entrypoint,
                        metadata=metadata,
                        runtime_env=runtime_env,
                    )
                return
            except RunError as error:
                if YOUNG not in str(error) or time.monotonic() > deadline:
                    raise
                if not told:
                    Terminal().note(f"{self.url}: has just started; waits until it takes jobs")
                told = True
                time.sleep(_PAUSE)

    def info(self, job: str) -> Any:
        """Ray's record of a job. Raises InputError where there is none."""
        with _explained(job):
            return self.client.get_job_info(job)

    def jobs(self) -> list[Any]:
        """Ray's records of all jobs of nlpkit, the oldest first."""
        with _explained(self.url):
            found = self.client.list_jobs()
        ours = [each for each in found if "name" in (each.metadata or {})]
        return sorted(ours, key=lambda each: each.start_time or 0)

    def logs(self, job: str) -> str:
        """All that a job has written so far."""
        with _explained(job):
            return str(self.client.get_job_logs(job))

    def tail(self, job: str) -> Iterator[str]:
        """What a job has written, from the beginning, and then writes, until the socket ends."""
        loop = asyncio.new_event_loop()
        lines = cast("AsyncGenerator[str]", self.client.tail_job_logs(job))
        try:
            while True:
                with _explained(job):
                    try:
                        yield str(loop.run_until_complete(anext(lines)))
                    except StopAsyncIteration:
                        return
        finally:
            loop.run_until_complete(lines.aclose())
            loop.close()

    def stop(self, job: str) -> None:
        """Sends SIGTERM to a job's driver."""
        with _explained(job):
            self.client.stop_job(job)

    def delete(self, job: str) -> None:
        """Has the cluster forget a job that has ended, once Ray itself is done with it.

        A record that is deleted sooner comes back, as failed; and a new job of the same name fails.
        """
        time.sleep(_unsettled(self.info(job)))
        with _explained(job):
            self.client.delete_job(job)

    def tidy(self) -> None:
        """Has the cluster forget what probes and transfers it ran; the last ones later."""
        with _explained(self.url):
            found = self.client.list_jobs()
        for each in found:
            name = each.submission_id or ""
            if name.startswith(HELPERS) and each.status.is_terminal() and not _unsettled(each):
                with suppress(RuntimeError, OSError):  # somebody else was faster
                    self.client.delete_job(name)

    def download(self, job: str, name: str) -> Iterator[bytes]:
        """The bytes of a file that lies beside a job's log."""
        with _explained(job):
            query = {"node_id": self.info(job).driver_node_id, "filename": name, "lines": "-1"}
            url = f"{self.url}/api/v0/logs/file"
            with requests.get(url, params=query, stream=True, timeout=60, **self.how) as answer:
                staying(answer).raise_for_status()
                yield from answer.iter_content(_CHUNK)


def _url(address: str) -> str:
    if not address:
        raise InputError(f"which cluster? --address {_EXAMPLE}, or RAY_ADDRESS")
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and not parts.username
        port = parts.port
    except ValueError:  # no number, or no address of IPv6
        usable, port = None, None
    if not usable or address in ("auto", "local"):
        shown = "the address" if "@" in address else address  # it may have a password
        raise InputError(f"{shown}: is none of a cluster's API; that looks like {_EXAMPLE}")
    if port == _GCS:
        raise InputError(
            f"{address}: is where nodes join; its API is at the port of the dashboard, 8265 unless "
            "it was started with another --dashboard-port"
        )
    return parts.geturl().rstrip("/")  # the scheme in small letters, as Ray wants it


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """No server may have another one asked."""


def _mode(url: str) -> str:
    """`token` or `disabled`. It needs no token to ask."""
    direct = [urllib.request.ProxyHandler({})] if is_loopback(url) else []
    ask = urllib.request.build_opener(_Stay, *direct).open
    try:
        with ask(f"{url}/api/authentication_mode", timeout=_PATIENCE) as answer:
            return str(json.loads(answer.read(1 << 16))["authentication_mode"])
    except urllib.error.HTTPError as error:
        error.close()
        try:
            staying(error)
        except RuntimeError as elsewhere:
            raise InputError(f"{url}: {elsewhere}") from None
        return "unknown"
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        reason = _line(getattr(error, "reason", error))
        if not isinstance(error, OSError):
            reason = "what answers there is something else"
        raise InputError(
            f"{url}: cannot be reached ({reason}); is it the address of the dashboard, and the "
            "cluster up?"
        ) from None


def _token() -> str:
    """The token of this user, where Ray looks for it too; "" if there is none that can be sent."""
    token = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if not token:
        path = os.path.expanduser(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token")
        try:
            token = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return ""
    return token if token.isascii() else ""


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Errors of the API, in a line.

    Raises:
        InputError: A job that is unknown, or a request that cannot be met.
        RunError: The cluster does not answer as it should.
    """
    try:
        yield
    except AuthenticationError:
        raise InputError(f"{what}: the cluster wants another token; {_TOKEN}") from None
    except NlpkitError:
        raise
    except _ODD:
        raise RunError(f"{what}: {_ELSE}") from None
    except (requests.ConnectionError, aiohttp.ClientConnectionError):
        raise RunError(f"{what}: the cluster cannot be reached any more") from None
    except (RuntimeError, OSError, aiohttp.ClientError) as error:
        if _status(error) == 404:
            raise InputError(
                f"{what}: the cluster knows no such job; nlpkit jobs lists them"
            ) from None
        if "already exists" in str(error):
            raise InputError(f"{what}: there is a job of this name") from None
        raise RunError(f"{what}: {_line(error)}") from None


def _unsettled(info: Any) -> float:
    """Seconds until Ray is done with a job that has ended; the cluster's clock may be another."""
    return min(max(0.0, (info.end_time or 0) / 1000 + _SETTLES - time.time()), _SETTLES)


def _status(error: Exception) -> int:
    """The status of HTTP that an error tells of; 0 if none."""
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status
    found = re.match(r"Request failed with status code (\d+)", str(error))
    return int(found[1]) if found else 0


def _line(error: object) -> str:
    """The last line of what a server or a library says, without its traceback."""
    lines = [line for each in str(error).splitlines() if (line := each.strip(" ."))]
    return lines[-1] if lines else type(error).__name__
