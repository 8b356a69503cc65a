"""Writes docs/exactness.md: the proof of law 1, measured here and now (`make exactness`)."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from tests.laws.experiment import CASES, DTYPES, LIMITS, MICRO_BATCHES, RANKS, run_ranks

PAGE = Path(__file__).parents[1] / "docs" / "exactness.md"
HEAD = """# Exactness

The gradient of an optimizer step does not depend on how its batch is split. `train.batch_size` is
the number of samples per step; micro-batches and ranks only say who computes which part. An
objective gives a sum, every micro-batch carries the count that it stands for, one small all-reduce
tells the count of the whole batch before the first forward pass, and every rank divides by it.

The experiment: one step of the from-scratch Transformer (2 layers of 16, dropout off) over 16
samples of 1 to 39 tokens and weights between 0 and 7, split into micro-batches of 1, 3 and 16
samples on 1, 2 and 3 ranks (DDP over gloo, `no_sync` until the last micro-batch); and again over 2
samples, where the third rank has nothing. Compared with a plain PyTorch loop that feeds the whole
batch at once and takes the mean by a formula of its own. The figure is |g − g′| / |g| over the
whole gradient vector, the larger of the two batches; the limit is {limits}.
"token-weighted" is a toy objective of the tests: cross-entropy over the counted tokens, each with a
weight of its own.

Made by `make exactness` with torch {torch} on Python {python}.
"""


def main() -> None:
    """Runs every case and writes the page; fails if one is over its limit."""
    rows = [row for ranks in RANKS for row in run_ranks("tests.laws.experiment", ranks)]
    text = HEAD.format(
        limits=" and ".join(f"{limit:g} in {dtype}" for dtype, limit in LIMITS.items()),
        torch=torch.__version__.split("+")[0],
        python=platform.python_version(),
    )
    for dtype in DTYPES:
        text += f"\n## {dtype}\n\n{_table([row for row in rows if row['dtype'] == dtype])}"
    loss = max(row["loss"] for row in rows)
    text += (
        f"\nThe logged loss differs by at most {loss:.1e} (relative) in all {len(rows)} cases.\n"
    )
    PAGE.write_text(text, encoding="utf-8")
    print(text)
    over = [row for row in rows if row["gradient"] >= LIMITS[row["dtype"]]]
    if over:
        raise SystemExit(f"over the limit: {over}")


def _table(rows: list[dict[str, Any]]) -> str:
    columns = [(ranks, micro) for ranks in RANKS for micro in MICRO_BATCHES]
    titles = [f"{ranks} × {micro}" for ranks, micro in columns]
    lines = ["| objective \\ ranks × micro-batch | " + " | ".join(titles) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for objective in CASES:
        found = {
            (ranks, micro): max(
                row["gradient"]
                for row in rows
                if (row["objective"], row["ranks"], row["micro_batch"]) == (objective, ranks, micro)
            )
            for ranks, micro in columns
        }
        lines.append(
            f"| {objective} | " + " | ".join(f"{found[key]:.1e}" for key in columns) + " |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
