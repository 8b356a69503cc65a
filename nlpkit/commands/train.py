"""`nlpkit train`: trains what a config describes, and shows what came out."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nlpkit.bundle.publish import published
from nlpkit.cli.render import duration
from nlpkit.commands.complete import keys
from nlpkit.config.load import load_config
from nlpkit.errors import Interrupted
from nlpkit.run.train import Run, train

if TYPE_CHECKING:
    from nlpkit.cli.render import Terminal

_SLOW = 0.05  # of the run's time: from here on an observer is named


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=keys)
@click.option("--out", type=click.Path(path_type=Path), help="The run folder [runs/<name>].")
@click.option("--resume", is_flag=True, help="Go on from the newest good checkpoint.")
@click.pass_obj
def command(
    terminal: Terminal, config: Path, overrides: tuple[str, ...], out: Path | None, resume: bool
) -> None:
    """Train what CONFIG describes; KEY=VALUE replaces a value of it (train.epochs=1)."""
    try:
        run = train(load_config(config, overrides), out=out, resume=resume, terminal=terminal)
    except Interrupted as error:
        if error.run is None:
            raise
        where = () if out is None else ("--out", str(out))
        step = shlex.join(["nlpkit", "train", str(config), *overrides, *where, "--resume"])
        raise Interrupted(f"{error}:\n  {step}", signal=error.signal, run=error.run) from None
    report(run, terminal)
    folder = shown(run.path)
    terminal.say("\nNext:")
    terminal.say(f'  nlpkit predict {folder} "a text"')
    terminal.say(f"  nlpkit evaluate {folder} DATA")
    terminal.say(f"  nlpkit export {folder} onnx")


def report(run: Run, terminal: Terminal) -> None:
    """Shows a run's metrics, throughput and time, and where things are."""
    result, metrics = run.result, run.metrics
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    rows = [[name, *(values.get(name) for values in metrics.values())] for name in names]
    terminal.say()
    if rows:
        terminal.table(["", *metrics], rows)
        terminal.say()
    data = result["data"]
    truncated = data["truncated"]["train"]
    facts = {
        "time": f"{duration(result['seconds'])}, of which training "
        f"{duration(result['training_seconds'])}, evaluation "
        f"{duration(result['evaluation_seconds'])}",
        "throughput": f"{result['samples_per_second']:,.0f} samples/s, "
        f"{result['tokens_per_second']:,.0f} tokens/s",
        "shares": f"waiting for data {result['waiting_for_data_share']:.1%}, padding "
        f"{result['padding_share']:.1%}, truncated texts {truncated:.1%}",
        "steps": f"{result['steps']:,} of {result['steps_planned']:,}, skipped "
        f"{result['skipped_steps']:,}; the best model is of step {result['best_step']:,}",
        "ran on": f"{result['device']}, {result['precision']}",
        "run": shown(run.path),
        "bundle": shown(run.bundle),
    }
    if (final := published(run.path)) and final.exists():
        facts["final"] = shown(final)
    if "windows" in data:
        windows, several = data["windows"]["train"], data["windowed"]["train"]
        facts["windows"] = f"{windows:.2f} a training row; {several:.1%} have more than one"
    if exports := [name for name, found in result["exports"].items() if "error" not in found]:
        facts["exports"] = ", ".join(exports)
    for name, fact in facts.items():
        terminal.say(f"{name:<{max(map(len, facts))}}  {fact}")
    for name, account in result["observers"].items():
        if account["failures"]:
            error = account.get("first_error", account.get("last_error"))  # of an older version
            terminal.note(f'warning: observer "{name}" failed: {error}')
        share = account["share_of_time"]
        if share >= _SLOW:
            terminal.note(f'warning: observer "{name}" took {share:.1%} of the time')


def shown(path: Path) -> str:
    """A path as one would type it: relative where it is below the working directory."""
    below = os.path.relpath(path)
    return str(path) if below.startswith("..") else below
