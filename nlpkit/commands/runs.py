"""`nlpkit runs`: the runs of the runs folder, and how they stand."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlpkit.checkpoint.lock import is_held
from nlpkit.commands.train import shown
from nlpkit.config.load import load_config
from nlpkit.config.schema import Secret
from nlpkit.environment import runs_folder
from nlpkit.errors import NlpkitError
from nlpkit.run.train import Run

if TYPE_CHECKING:
    from nlpkit.cli.render import Terminal
    from nlpkit.config.schema import Config

_COLUMNS = ("name", "when", "data", "model", "metric", "state")
_LONGEST = 16  # letters of data in the table: the end of a path says most


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON list instead of a table.")
@click.pass_obj
def command(terminal: Terminal, as_json: bool) -> None:
    """List the runs of the folder runs (or NLPKIT_RUNS), the latest one last.

    The metric is what selects the best model: its best value, or the latest of a run without end.
    """
    marks = sorted(runs_folder().glob("*/environment.json"), key=lambda mark: mark.stat().st_mtime)
    rows = [_row(mark) for mark in marks]
    if as_json:
        terminal.json(rows, indent=2)
    elif rows:
        cells = [[_cell(name, row[name]) for name in _COLUMNS] for row in rows]
        terminal.table(_COLUMNS, cells)
    else:
        terminal.note(f"{runs_folder()}: there are no runs; nlpkit train makes one")


def _row(mark: Path) -> dict[str, Any]:
    """What is known of a run; what cannot be read is None."""
    run, when = Run(mark.parent), datetime.fromtimestamp(mark.stat().st_mtime, UTC).astimezone()
    row: dict[str, Any] = {"name": run.path.name, "when": when.isoformat(timespec="seconds")}
    row |= dict.fromkeys(("data", "model", "metric"))
    row |= {"state": "running" if is_held(run.path) else "unfinished"}
    row["path"] = str(run.path.absolute())
    with suppress(NlpkitError, OSError, ValueError, KeyError, TypeError):
        config = load_config(run.path / "config.yaml")
        row |= {"data": _data(config, run.path), "model": _model(config)}
        monitor, evaluated = str(config.eval.monitor), []
        if (run.path / "result.json").exists():
            row["state"], evaluated = "finished", [*run.metrics.values()]
        else:
            steps = run.history
            row["state"] += f", step {steps[-1]['step']:,}"
            evaluated = [line for line in reversed(steps) if line["split"] == "validation"]
        row["metric"] = {monitor: evaluated[0][monitor]} if evaluated else None
    return row


def _data(config: Config, folder: Path) -> str:
    place = config.data.train
    if place is None:
        return config.data.name
    if isinstance(place, Secret) or "://" in place:
        return str(place)
    return "in memory" if Path(place).parent == folder.absolute() / "inputs" else shown(Path(place))


def _model(config: Config) -> str:
    pretrained = config.model.options.get("pretrained")
    return f"{config.model.name} {Path(str(pretrained)).name}" if pretrained else config.model.name


def _cell(column: str, value: Any) -> str:
    """A value in few letters, so that a line mostly fits into 80 without being wrapped."""
    if value is None:
        return ""
    if column == "when":  # as `ls` has it: the time, or the year of what is older
        this_year = value[:4] == f"{datetime.now():%Y}"
        return str(value[5:16].replace("T", " ") if this_year else value[:10])
    if column == "metric":
        return ", ".join(f"{name} {number:.4f}" for name, number in value.items())
    text = str(value).removeprefix("unfinished, ") if column == "state" else str(value)
    return "…" + text[1 - _LONGEST :] if column == "data" and len(text) > _LONGEST else text
