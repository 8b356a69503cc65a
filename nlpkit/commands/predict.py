"""`nlpkit predict`: texts, a file or standard input, in constant memory and in their order."""

from __future__ import annotations

import sys
from functools import partial
from itertools import islice
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any

import click

from nlpkit.bundle.forms import check_output, fields_of, form_of
from nlpkit.bundle.load import load
from nlpkit.commands.complete import runs
from nlpkit.commands.generate_option import GenerateCommand, generate_option
from nlpkit.commands.output_options import encoding_option, keep_option
from nlpkit.commands.prediction_draft import Draft, drafts
from nlpkit.commands.prediction_lines import Lines
from nlpkit.commands.prediction_rows import Asked, rows_of
from nlpkit.data.encoding import AUTO, checked
from nlpkit.data.opening import path_of
from nlpkit.errors import InputError, Interrupted
from nlpkit.signals import interruptible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nlpkit.bundle.forms import Line
    from nlpkit.bundle.load import Backend
    from nlpkit.cli.render import Terminal
    from nlpkit.commands.prediction_lines import Given

    Rows = Callable[[], Iterator[Given]]

_TABLE_ROWS = 1000


@click.command("predict", cls=GenerateCommand)
@click.argument("run", shell_complete=runs)
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option(
    "--input",
    "source",
    metavar="FILE",
    help="csv, tsv, jsonl, conll, parquet, xlsx, or txt: a text a line.",
)
@click.option(
    "--input-encoding", default=AUTO, metavar="NAME", help="Default: UTF-8; gb18030, latin-1, …"
)
@click.option("--delimiter", default=AUTO, metavar="C", help="Of a csv; default: the header's.")
@click.option("--quotes", type=click.Choice([AUTO, "none"]), default=AUTO, help="Of a csv.")
@click.option("--sheet", metavar="NAME", help="The input's, if it is a workbook with several.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="jsonl, csv or tsv; default: the terminal.",
)
@encoding_option
@click.option(
    "--column",
    "columns",
    metavar="NAME",
    multiple=True,
    help="The input's column of texts, if not the task's own; twice for pairs.",
)
@keep_option
@click.option("--top-k", type=click.IntRange(min=1), metavar="N", help="The N likeliest labels.")
@generate_option
@click.option("--resume", is_flag=True, help="Go on with an interrupted output file.")
@click.option(
    "--backend", type=click.Choice(["torch", "onnx"]), help="Default: torch, if it is there."
)
@click.option("--precision", type=click.Choice(["fp32", "auto"]), default="fp32")
@click.option("--trust-plugins", is_flag=True, help="Execute the plugins that a bundle brings.")
@click.pass_obj
def command(
    terminal: Terminal,
    /,
    run: str,
    output: Path | None,
    encoding: str,
    keep: tuple[str, ...],
    top_k: int | None,
    generate: dict[str, Any],
    resume: bool,
    backend: Backend | None,
    precision: str,
    trust_plugins: bool,
    **given: Any,
) -> None:
    """Predict TEXTs, the texts of a file, or those of standard input, one a line.

    RUN is a run folder or a bundle. A pair of texts is two TEXTs, or two columns of the file.
    """
    asked = Asked(keep=keep, **given)
    _check_input(asked)
    source = asked.source
    if resume and (source is None or output is None):
        raise click.UsageError("--resume needs --input and --output: it goes on with a file")
    check_output(output, encoding)
    if output is not None:
        if source and output.exists() and Path(source).exists() and output.samefile(source):
            raise InputError(f"--output {output}: is the --input; name another file")
        if not resume and (left := drafts(output)):
            raise InputError(
                f"--output {output}: {left[0]} is what an interrupted prediction left; go on with "
                "--resume, or remove it"
            )
    model = load(run, precision=precision, trust_plugins=trust_plugins, backend=backend)
    model.codec.settings(generate)  # what is wrong with them is said before anything is read
    rows = partial(rows_of, model, asked)
    form = form_of(output, lambda: ["text", *fields_of(model, top_k), "error"], encoding, keep=keep)
    if output is None:
        lines = Lines(model, rows(), top_k=top_k, keep=keep, generate=generate)
        _show(terminal, lines)
        lines.check(source or "standard input")
    else:
        columns = asked.columns or model.columns
        decides = {"precision": precision, "columns": columns, "encoding": encoding}
        draft = Draft(output, form, model, top_k=top_k, keep=keep, generate=generate, **decides)
        file = source is not None and Path(source).is_file()  # a pipe can be read only once
        if resume and _is_done(terminal, draft, rows, output, file=file):
            return
        lines = _save(terminal, draft, rows, source, file=file, resume=resume)
    for remark in asked.remarks:
        terminal.note(remark)
    if lines.bad:
        terminal.note(f"{lines.bad} of {lines.total} texts could not be predicted; see their error")
    if output is not None:
        bad = f", {_counted(lines.bad, 'error')}" if lines.bad else ""
        terminal.note(f"{_counted(lines.total - lines.bad, 'prediction')}{bad} in {output}")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _check_input(asked: Asked) -> None:
    if bool(asked.texts) + (asked.source is not None) > 1:
        raise click.UsageError("give TEXTs or --input, not both")
    if not asked.texts and asked.source is None and (sys.stdin is None or sys.stdin.isatty()):
        raise click.UsageError("give TEXTs, --input FILE, or texts on standard input")
    if asked.sheet is not None and not path_of(asked.source or "").lower().endswith(".xlsx"):
        raise click.UsageError("--sheet is for an --input that is a workbook")
    try:
        checked(asked.input_encoding)
    except ValueError as error:
        raise click.UsageError(f"--input-encoding: {error}") from None


