"""`nlpkit submit`: trains on a cluster what `nlpkit train` trains here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

import nlpkit
from nlpkit.commands.complete import keys
from nlpkit.commands.train import report
from nlpkit.config.load import load_config
from nlpkit.errors import RunError

if TYPE_CHECKING:
    from nlpkit.cli.render import Terminal
    from nlpkit_ray.job import Job


@click.command("submit")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=keys)
@click.option("--address", help="The cluster's API [RAY_ADDRESS]; without one, a Ray starts here.")
@click.option("--wait", is_flag=True, help="Show what it writes until it ends; its exit code.")
@click.option("--resume", metavar="ID", help="Go on with a job that ended before its run did.")
@click.option("--insecure", is_flag=True, help="Also without authentication, or encryption.")
@click.option("--json", "as_json", is_flag=True, help="Print id, address and storage as JSON.")
@click.pass_obj
def command(
    terminal: Terminal,
    config: Path,
    overrides: tuple[str, ...],
    address: str | None,
    wait: bool,
    resume: str | None,
    insecure: bool,
    as_json: bool,
) -> None:
    """Train what CONFIG describes on a Ray cluster; KEY=VALUE replaces a value of it.

    Everything is checked before anything is queued. Without --address and RAY_ADDRESS a Ray of this
    machine starts, and the command waits until the run has ended.
    """
    loaded = load_config(config, overrides)
    job = nlpkit.submit(
        loaded, address=address, resume=resume, insecure=insecure, terminal=terminal
    )
    if isinstance(job, nlpkit.Run):  # it ran here
        terminal.json({"path": str(job.path)}) if as_json else report(job, terminal)
        return
    if as_json:
        terminal.json({"id": job.id, "storage": job.storage})
    else:
        terminal.say(job.id)
    if wait:
        _watch(job, terminal)
    elif not as_json:
        where = (f" --address {address}" if address else "") + " --insecure" * insecure
        terminal.note("\nNext:")
        for step in ("logs --follow", "stop", "fetch"):
            terminal.note(f"  nlpkit {step} {job.id}{where}")


def _watch(job: Job, terminal: Terminal) -> None:
    """Shows what a job writes. Raises RunError where it does not succeed."""
    for text in job.follow():
        sys.stderr.write(text)
    if (state := job.wait()) != "succeeded":
        raise RunError(f"{job.id}: {state}")
