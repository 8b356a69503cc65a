"""Options of the commands that write a file of predictions."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import click

from nlpkit.bundle.forms import ENCODINGS

if TYPE_CHECKING:
    from collections.abc import Sequence


def _columns(given: Sequence[str]) -> tuple[str, ...]:
    """Names that are separated by commas as in a csv file, each once."""
    rows = csv.reader(given, skipinitialspace=True)
    names = tuple(dict.fromkeys(name.strip() for row in rows for name in row if name.strip()))
    if given and not names:
        raise click.BadParameter("names no column")
    return names


keep_option = click.option(
    "--keep",
    metavar="NAME,…",
    multiple=True,
    callback=lambda _, __, given: _columns(given),
    help="The input's columns that the output has too, ids say.",
)
encoding_option = click.option(
    "--encoding",
    type=click.Choice(ENCODINGS),
    default="utf-8",
    help="Of a csv or tsv; Excel wants utf-8-sig.",
)
