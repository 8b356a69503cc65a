"""How a run and a model show themselves in a notebook: small tables of HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST = 30
"""Labels that are shown in a table; a matrix of more is not."""


def of_result(result: Mapping[str, Any]) -> str:
    """What result.json holds: metrics by split; of each its labels, and what was taken for what."""
    metrics, details = result["metrics"], result["details"]
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    rows = [[name, *(values.get(name) for values in metrics.values())] for name in names]
    parts = [_table(["", *metrics], rows)]
    for split, found in details.items():
        if labels := (found or {}).get("per_class"):
            cells = [list(each.values()) for each in labels[:LONGEST]]
            more = f", {len(labels) - LONGEST:,} more are in result.json"
            title = f"{split}: labels{more if len(labels) > LONGEST else ''}"
            parts.append(_folded(title, _table(list(labels[0]), cells)))
        matrix = (found or {}).get("confusion_matrix", {})
        if "rows" in matrix and len(matrix["labels"]) <= LONGEST:
            named = zip(matrix["labels"], matrix["rows"], strict=True)
            table = _table(["", *matrix["labels"]], [[label, *counts] for label, counts in named])
            parts.append(
                _folded(f"{split}: confusion matrix, truth down, prediction across", table)
            )
    return "".join(parts)


def pairs(named: Mapping[str, Any]) -> str:
    """A table of names and what stands for each."""
    left = '<td style="text-align: left">'  # notebooks set cells at the right, for numbers
    rows = (
        f"<tr><th>{_cell(name)}</th>{left}{_cell(each)}</td></tr>" for name, each in named.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{_cell(name)}</th>" for name in columns)
    body = (
        f"<tr><th>{_cell(first)}</th>{''.join(f'<td>{_cell(each)}</td>' for each in rest)}</tr>"
        for first, *rest in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{_cell(title)}</summary>{content}</details>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else escape(str(value))
