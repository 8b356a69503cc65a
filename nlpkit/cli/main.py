"""The command `nlpkit`: commands come from records, so that help imports none of them.

Every command is given the `Terminal` as its click object (`@click.pass_obj`) and raises what is
wrong; the exit code is made here: 0 done, 1 the run failed, 2 the user's input is at fault, 128 and
a signal's number where that ended it. What the system refuses (a full disk, no permission) is an
error of one line; any other exception that is none of ours is a bug and keeps its traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli.render import Terminal, nowhere, silence, spell, typed
from nlpkit.environment import working_folder
from nlpkit.errors import InputError, Interrupted, NlpkitError, PluginError, RunError, of_system
from nlpkit.plugin.host import Host, load
from nlpkit.plugin.records import CommandRecord
from nlpkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line (default: this process's) and returns its exit code."""
    return exit_code(lambda terminal: _run(arguments, terminal))


def exit_code(run: Callable[[Terminal], int]) -> int:
    """Runs something as a command is run, whatever it raises, and returns its exit code."""
    sys.stdout = sys.stdout or nowhere()  # None where it was closed: `>&-`
    sys.stderr = sys.stderr or nowhere()
    spell(sys.stdout, sys.stderr)
    terminal = Terminal()
    try:
        return _code(run, terminal)
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:  # it is the output itself
            silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # the reader of our output has left, `head` say
            terminal.error(RunError(of_system(error)))
        return 1


def _code(run: Callable[[Terminal], int], terminal: Terminal) -> int:
    try:
        code = run(terminal)
        sys.stdout.flush()
        return code
    except Interrupted as error:
        terminal.note(typed(str(error)))
        return 128 + error.signal
    except NlpkitError as error:
        terminal.error(error)
        return 2 if isinstance(error, InputError) else 1
    except UnicodeEncodeError as error:
        if sys.getfilesystemencoding() == "utf-8":
            raise
        remedy = "set PYTHONUTF8=1, or a locale that is UTF-8"
        terminal.error(InputError(f"{error.object}: this locale has no such names; {remedy}"))
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130


def _run(arguments: Sequence[str] | None, terminal: Terminal) -> int:
    if "_NLPKIT_COMPLETE" in os.environ:
        importlib.import_module("nlpkit.commands.complete")  # how bash does it
    group = CommandGroup(Host.discover())
    working_folder()
    args = None if arguments is None else list(arguments)
    result = group.main(args, prog_name="nlpkit", standalone_mode=False, obj=terminal)
    return result if isinstance(result, int) else 0  # --help, --version and ctx.exit give a code


_OTHERS = CommandRecord.group  # those of plugins that name no group come last


class CommandGroup(click.Group):
    """All commands of a host; each is imported when it is called.

    Attributes:
        host: As it was found at the start.
    """

    def __init__(self, host: Host) -> None:
        options, message = ("-V", "--version"), "nlpkit %(version)s"
        version = click.version_option(__version__, *options, message=message)
        super().__init__(
            name="nlpkit",
            help="Train Transformer NLP models exactly: one config, plugins for the rest.",
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        version(self)
        self.host = host

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which plugins give them."""
        return list(dict.fromkeys(entry.record.name for entry in self.host.entries("command")))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """The command of a name. Raises PluginError where there is none, or a broken one."""
        record = self.host.entry("command", cmd_name).record
        command: Any = load(record, record.target)
        if not isinstance(command, click.Command):
            raise PluginError(f'command "{cmd_name}": {record.target} is no click command')
        if not command.epilog and (example := getattr(record, "example", "")):
            command.epilog = f"\b\nExample:\n  {example}"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes names, summaries and examples by group, from the records alone."""
        groups: dict[str, list[tuple[str, str]]] = {}
        records = {entry.record.name: entry.record for entry in self.host.entries("command")}
        width = max(map(len, records))
        for name, record in records.items():
            lines = groups.setdefault(getattr(record, "group", ""), [])
            lines.append((name.ljust(width), record.summary))
            if example := getattr(record, "example", ""):
                lines.append(("", example))
        for group, lines in sorted(groups.items(), key=lambda each: each[0] == _OTHERS):
            with formatter.section(group):
                formatter.write_dl(lines)
