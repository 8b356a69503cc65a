"""`nlpkit pool`: the GPUs of a cluster, who has them, and who waits for what."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli.render import duration
from nlpkit_ray.client import connect
from nlpkit_ray.commands.jobs import of_a_cluster
from nlpkit_ray.config import PRIORITIES
from nlpkit_ray.preflight import ask

if TYPE_CHECKING:
    from nlpkit.cli.render import Terminal

_PAUSE = 5.0  # seconds between two looks


@click.command("pool")
@click.option("--watch", is_flag=True, help="Show it again every few seconds, until Ctrl-C.")
@of_a_cluster
def command(
    terminal: Terminal, watch: bool, address: str | None, insecure: bool, as_json: bool
) -> None:
    """Show the nodes of a cluster, their GPUs, and the jobs that run and wait, in their order.

    A user is who a job says that its user is.
    """
    connection = connect(address, insecure=insecure)
    while True:
        answer = ask(connection, {})
        if as_json:
            terminal.json(answer)
        else:
            _show(answer, terminal)
        if not watch:
            return
        time.sleep(_PAUSE)


def _show(answer: dict[str, Any], terminal: Terminal) -> None:
    nodes = [
        [
            node["ip"],
            *(f"{node['free'][kind]:g} of {node['total'][kind]:g}" for kind in ("GPU", "CPU")),
        ]
        for node in answer["nodes"]
    ]
    terminal.table(["node", "free GPUs", "free CPUs"], nodes)
    pool = answer["pool"] or {"jobs": [], "fault": ""}
    jobs = sorted(pool["jobs"], key=lambda job: job["position"])
    terminal.say()
    if pool["fault"]:
        terminal.say(f"The policy cannot be read, and the one before it holds: {pool['fault']}\n")
    if not jobs:
        terminal.say("No job runs or waits.")
        return
    rows = []
    for job in jobs:
        workers = job["workers"] or job["least"]
        rows.append(
            [
                job["position"] or "runs",
                job["id"],
                job["name"],
                job["user"],
                PRIORITIES[job["priority"]],
                f"{workers * job['each']:g} {job['resource']}",
                duration(time.time() - job["since"]),
                job["reason"],
            ]
        )
    columns = ["place", "job", "name", "user", "priority", "takes", "since", "waits for"]
    terminal.table(columns, rows)
