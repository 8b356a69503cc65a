"""`nlpkit jobs`, `status`, `logs`, `stop`, `fetch`: what became of jobs."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli.render import duration
from nlpkit.commands.train import shown
from nlpkit.errors import RunError
from nlpkit_ray.client import connect
from nlpkit_ray.job import ENDED, Job
from nlpkit_ray.private import FULL

if TYPE_CHECKING:
    from collections.abc import Callable

    from nlpkit.cli.render import Terminal
    from nlpkit_ray.client import Connection

_CLUSTER = (
    click.option("--address", help="The cluster's API [RAY_ADDRESS]."),
    click.option("--insecure", is_flag=True, help="Also without authentication, or encryption."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    click.pass_obj,
)
_STORAGE = click.option(
    "--storage", default="", help="Where runs are kept, for a job that the cluster has forgotten."
)


def of_a_cluster(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say which cluster; it gets the terminal first."""
    for option in reversed(_CLUSTER):
        function = option(function)
    return function


@click.command("jobs")
@of_a_cluster
def jobs(terminal: Terminal, address: str | None, insecure: bool, as_json: bool) -> None:
    """List the jobs that the cluster remembers, the newest last."""
    connection = connect(address, insecure=insecure)
    found = [row(info, connection) for info in connection.jobs()]
    if as_json:
        terminal.json(found)
        return
    columns = ("id", "name", "user", "status", "submitted", "duration")
    terminal.table(columns, [[each[column] for column in columns] for each in found])


def row(info: Any, connection: Connection) -> dict[str, Any]:
    """What is shown of Ray's record of a job, which runs while it waits for its turn."""
    metadata, started, ended = info.metadata or {}, info.start_time, info.end_time
    seconds = (ended - started) / 1000 if started and ended else None
    status, waits = str(info.status).lower(), ""
    if status not in ENDED:
        with suppress(RunError):  # its node does not answer
            waits = Job(info.submission_id, connection).place()
    return {
        "id": info.submission_id,
        **{key: metadata.get(key, "") for key in ("name", "user", "priority", "storage")},
        "status": "waiting" if waits else status,
        "waits": waits,
        "submitted": metadata.get("submitted", ""),
        "duration": duration(seconds) if seconds is not None else "",
        "message": info.message or "",
        "exit_code": info.driver_exit_code,
    }


def reason(message: str) -> str:
    """Why a job failed, in a line: Ray's message has the end of its log, or all processes."""
    if FULL in message:
        return "its node ran out of memory"
    return (message.strip().splitlines() or [""])[-1]


@click.command("status")
@click.argument("id")
@of_a_cluster
def status(terminal: Terminal, id: str, address: str | None, insecure: bool, as_json: bool) -> None:
    """Say how a job stands: waiting for its turn, running, or how it ended."""
    connection = connect(address, insecure=insecure)
    found = row(connection.info(id), connection)
    if as_json:
        terminal.json(found)
        return
    found["message"] = reason(found["message"])
    for name, value in found.items():
        if value not in ("", None):
            terminal.say(f"{name:<10} {value}")


@click.command("logs")
@click.argument("id")
@click.option("--follow", is_flag=True, help="Go on until the job has ended.")
@_STORAGE
@of_a_cluster
def logs(
    terminal: Terminal,
    id: str,
    follow: bool,
    storage: str,
    address: str | None,
    insecure: bool,
    as_json: bool,
) -> None:
    """Show what a job has written; also after its node is gone, from the storage."""
    job = Job(id, connect(address, insecure=insecure), storage)
    for text in job.follow() if follow else [job.logs()]:
        if as_json:
            terminal.json({"text": text})
        else:
            sys.stdout.write(text)
            sys.stdout.flush()


@click.command("stop")
@click.argument("id")
@of_a_cluster
def stop(terminal: Terminal, id: str, address: str | None, insecure: bool, as_json: bool) -> None:
    """Have a job save and leave; one that waits leaves at once. `submit --resume ID` goes on."""
    job = Job(id, connect(address, insecure=insecure))
    if job.status() not in ENDED:
        job.stop()
        terminal.note(f"{id}: saves and leaves")
    state = job.wait()
    terminal.json({"id": id, "status": state}) if as_json else terminal.say(f"{id}: {state}")


@click.command("fetch")
@click.argument("id")
@click.option("--out", type=click.Path(path_type=Path), help="The folder [runs/<ID>].")
@_STORAGE
@of_a_cluster
def fetch(
    terminal: Terminal,
    id: str,
    out: Path | None,
    storage: str,
    address: str | None,
    insecure: bool,
    as_json: bool,
) -> None:
    """Bring the run folder of a job here, bundle and checkpoints included."""
    run = Job(id, connect(address, insecure=insecure), storage).fetch(out)
    if as_json:
        terminal.json({"id": id, "path": str(run.path)})
        return
    terminal.say(shown(run.path))
    terminal.note(f'\nNext:\n  nlpkit predict {shown(run.path)} "a text"')
