"""The gate of exports (law 6): what was written must say what the model says, or it is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from nlpkit.bundle.gate import answers, questions, read_answers
from nlpkit.bundle.grid import axes_of
from nlpkit.bundle.load import load
from nlpkit.config.resolve import build_objective
from nlpkit.data.encode import in_pieces
from nlpkit.engine.generate import Steps, sizes_of
from nlpkit.environment import import_path, versions
from nlpkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nlpkit.bundle.gate import Answer, Case
    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Approximation, Arrays, Artifact, Batch, Engine, Row

_TOLERANCE = 1e-4
_RELATIVE = 1e-5  # of the largest value, where that is more: a regression on thousands
_TEXTS = 200  # are enough to compare numbers; rounded weights are judged by every text
_NAMES = {"rows": "batch", "tokens": "length"}


class _Pair(NamedTuple):
    """What the model and its export say to one case.

    Attributes:
        case: The case.
        sizes: Of the axes of what they were given, by the names that people see.
        difference: How far apart they are, in the output that is the worst for its tolerance.
        tolerance: Of that output.
        labels: Of texts: what the two predict, without numbers.
    """

    case: Case
    sizes: Mapping[str, int]
    difference: float
    tolerance: float
    labels: Sequence[tuple[Any, Any]]


class Gate:
    """Judges exports by the texts of a run's validation rows.

    Args:
        model: The run's, on torch, on the CPU, in fp32.
        rows: Real rows; those that the task cannot encode or predict are left out.

    Raises:
        DataError: No row is left.
    """

    def __init__(self, model: Model, rows: Iterable[Row]) -> None:
        self.model = model
        self.rows: list[Row] = []
        self.sizes: list[dict[str, int]] = []
        for row in rows:
            with suppress(DataError):
                row, batch = _predictable(model, row)
                self.rows.append(row)
                self.sizes.append(sizes_of(model.codec.inputs, batch.inputs))
        if not self.rows:
            raise DataError("", problem="there are no validation rows to judge an export by")

    def judge(self, artifact: Artifact, changed: Sequence[str]) -> dict[str, Any]:
        """What parity.json says; its "failures" are empty where the export may stay.

        Args:
            artifact: A sealed export.
            changed: What was there before the exporter wrote, and is not as it was.
        """
        allowed = artifact.approximation
        step = 1 if allowed else -(-len(self.rows) // _TEXTS)
        rows, sizes = self.rows[::step], self.sizes[::step]
        with TemporaryDirectory() as temporary:
            folder, alone = Path(temporary), _TEXTS if allowed else 0
            cases = questions(self.model, rows, sizes, folder, alone=alone)
            failures = _asked_elsewhere(artifact.path, folder)
            given = iter(()) if failures else read_answers(folder)
            together = zip(cases, given, answers(self.model, folder), strict=False)
            found = [self._compared(*each, exact=not allowed) for each in together]
        failures += [f"the exporter changed {name}" for name in changed]
        failures += [each for each in found if isinstance(each, str)]
        pairs = [each for each in found if isinstance(each, _Pair)]
        texts = [pair for pair in pairs if not (pair.case.graph or pair.case.alone)]
        report = {
            "difference": max((pair.difference for pair in pairs), default=None),
            "agreement": _agreement(texts),
            "texts": len(rows),
            "texts_difference": max((pair.difference for pair in texts), default=None),
            "shapes": [
                {"graph": pair.case.graph, **pair.sizes, "difference": pair.difference}
                for pair in pairs
                if pair.case.graph
            ],
            "versions": versions("onnxruntime", "onnx", "onnxscript"),
        }
        if allowed and not failures:
            batches = ([rows[place] for place in pair.case.rows] for pair in texts)
            report["metric"] = self._metric(artifact.path, batches)
            report["agreement_alone"] = _agreement(pair for pair in pairs if pair.case.alone)
            failures += _losses(report, allowed)
        elif not failures:
            failures += _deviations(pairs)
        return {"passed": not failures, "failures": failures, **report}

    def _compared(
        self, case: Case, other: Answer, own: Answer, *, exact: bool
    ) -> _Pair | str | None:
        """Two answers side by side, or what keeps them from being compared; None: nothing need."""
        shortest = min(each.get("tokens", 0) for each in self.sizes)
        if own.error and case.graph and case.sizes.get("tokens", 0) < shortest:
            return None  # no text is so short, and the model takes none that is
        sizes = {_NAMES.get(axis, axis): size for axis, size in own.sizes.items()}
        if fault := _fault(own, other, shapes=exact or bool(case.graph)):
            return f"{_where(case, sizes)}: {fault}"
        both = [(array, other.outputs[name]) for name, array in own.outputs.items()]
        apart = (_apart(*each) for each in both if each[0].shape == each[1].shape)
        _, difference, tolerance = max(apart, default=(0.0, 0.0, _TOLERANCE))
        labels = list(zip(own.labels, other.labels, strict=True))
        return _Pair(case, sizes, difference, tolerance, labels)

    def _metric(self, export: Path, batches: Iterable[Sequence[Row]]) -> dict[str, Any] | None:
        """The task's first metric as an evaluation has it, before and after; None without one."""
        engines = self.model.engine, load(export, trust_plugins=True).engine
        metrics = [metric for _ in engines for metric in self.model.codec.metrics()[:1]]
        if not metrics:
            return None
        bundle = self.model.bundle
        objective = build_objective(bundle.task, self.model.host, bundle.schema)
        for rows in batches:
            batch = self.model.batch(rows, targets=True)
            targets = {name: torch.as_tensor(value) for name, value in batch.targets.items()}
            counts = None if batch.rows is None else torch.as_tensor(batch.rows)
            for metric, engine in zip(metrics, engines, strict=True):
                over = self.model.codec.head.over
                logits = torch.from_numpy(_logits(engine, batch.inputs, over))
                metric.update(objective.output(logits, targets, counts).numpy(), batch)
        name, better = next(iter(metrics[0].better.items()))
        before, after = (metric.compute(metric.state)[name] for metric in metrics)
        return {"name": name, "better": better, "before": before, "after": after}


