"""`nlpkit evaluate`: a run or a bundle, measured on other data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlpkit.commands.complete import runs
from nlpkit.commands.generate_option import GenerateCommand, generate_option
from nlpkit.commands.output_options import encoding_option, keep_option
from nlpkit.run.evaluate import evaluate
from nlpkit.secrets import shown

if TYPE_CHECKING:
    from nlpkit.cli.render import Terminal


@click.command("evaluate", cls=GenerateCommand)
@click.argument("run", shell_complete=runs)
@click.argument("data")
@click.option(
    "--output", metavar="FILE", help="jsonl, csv or tsv: target, prediction and score of each row."
)
@encoding_option
@keep_option
@generate_option
@click.option("--precision", type=click.Choice(["fp32", "auto"]), default="fp32")
@click.option("--trust-plugins", is_flag=True, help="Execute the plugins that a bundle brings.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.pass_obj
def command(terminal: Terminal, /, run: str, data: str, as_json: bool, **options: Any) -> None:
    """Measure RUN (a run folder or a bundle) on DATA: a file with texts and targets."""
    values = evaluate(run, data, terminal=terminal, **options)
    if as_json:
        terminal.json(values)
    else:
        terminal.table(["metric", "value"], list(values.items()), title=f"{run} on {shown(data)}")
