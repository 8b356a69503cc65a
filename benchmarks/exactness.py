"""Writes docs/exactness.md: laws 1 and 5, measured here and now (`make exactness`)."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import OBJECTIVES, PARTIAL_MICRO_BATCHES, free_port
from nlpkit_strategies.data_parallel import DataParallel
from tests.laws.cases import CASES, DTYPES
from tests.laws.experiment import LIMITS, MICRO_BATCHES, RANKS, differences, run_ranks

PAGE = Path(__file__).parents[1] / "docs" / "exactness.md"
COLUMNS = [(ranks, micro) for ranks in RANKS for micro in MICRO_BATCHES]
PARTIAL = [(ranks, micro) for ranks in (1, 2) for micro in PARTIAL_MICRO_BATCHES]
PEERS = {
    "benchmarks.peer_nlpkit": ("nlpkit",),
    "benchmarks.peer_transformers": (
        "transformers, BERT",
        "transformers, own module",
        "transformers, compute_loss_func",
    ),
    "benchmarks.peer_lightning": ("lightning",),
}
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
weight of its own. "windows" has both weights, and samples of one to four windows; "token" counts
words, some of whose texts come in windows, and one text has none that counts. The column
"data_parallel" is `strategy: data_parallel` on two GPUs, the largest of its three
micro-batches{data_parallel}.

Made by `make exactness` with {versions}.
"""
BESIDE = """
## Beside other trainers

The same rows, the same Transformer in float32, the same plain loop, with transformers' `Trainer`
and Lightning's. Gradient accumulation stands for micro-batches, `torchrun`'s environment over gloo
for ranks. A recording optimizer takes the gradient that a step would have used. Their settings are
the defaults, except that rows come in order, and that transformers' clipping (on by default) is
off, for it would hide the scale. Weights of rows are left out: neither has a place for them.
"tokens" is token classification, with -100 where a token does not count. The lines:

- **nlpkit**: `train.batch_size: 16`, `train.micro_batch_size`, `strategy.devices`.
- **transformers, BERT**: `BertForSequenceClassification` and `BertForTokenClassification` (2 layers
  of 16) with their own loss. "class weights" overrides `compute_loss`, returns a weighted mean and
  sets `loss_is_scaled_for_ga = False`, as the Trainer's documentation says.
- **transformers, own module**: a module that returns its mean loss and takes no further keywords.
- **transformers, compute_loss_func**: the option that was made for this. It is given the sum over
  the batch divided by `num_items_in_batch`, the labels of the whole step over all ranks. "class
  weights" is held to the same formula here, the mean over labels, not over weights.
- **lightning**: a `LightningModule` whose `training_step` returns the mean loss.

Each cell is |g − g′| / |g| and, where that is over {limit:g}, the ratio |g′| / |g|. A column is
ranks × micro-batch. "half" is the last step of an epoch of 24 rows, which holds 8 of them; on 3
ranks no batch of a peer has 16 samples, so it is left out there. Where ranks cannot get the same
number of samples or of batches (3 ranks; for transformers also 2 × 3), the peers repeat samples
until they do, as at the end of an epoch.
"""
EVALUATION = """
## Evaluation

13 rows, 4 a batch, objective "class": the samples that were counted, the loss relative to that of
all rows at once, and the accuracy. transformers is asked by `Trainer.evaluate` and
`compute_metrics`; Lightning by `Trainer.validate`, with `self.log(…, sync_dist=True)`.
"""


def main() -> None:
    """Runs every case and writes the page; fails if one of nlpkit's is over its limit."""
    rows = [row for ranks in RANKS for row in run_ranks("tests.laws.experiment", ranks)]
    parallel = _data_parallel()
    text = HEAD.format(
        limits=" and ".join(f"{limit:g} in {dtype}" for dtype, limit in LIMITS.items()),
        data_parallel="" if parallel else '; "not run" means that there are no two GPUs here',
        versions=_versions("torch", "transformers", "accelerate", "lightning"),
    )
    for dtype in DTYPES:
        text += f"\n## {dtype}\n\n{_law_table(rows, parallel, dtype)}"
    loss = max(row["loss"] for row in rows)
    text += (
        f"\nThe logged loss differs by at most {loss:.1e} (relative) in all {len(rows)} cases.\n"
    )
    peers, failures = _peers()
    text += BESIDE.format(limit=LIMITS["float32"])
    for objective in OBJECTIVES:
        text += f"\n### {objective}\n\n{_peer_table(peers, objective)}"
    text += _reading(peers) + EVALUATION + f"\n{_evaluation_table(peers)}"
    text += "".join(f"\n{failure}\n" for failure in failures)
    PAGE.write_text(text, encoding="utf-8")
    print(text)
    own = [{**row, "dtype": "float32"} for found in peers.values() for row in found["nlpkit"]]
    over = [row for row in rows + parallel + own if row["gradient"] >= LIMITS[row["dtype"]]]
    if over:
        raise SystemExit(f"over the limit: {over}")


def _data_parallel() -> list[dict[str, Any]]:
    """Law 1 on two GPUs of one process; [] where there are none."""
    if torch.cuda.device_count() < 2:
        return []
    return differences(DataParallel([torch.device("cuda", 0), torch.device("cuda", 1)]))


