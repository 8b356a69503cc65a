"""What the documentation is made of: fenced blocks, tables, headings, links."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nlpkit.cli.main import CommandGroup
from nlpkit.plugin.host import Host

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
GUIDE = REPOSITORY / "docs" / "guide.md"
KEYS = REPOSITORY / "docs" / "keys.md"
INDEX = REPOSITORY / "docs" / "tasks" / "README.md"
PLUGINS = REPOSITORY / "docs" / "plugins.md"
TASKS = sorted({*(REPOSITORY / "docs" / "tasks").glob("*.md")} - {INDEX})
PAGES = [README, *sorted((REPOSITORY / "docs").rglob("*.md"))]

_BLOCK = re.compile(r'^( *)```(\w*)(?: title="(.+?)")?\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is (or ""), and what it holds."""

    language: str
    title: str
    text: str


@dataclass(frozen=True)
class Line:
    """A row of a table under its heading; `cells` have no back quotes."""

    heading: str
    cells: tuple[str, ...]


def blocks(page: Path, language: str = "") -> list[Block]:
    """The blocks of a page, of one language or of all."""
    found = [
        Block(match[2], match[3] or "", re.sub(rf"^{match[1]}", "", match[4], flags=re.MULTILINE))
        for match in _BLOCK.finditer(page.read_text("utf-8"))
    ]
    return [block for block in found if language in ("", block.language)]


def titled(page: Path) -> dict[str, str]:
    """The files that a page holds, by name."""
    return {block.title: block.text for block in blocks(page) if block.title}


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text("utf-8"))


def headings(page: Path) -> list[str]:
    """The headings, as they are written."""
    return re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)


def section(page: Path, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    after = re.split(rf"^#+ {re.escape(heading)}$", page.read_text("utf-8"), flags=re.MULTILINE)[1]
    return re.split(r"^#+ ", after, maxsplit=1, flags=re.MULTILINE)[0]


def table(page: Path) -> list[Line]:
    """All rows of all tables."""
    lines, heading = [], ""
    for line in prose(page).splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            cells = (cell.strip().replace("`", "") for cell in line.strip("|").split("|"))
            lines.append(Line(heading, tuple(cells)))
    return lines


def commands(text: str) -> list[str]:
    """The command lines of `nlpkit` in a block: without comments, pipes and redirections."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    parts = (part.strip() for line in lines for part in re.split(r"[|>]", line))
    return [part for part in parts if part.startswith("nlpkit ")]


def words(text: str) -> list[list[str]]:
    """The commands of a block of shell lines, as their words, without what joins them."""
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        reader = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        reader.whitespace_split = True
        command, redirected = list[str](), False
        for word in [*reader, ";"]:
            if set(word) <= set("();<>|&"):
                redirected = word == ">"
                found.append(command) if command and not redirected else None
                command = command if redirected else []
            elif not redirected:
                command.append(word)
    return found


def parsed(words: Sequence[str]) -> click.Context:
    """A command line of `nlpkit` as click reads it; an unknown command or option raises."""
    group = CommandGroup(Host.discover())
    command = group.get_command(click.Context(group), words[0])
    assert command is not None
    return command.make_context(words[0], list(words[1:]))