def _logits(engine: Engine, inputs: Arrays, over: str) -> np.ndarray:
    """Those of each token; a graph that goes on may give its last one's, and is asked for each.

    The tokens are those of the input `over`: with a source they are not those that have a mask.
    """
    steps = Steps(engine)
    if "present" not in axes_of(engine.graphs["model"]):
        return steps.start(inputs)["logits"]
    ids, mask = inputs[over], inputs["attention_mask"]
    if "encoder" in engine.graphs:
        steps.read(inputs)
        mask = np.ones_like(ids)
    found = []
    for at in range(ids.shape[1]):
        given = {"input_ids": ids[:, at : at + 1], "attention_mask": mask[:, : at + 1]}
        found.append((steps.step if at else steps.start)(given)["logits"])
    return np.concatenate(found, axis=1)


def _predictable(model: Model, row: Row) -> tuple[Row, Batch]:
    """A row and its batch; of a text that leaves no room for what is to be written the beginning.

    Raises:
        DataError: It cannot be used.
    """
    if not in_pieces(model.codec):
        return row, model.batch([row], targets=True)
    for share in (1, 2, 4, 8, 16, 32):
        with suppress(DataError):
            texts = {name: str(row.values[name]) for name in model.columns}
            cut = {name: text[: len(text) // share] for name, text in texts.items()}
            shorter = replace(row, values={**row.values, **cut})
            return shorter, model.batch([shorter])
    raise DataError(row.address, problem="has no text that can be gone on from")


def _asked_elsewhere(export: Path, folder: Path) -> list[str]:
    """Lets a fresh process answer the questions in a folder; gives why it could not."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "nlpkit.bundle.gate", str(export), str(folder)],
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


def _fault(own: Answer, other: Answer, *, shapes: bool) -> str:
    """What keeps two answers from being compared, or ""; `shapes`: whether theirs must agree."""
    if own.inputs != other.inputs:
        return "its tokenizer gives other ids than the run's"
    if own.error:
        return f"the model itself fails: {own.error}"
    if other.error:
        return other.error
    for name, array in own.outputs.items():
        found = other.outputs[name]
        if array.shape != found.shape:
            if shapes:
                return f"{name} of shape {found.shape} instead of {array.shape}"
            continue  # rounded weights may write more words or fewer: labels tell
        odd = ~(np.isfinite(array) & np.isfinite(found))
        if not np.array_equal(array[odd], found[odd]):  # equal infinities are what masks leave
            return f"{name} that are no finite numbers"
    return ""


def _apart(own: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """The largest difference of two arrays, and how large it may be, after the ratio of both."""
    finite = np.isfinite(own)
    own, other = own[finite], other[finite]
    largest = float(np.abs(own).max(initial=0))
    difference = float(np.abs(np.subtract(own, other, dtype=np.float64)).max(initial=0))
    tolerance = max(_TOLERANCE, _RELATIVE * largest)
    return difference / tolerance, difference, tolerance


def _where(case: Case, sizes: Mapping[str, int]) -> str:
    graph = f"{case.graph}, " if case.graph not in ("", "model") else ""
    return graph + " × ".join(f"{axis} {size}" for axis, size in sizes.items())


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


def _losses(report: Mapping[str, Any], allowed: Approximation) -> Iterator[str]:
    """What rounding has changed and cost, where that is more than allowed."""
    for agreement in (report["agreement"], report["agreement_alone"]):
        if agreement is not None and agreement < allowed.min_agreement:
            yield f"{agreement:.2%} of the labels stay, less than {allowed.min_agreement:.2%}"
    if metric := report["metric"]:
        before, after = metric["before"], metric["after"]
        higher = metric["better"] == "higher"
        drop = before - after if higher else (after - before) / (before or 1)
        if not drop <= allowed.max_drop:
            yield (
                f"{metric['name']} goes from {before:.4f} to {after:.4f}, which is worse by more "
                f"than {allowed.max_drop:g}"
            )