def _is_done(terminal: Terminal, draft: Draft, rows: Rows, output: Path, *, file: bool) -> bool:
    """Whether there is nothing to go on with, for the output is finished."""
    if draft.path.exists():
        return False
    if left := drafts(output):
        raise InputError(
            f"--resume: {left[0]} was begun with another model or other options (--backend, "
            "--precision, --top-k, --generate, --keep, --column, --encoding); repeat those, or "
            "remove it"
        )
    done = file and draft.is_whole(rows())
    if done:
        terminal.note(f"{output}: is finished; remove it to predict again")
    return done


def _save(
    terminal: Terminal, draft: Draft, rows: Rows, source: str | None, *, file: bool, resume: bool
) -> Lines:
    """Writes the output, which appears when all lines are in it; until then they are the draft."""
    total = sum(1 for _ in rows()) if file else None
    with interruptible() as stop:
        try:
            with draft.opened(keep=source is not None):  # the rest cannot be read again
                lines = draft.resume(rows())
                if resume:
                    kept = f"goes on after {lines.total:,} rows"
                    nothing = "nothing to resume; starts from the beginning"
                    terminal.note(f"{draft.path}: {kept if lines.total else nothing}")
                with terminal.bar("predicting", total, "rows", done=lines.total) as bar:
                    draft.write(lines, bar.advance)
                draft.check(lines, source or "standard input")
            if resume:
                draft.finish(lines)
        except (Interrupted, OSError):
            left = f"{draft.path} has what was predicted; go on with --resume"
            if stop.signal is not None:
                message = left if draft.path.exists() else "nothing was predicted"
                message = f"ended by {Signals(stop.signal).name}; {message}"
                raise Interrupted(message, signal=stop.signal) from None
            if draft.path.exists():
                terminal.note(left)
            raise
    return lines


def _show(terminal: Terminal, lines: Iterable[Line]) -> None:
    """Tables on a terminal, JSON lines when piped."""
    if not terminal.interactive:
        for line in lines:
            terminal.json(line)
        return
    remaining = iter(lines)
    while part := list(islice(remaining, _TABLE_ROWS)):
        columns = list(dict.fromkeys(name for line in part for name in line))
        terminal.table(columns, [[_shown(line.get(name)) for name in columns] for line in part])


def _shown(value: object) -> object:
    return ", ".join(map(_item, value)) if isinstance(value, list) else value


def _item(item: object) -> str:
    if isinstance(item, dict):
        return " ".join(map(_item, item.values()))
    return f"{item:.4g}" if isinstance(item, float) else str(item)
