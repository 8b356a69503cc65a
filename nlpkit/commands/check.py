"""`nlpkit check`: every problem of a config, before training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nlpkit.checking.config import Findings, examine
from nlpkit.commands.complete import keys
from nlpkit.config.load import load_config
from nlpkit.errors import ConfigError
from nlpkit.secrets import shown

if TYPE_CHECKING:
    from nlpkit.cli.render import Terminal
    from nlpkit.config.schema import Config


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=keys)
@click.pass_obj
def command(terminal: Terminal, config: Path, overrides: tuple[str, ...]) -> None:
    """Find every problem of CONFIG, of its data and its labels; KEY=VALUE replaces a value.

    Says what a run would use where there is none; a warning stops no run.
    """
    findings = examine(load_config(config, overrides))
    if findings.config is None or not findings.usable:
        raise ConfigError(findings.problems)
    for problem in findings.problems:
        terminal.note(f"warning: {problem}")
    _report(findings, findings.config, terminal)
    step = shlex.join(["nlpkit", "train", str(config), *overrides])
    terminal.say(f"\nNext:\n  {shown(step)}")


def _report(findings: Findings, config: Config, terminal: Terminal) -> None:
    tokenizer = config.tokenizer
    pretrained = tokenizer.options.get("pretrained")
    facts = {
        "task": config.task.name + (f", {findings.labels:,} labels" if findings.labels else ""),
        "rows": ", ".join(f"{split} {count:,}" for split, count in findings.rows.items()),
        "model": config.model.name,
        "tokenizer": f"{tokenizer.name}{f' of {pretrained}' if pretrained else ''}, "
        f"at most {tokenizer.max_length} tokens",
        **_texts(findings),
        "learning rate": f"{config.train.learning_rate:g}",
        "strategy": config.strategy.name,
        "device": config.device,
        "precision": config.precision,
    }
    facts = {name: fact for name, fact in facts.items() if fact != "auto"}  # a run finds it out
    terminal.say("The config can be trained.")
    for name, fact in facts.items():
        terminal.say(f"  {name:<{max(map(len, facts))}}  {fact}")


def _texts(findings: Findings) -> dict[str, str]:
    texts = findings.texts
    if texts is None:
        return {}
    several = len(texts.lengths) > 1
    lengths = {
        f"tokens of {f'a {part}' if several else 'a row'}": ", ".join(
            f"{name} {length:,}" for name, length in found.items()
        )
        for part, found in texts.lengths.items()
    }
    lengths[list(lengths)[-1]] += f"; {texts.truncated:.1%} of the rows are cut"
    windows = {}
    if texts.windows is not None:
        more = f"{texts.windowed:.1%} of the rows have more than one"
        windows["windows of a row"] = f"{texts.windows:.2f}; {more}"
    found = {**lengths, **windows, "unknown tokens": f"{texts.unknown:.2%}"}
    values, details = texts.ceiling
    if values:
        said = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        found["at best"] = f"{said}: what the tokens of the targets give back"
    return {**found, **{name.replace("_", " "): str(each) for name, each in details.items()}}
