"""`nlpkit init`: writes a starter project."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nlpkit.config.resolve import build
from nlpkit.config.schema import Component
from nlpkit.contracts import Row
from nlpkit.errors import InputError
from nlpkit.files import check_local
from nlpkit.plugin.host import Host

if TYPE_CHECKING:
    from nlpkit.cli.render import Terminal
    from nlpkit.contracts import Source


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.pass_obj
def command(terminal: Terminal, folder: Path) -> None:
    """Write a starter project into DIR (the working folder): a config with every option, and data.

    No file is overwritten.
    """
    check_local(folder, "DIR")
    contents = _contents(folder.resolve().name)
    taken = [name for name in contents if os.path.lexists(folder / name)]
    if taken:
        raise InputError(f"{folder}: {', '.join(taken)} exist already; name another folder")
    try:
        for name, content in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8", newline="")
            terminal.say(str(folder / name))
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}; name another folder") from None
    terminal.say("\nNext:")
    if folder != Path():
        terminal.say(f"  cd {shlex.quote(str(folder))}")
    terminal.say("  nlpkit check config.yaml")
    terminal.say("  nlpkit train config.yaml")


def _contents(name: str) -> dict[str, str]:
    """The text of every file, by its path."""
    config, readme, image = map(_starter, ("config.yaml", "README.md", "Dockerfile"))
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) and name not in ("true", "false", "null"):
        config = re.sub(r"^name: starter *", f"name: {name}".ljust(31), config, flags=re.MULTILINE)
        readme = readme.replace("runs/starter", f"runs/{name}")
        image = re.sub(r"starter\b", name.lower(), image)
    source: Source = build(Component(name="sample"), "source", Host.discover())
    return {
        "config.yaml": config,
        "README.md": readme,
        ".gitignore": _starter("gitignore"),
        "Dockerfile": image,
        ".dockerignore": _starter("dockerignore"),
        "notebooks/starter.ipynb": _of_project(_starter("starter.ipynb")),
        "data/train.csv": _csv(source, "train"),
        "data/test.csv": _csv(source, "test"),
    }


def _starter(name: str) -> str:
    return (files("nlpkit") / "commands" / "starter" / name).read_text(encoding="utf-8")


def _of_project(notebook: str) -> str:
    """The notebook, with the training of the project's config in the place of its own."""
    written = json.loads(notebook)
    title, training = written["cells"][:2]
    title["source"] = [
        "# Train, look, predict\n",
        "\n",
        "This trains what `config.yaml` describes, as `nlpkit train config.yaml` does.",
    ]
    own, of_config = r"run = nlpkit\.train\(.*?\n\)", 'run = nlpkit.train("../config.yaml")'
    code = re.sub(own, of_config, "".join(training["source"]), flags=re.DOTALL)
    runs = 'import os\n\nos.environ.setdefault("NLPKIT_RUNS", "../runs")\n\n'
    training["source"] = (runs + code).splitlines(keepends=True)
    return json.dumps(written, indent=1, ensure_ascii=False) + "\n"


def _csv(source: Source, split: str) -> str:
    """The bundled rows of a split as a csv file."""
    location = source.default(split)
    found = source.rows(location) if location else ()
    rows = [row.values for row in found if isinstance(row, Row)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
