"""The gate of exports (law 6): what was written must say what the model says, or it is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlpkit.bundle.gate import answers, questions, read_answers
from nlpkit.bundle.predict import sizes_of
from nlpkit.config.resolve import build_objective
from nlpkit.environment import import_path, versions
from nlpkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nlpkit.bundle.gate import Answer, Case
    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Approximation, Arrays, Artifact, Batch, Row

_TOLERANCE = 1e-4
_RELATIVE = 1e-5  # of the largest value, where that is more: a regression on thousands
_TEXTS = 200  # are enough to compare numbers; rounded weights are judged by every text
_RUNTIMES = ("onnxruntime", "onnx", "onnxscript")
_NAMES = {"rows": "batch", "tokens": "length"}


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """What the model and its export say to one case.

    Attributes:
        case: The case.
        sizes: Of the axes of what they were given, by name.
        difference: How far apart they are, in the output that is the worst for its tolerance.
        tolerance: Of that output.
        labels: Of texts: what the two predict, without numbers.
        outputs: Of texts: what came out of the two.
    """

    case: Case
    sizes: Mapping[str, int]
    difference: float
    tolerance: float
    labels: Sequence[tuple[Any, Any]] = ()
    outputs: Sequence[Arrays] = ()


class Gate:
    """Judges exports by the texts of a run's validation rows.

    Args:
        model: The run's, on torch, on the CPU, in fp32.
        rows: Real rows; those that the task cannot encode are left out.

    Raises:
        DataError: No row is left.
    """

    def __init__(self, model: Model, rows: Iterable[Row]) -> None:
        self.model, self.schema = model, model.bundle.schema
        self.rows: list[Row] = []
        self.sizes: list[dict[str, int]] = []
        for row in rows:
            with suppress(DataError):
                batch = model.batch([row], targets=True)
                self.rows.append(row)
                self.sizes.append(self._sizes(batch))
        if not self.rows:
            raise DataError("", problem="there are no validation rows to judge an export by")

    def judge(self, artifact: Artifact, changed: Sequence[str]) -> dict[str, Any]:
        """What parity.json says; its "failures" are empty where the export may stay.

        Args:
            artifact: A sealed export.
            changed: What was there before the exporter wrote, and is not as it was.
        """
        approximation = artifact.approximation
        step = 1 if approximation else -(-len(self.rows) // _TEXTS)
        rows, sizes = self.rows[::step], self.sizes[::step]
        alone = _TEXTS if approximation else 0
        pairs = []
        with TemporaryDirectory() as folder:
            asked = questions(self.model, rows, sizes, Path(folder), alone=alone)
            failures = _asked_elsewhere(artifact.path, folder)
            given = iter(()) if failures else read_answers(asked)
            failures += [f"the exporter changed {name}" for name in changed]
            for case, other, own in zip(
                asked.cases, given, answers(self.model, asked), strict=False
            ):
                pair, fault = self._compared(case, own, other)
                pairs += [pair] if pair else []
                failures += [fault] if fault else []
        report = _report(pairs, len(rows))
        if approximation and not failures:
            report["metric"] = metric = self._metric(pairs, rows)
            report["agreement_alone"] = _agreement(pair for pair in pairs if pair.case.alone)
            for agreement in (report["agreement"], report["agreement_alone"]):
                failures += _disagreements(agreement, approximation)
            failures += _losses(metric, approximation)
        elif not failures:
            failures += _deviations(pairs)
        return {"passed": not failures, "failures": failures, **report}

    def _compared(self, case: Case, own: Answer, other: Answer) -> tuple[_Pair | None, str]:
        """Two answers side by side, or what keeps them from being compared."""
        sizes = self._sizes(own.batch) if own.batch else case.sizes
        shortest = min(each.get("tokens", 0) for each in self.sizes)
        if own.error and case.graph and sizes.get("tokens", 0) < shortest:
            return None, ""  # no text is so short, and the model takes none that is
        if fault := _fault(own, other):
            return None, f"{_where(case, sizes)}: {fault}"
        difference, tolerance = max(
            (_apart(own.outputs[name], other.outputs[name]) for name in own.outputs),
            key=lambda each: each[0] / each[1],
        )
        pair = _Pair(case=case, sizes=sizes, difference=difference, tolerance=tolerance)
        if not own.batch:
            return pair, ""
        outputs = own.outputs, other.outputs
        ours, theirs = (
            [_label(each.row()) for each in self.model.codec.decode(found, own.batch)]
            for found in outputs
        )
        return replace(pair, labels=list(zip(ours, theirs, strict=True)), outputs=outputs), ""

    def _sizes(self, batch: Batch) -> dict[str, int]:
        return sizes_of(self.model.codec.inputs, batch.inputs)

    def _metric(self, pairs: Sequence[_Pair], rows: Sequence[Row]) -> dict[str, Any]:
        """The task's first metric on the rows, before and after."""
        objective = build_objective(self.model.bundle.task, self.model.host, self.schema)
        before, after = (self.model.codec.metrics()[0] for _ in range(2))
        for pair in pairs:
            if pair.case.graph or pair.case.alone:
                continue
            batch = self.model.batch([rows[place] for place in pair.case.rows], targets=True)
            targets = {name: torch.as_tensor(value) for name, value in batch.targets.items()}
            counts = None if batch.rows is None else torch.as_tensor(batch.rows)
            for metric, outputs in zip((before, after), pair.outputs, strict=True):
                output = objective.output(torch.from_numpy(outputs["logits"]), targets, counts)
                metric.update(output.numpy(), batch)
        name, better = next(iter(before.better.items()))
        values = [metric.compute(metric.state)[name] for metric in (before, after)]
        return {"name": name, "better": better, "before": values[0], "after": values[1]}