def _peers() -> tuple[dict[int, dict[str, Any]], list[str]]:
    """What was found by number of ranks and line of the tables; and why something could not run."""
    found: dict[int, dict[str, Any]] = {ranks: {"evaluation": {}} for ranks in RANKS}
    failures = []
    for module, lines in PEERS.items():
        for ranks in RANKS:
            print(f"{module}, ranks: {ranks}", flush=True)
            try:
                results = run_ranks(module, ranks, free_port())
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                if lines == ("nlpkit",):
                    raise
                reason = str(error).strip().splitlines()[-1]
                failures.append(f"Not run: {', '.join(lines)} on {ranks} ranks: `{reason}`.")
                continue
            evaluations = found[ranks]["evaluation"] | results["evaluation"]
            found[ranks] |= results | {"evaluation": evaluations}
    return found, failures


def _law_table(rows: list[dict[str, Any]], parallel: list[dict[str, Any]], dtype: str) -> str:
    titles = [f"{ranks} × {micro}" for ranks, micro in COLUMNS]
    lines = _header(["objective \\ ranks × micro-batch", *titles, "data_parallel"])
    for objective in CASES:
        found = [row for row in rows if (row["objective"], row["dtype"]) == (objective, dtype)]
        of_gpus = [
            row for row in parallel if (row["objective"], row["dtype"]) == (objective, dtype)
        ]
        splits = [
            [row for row in found if (row["ranks"], row["micro_batch"]) == c] for c in COLUMNS
        ]
        cells = [_worst(split) for split in splits] + [_worst(of_gpus)]
        lines.append(f"| {objective} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _worst(rows: list[dict[str, Any]]) -> str:
    return f"{max(row['gradient'] for row in rows):.1e}" if rows else "not run"


def _peer_table(peers: dict[int, dict[str, Any]], objective: str) -> str:
    titles = [f"{ranks} × {micro}" for ranks, micro in COLUMNS]
    titles += [f"half, {ranks} × {micro}" for ranks, micro in PARTIAL]
    lines = _header(["", *titles])
    for line in (line for names in PEERS.values() for line in names):
        cells = [_cell(peers, line, objective, "whole", *column) for column in COLUMNS]
        cells += [_cell(peers, line, objective, "partial", *column) for column in PARTIAL]
        lines.append(f"| {line} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(peers: dict[int, dict[str, Any]], *which: Any) -> str:
    row = _row(peers, *which)
    if row is None:
        return "not run"
    cell = f"{row['gradient']:.1e}" if row["gradient"] else "0"
    return cell if row["gradient"] < LIMITS["float32"] else f"{cell} (×{row['ratio']:.3g})"


def _row(
    peers: dict[int, dict[str, Any]], line: str, objective: str, kind: str, ranks: int, micro: int
) -> dict[str, Any] | None:
    wanted = {"objective": objective, "window": kind, "asked": micro}
    found = peers[ranks].get(line, ())
    return next((row for row in found if wanted.items() <= row.items()), None)


def _reading(peers: dict[int, dict[str, Any]]) -> str:
    """Why the peers differ; each sentence only where its number was found."""

    def ratio(line: str, objective: str, kind: str, ranks: int, micro: int) -> float:
        row = _row(peers, line, objective, kind, ranks, micro)
        return row["ratio"] if row else float("nan")

    heads = [ratio("transformers, BERT", "class", "whole", *column) for column in ((1, 1), (2, 16))]
    half = ratio("lightning", "class", "partial", 1, 4)
    tokens = _row(peers, "transformers, own module", "tokens", "whole", 1, 1)
    summed = _row(peers, "transformers, compute_loss_func", "tokens", "whole", 1, 1)
    lines = []
    if min(heads) > 1.5:
        lines.append(
            f"""
- An accumulation of 16 multiplies the gradient of a BERT head by {heads[0]:.3f}, and 2 ranks by
  {heads[1]:.3f}. The heads take the Trainer's keywords without using them, and the Trainer takes
  that for a loss that is divided by `num_items_in_batch`
  ([transformers#47688](https://github.com/huggingface/transformers/issues/47688))."""
        )
    if tokens and tokens["gradient"] > LIMITS["float32"]:
        lines.append(
            """
- A mean of means is the mean only where every part counts the same: not with class weights, not
  with tokens, and not with a last part that is smaller."""
        )
    if summed and summed["gradient"] < LIMITS["float32"]:
        lines.append("\n- `compute_loss_func` is exact wherever the samples divide evenly.")
    if half < 0.9:
        lines.append(
            f"""
- Lightning divides a partial window by the whole accumulation: {half:.3f} of the gradient in an
  epoch's last step, where 2 of 4 micro-batches are left."""
        )
    return "\nWhat they come to:\n" + "".join(lines) + "\n" if lines else ""


def _evaluation_table(peers: dict[int, dict[str, Any]]) -> str:
    lines = _header(["", "ranks", "samples", "loss, relative", "accuracy", "accuracy of all rows"])
    for line in (line for names in PEERS.values() for line in names):
        for ranks in RANKS:
            if row := peers[ranks]["evaluation"].get(line):
                truth = row["truth"]
                lines.append(
                    f"| {line} | {ranks} | {row['samples']:.0f} of {truth['samples']} "
                    f"| {row['loss'] / truth['loss']:.5f} | {row['accuracy']:.5f} "
                    f"| {truth['accuracy']:.5f} |"
                )
    return "\n".join(lines) + "\n"


def _header(titles: list[str]) -> list[str]:
    return [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]


def _versions(*packages: str) -> str:
    found = []
    for package in packages:
        try:
            found.append(f"{package} {metadata.version(package).split('+')[0]}")
        except metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return f"{', '.join(found)} on Python {platform.python_version()}"


if __name__ == "__main__":
    main()
