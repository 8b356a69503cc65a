"""The gate of exports (law 6): what was written must say what the model says, or it is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlpkit.bundle.gate import answers, questions, read_answers
from nlpkit.config.resolve import build_objective
from nlpkit.environment import import_path, versions
from nlpkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nlpkit.bundle.gate import Answer, Case, Questions
    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Approximation, Artifact, Batch, Prediction, Row

_TOLERANCE = 1e-4
_RELATIVE = 1e-5  # of the largest value, where that is more: a regression on thousands
_TEXTS = 200  # are enough to compare numbers; rounded weights are judged by every text
_RUNTIMES = ("onnxruntime", "onnx", "onnxscript")


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """What the model and its export say to one case."""

    case: Case
    batch: Batch
    own: np.ndarray
    other: np.ndarray
    labels: list[tuple[Any, Any]]

    @property
    def difference(self) -> float:
        return float(np.abs(self.own - self.other).max())

    @property
    def tolerance(self) -> float:
        return max(_TOLERANCE, _RELATIVE * float(np.abs(self.own).max()))

    @property
    def shape(self) -> tuple[int, int]:
        batch, tokens = self.batch.inputs["input_ids"].shape
        return batch, tokens


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
        self.lengths: list[int] = []
        for row in rows:
            with suppress(DataError):
                batch = model.batch([row], targets=True)
                self.rows.append(row)
                self.lengths.append(batch.inputs["input_ids"].shape[1])
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
        rows = self.rows[::step]
        alone = _TEXTS if approximation else 0
        asked = questions(self.model, rows, self.lengths[::step], alone=alone)
        given, failures = _asked_elsewhere(asked, artifact.path)
        failures += [f"the exporter changed {name}" for name in changed]
        pairs = []
        for case, own, other in zip(asked.cases, answers(self.model, asked), given, strict=False):
            pair, fault = self._compared(case, own, other)
            pairs += [pair] if pair else []
            failures += [f"batch {len(case.rows)} × {_tokens(case)}: {fault}"] if fault else []
        report = self._report(pairs, len(rows))
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
        if own.inputs != other.inputs:
            return None, "its tokenizer gives other ids than the run's"
        if own.batch is None or own.logits is None:
            if case.length is not None and case.length < min(self.lengths):
                return None, ""  # no text is so short, and the model takes none that is
            return None, f"the model itself fails: {own.error}"
        if other.logits is None:
            return None, other.error
        if own.logits.shape != other.logits.shape:
            return None, f"logits of shape {other.logits.shape} instead of {own.logits.shape}"
        if not np.isfinite(other.logits).all():
            return None, "logits that are no finite numbers"
        ours, theirs = (
            [_label(each.row()) for each in self._decoded(case, logits, own.batch)]
            for logits in (own.logits, other.logits)
        )
        labels = list(zip(ours, theirs, strict=True))
        return _Pair(
            case=case, batch=own.batch, own=own.logits, other=other.logits, labels=labels
        ), ""

    def _decoded(self, case: Case, logits: np.ndarray, batch: Batch) -> list[Prediction]:
        try:
            return self.model.codec.decode({"logits": logits}, batch)
        except Exception:
            if case.length is None:
                raise
            return []  # to some tasks a batch that was cut makes no sense; its numbers are compared

    def _report(self, pairs: Sequence[_Pair], count: int) -> dict[str, Any]:
        texts = [pair for pair in pairs if pair.case.length is None and not pair.case.alone]
        return {
            "difference": max((pair.difference for pair in pairs), default=None),
            "agreement": _agreement(texts),
            "texts": count,
            "texts_difference": max((pair.difference for pair in texts), default=None),
            "shapes": [
                {
                    "batch": pair.shape[0],
                    "length": pair.shape[1],
                    "difference": pair.difference,
                    "agreement": _agreement([pair]),
                }
                for pair in pairs
                if pair.case.length is not None
            ],
            "versions": versions(*_RUNTIMES),
        }

    def _metric(self, pairs: Sequence[_Pair], rows: Sequence[Row]) -> dict[str, Any]:
        """The task's first metric on the rows, before and after."""
        objective = build_objective(self.model.bundle.task, self.model.host, self.schema)
        before, after = (self.model.codec.metrics()[0] for _ in range(2))
        for pair in pairs:
            if pair.case.length is not None or pair.case.alone:
                continue
            batch = self.model.batch([rows[place] for place in pair.case.rows], targets=True)
            targets = {name: torch.as_tensor(value) for name, value in batch.targets.items()}
            counts = None if batch.rows is None else torch.as_tensor(batch.rows)
            for metric, logits in ((before, pair.own), (after, pair.other)):
                output = objective.output(torch.from_numpy(logits), targets, counts)
                metric.update(output.numpy(), batch)
        name, better = next(iter(before.better.items()))
        values = [metric.compute(metric.state)[name] for metric in (before, after)]
        return {"name": name, "better": better, "before": values[0], "after": values[1]}


def _asked_elsewhere(asked: Questions, export: Path) -> tuple[list[Answer], list[str]]:
    """The answers of a fresh process, or why there are none."""
    with TemporaryDirectory() as folder:
        asked.save(Path(folder))
        done = subprocess.run(
            [sys.executable, "-P", "-m", "nlpkit.bundle.gate", str(export), folder],
            env={**os.environ, "PYTHONPATH": import_path()},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode == 0:
            return read_answers(Path(folder), asked), []
    last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return [], [f"a fresh process cannot load it: {last[0]}"]


def _tokens(case: Case) -> str:
    return f"length {case.length}" if case.length is not None else "its texts"


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
        where = "batch {} × length {}".format(*pair.shape)
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