def _asked_elsewhere(export: Path, folder: str) -> list[str]:
    """Lets a fresh process answer the questions in a folder; gives why it could not."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "nlpkit.bundle.gate", str(export), folder],
        env={**os.environ, "PYTHONPATH": import_path()},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return []
    last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return [f"a fresh process cannot load it: {last[0]}"]


def _fault(own: Answer, other: Answer) -> str:
    """What keeps two answers from being compared, or ""."""
    if own.inputs != other.inputs:
        return "its tokenizer gives other ids than the run's"
    if own.error:
        return f"the model itself fails: {own.error}"
    if other.error:
        return other.error
    for name, array in own.outputs.items():
        found = other.outputs[name]
        if array.shape != found.shape:
            return f"{name} of shape {found.shape} instead of {array.shape}"
        if not (np.isfinite(array).all() and np.isfinite(found).all()):
            return f"{name} that are no finite numbers"
    return ""


def _apart(own: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The largest difference of two arrays, and how large it may be."""
    largest = float(np.abs(own).max(initial=0))
    difference = float(np.abs(np.subtract(own, other, dtype=np.float64)).max(initial=0))
    return difference, max(_TOLERANCE, _RELATIVE * largest)


def _where(case: Case, sizes: Mapping[str, int]) -> str:
    graph = f"{case.graph}, " if case.graph not in ("", "model") else ""
    return graph + " × ".join(f"{_NAMES.get(axis, axis)} {size}" for axis, size in sizes.items())


def _report(pairs: Sequence[_Pair], count: int) -> dict[str, Any]:
    texts = [pair for pair in pairs if not (pair.case.graph or pair.case.alone)]
    return {
        "difference": max((pair.difference for pair in pairs), default=None),
        "agreement": _agreement(texts),
        "texts": count,
        "texts_difference": max((pair.difference for pair in texts), default=None),
        "shapes": [
            {
                "graph": pair.case.graph,
                **{_NAMES.get(axis, axis): size for axis, size in pair.sizes.items()},
                "difference": pair.difference,
            }
            for pair in pairs
            if pair.case.graph
        ],
        "versions": versions(*_RUNTIMES),
    }


def _label(said: Any) -> Any:
    """What a prediction says without its numbers, at any depth."""
    if isinstance(said, dict):
        return {name: _label(each) for name, each in said.items() if not isinstance(each, float)}
    if isinstance(said, list | tuple):
        return [_label(each) for each in said if not isinstance(each, float)]
    return said


def _agreement(pairs: Iterable[_Pair]) -> float | None:
    """The share of predictions with the same label; None where there are no labels."""
    labels = [label for pair in pairs for label in pair.labels]
    if not any(own for own, _ in labels):
        return None
    return float(np.mean([own == other for own, other in labels]))


def _deviations(pairs: Iterable[_Pair]) -> Iterator[str]:
    """What is too far from the model's numbers."""
    for pair in pairs:
        where = _where(pair.case, pair.sizes)
        if not pair.difference <= pair.tolerance:
            yield f"{where}: differs by {pair.difference:.2g}, more than {pair.tolerance:.2g}"
        elif others := sum(own != other for own, other in pair.labels):
            yield f"{where}: {others} of {len(pair.labels)} labels differ"


def _disagreements(agreement: float | None, allowed: Approximation) -> Iterator[str]:
    """Labels that rounding has changed, where those are more than allowed."""
    if agreement is not None and agreement < allowed.min_agreement:
        yield f"{agreement:.2%} of the labels stay, less than {allowed.min_agreement:.2%}"


def _losses(metric: dict[str, Any], allowed: Approximation) -> Iterator[str]:
    """What rounding has cost, where that is more than allowed."""
    before, after = metric["before"], metric["after"]
    drop = before - after if metric["better"] == "higher" else (after - before) / (before or 1)
    if not drop <= allowed.max_drop:
        yield (
            f"{metric['name']} goes from {before:.4f} to {after:.4f}, which is worse by more than "
            f"{allowed.max_drop:g}"
        )
