"""A decoder from its training to its export: what is tied stays one table all the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch

import nlpkit
from tests.bundle.generating import PLUGIN, trained

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

CHANGES = {
    'HeadSpec(level="token"': 'HeadSpec(level="next"',
    "from torch.nn import functional": "from nlpkit.nn import place_scores, summed_cross_entropy",
    "(longest - len(a), 0)": "(0, longest - len(a))",  # a decoder is trained so
    "(output.argmax(-1) == label)[label >= 0]": "output[..., 1][label >= 0]",
    """        label = targets["label"].flatten()
        return functional.cross_entropy(logits.flatten(0, 1), label, reduction="sum")
""": """        return summed_cross_entropy(logits, targets["label"])
""",
    """rows):
        return logits
""": """rows):
        return place_scores(logits, targets["label"])
""",
}
MODEL = {"name": "transformer", "layers": 2, "hidden": 16, "heads": 2, "positions": "rotary"}
STOPPER = """

from nlpkit.contracts import Observer


class Stopper(Observer):
    def __init__(self, options, terminal):
        pass

    def step_ended(self, event):
        if event.step == 7:
            signal.raise_signal(signal.SIGTERM)


@nlpkit.hookimpl
def nlpkit_observers():
    yield nlpkit.ObserverRecord(name="stopper", target="following:Stopper")
"""


def plugin() -> str:
    found = PLUGIN + STOPPER
    for old, new in CHANGES.items():
        assert old in found
        found = found.replace(old, new)
    return f"import signal\n{found}"


def run_of(folder: Path, **config: Any) -> nlpkit.Run:
    return trained(folder, plugin=plugin(), model=MODEL, **config)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> nlpkit.Run:
    folder = tmp_path_factory.mktemp("writer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        return run_of(folder / "made")


def goes_on_counting(model: Any) -> bool:
    words = [model.tokenizer.encode(word).ids[1:-1] for word in "three four five six".split()]
    (prediction,) = model.predict(["one two"])
    return prediction.ids == " ".join(str(number) for word in words for number in word)


def test_it_learns_to_count_and_its_bundle_has_the_tied_table_once(run: nlpkit.Run) -> None:
    model = nlpkit.load(run, trust_plugins=True)
    assert goes_on_counting(model)
    assert run.result["metrics"]["validation"]["right"] > 0.9
    weights = safetensors.torch.load_file(run.path / "bundle" / "model.safetensors")
    assert "output.table" not in weights
    network = model.engine.model  # type: ignore[attr-defined]
    assert network.output.table is network.embedding.tokens.weight
    assert torch.equal(network.output.table, weights["embedding.tokens.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"quantize": "int8", "min_agreement": 0, "max_drop": 1}])
def test_its_export_passes_the_gate_and_goes_on_counting(
    run: nlpkit.Run, tmp_path: Path, options: dict[str, Any]
) -> None:
    made = nlpkit.export(run, "onnx", out=tmp_path / "out", trust_plugins=True, **options)
    assert made.parity["passed"]
    if options:
        assert made.parity["metric"]["before"] == run.result["metrics"]["validation"]["right"]
    assert goes_on_counting(nlpkit.load(made.path, trust_plugins=True, backend="onnx"))


def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(
    run: nlpkit.Run, tmp_path: Path
) -> None:
    with pytest.raises(nlpkit.Interrupted):
        run_of(tmp_path / "made", observers=["stopper"])
    config = tmp_path / "made" / "run" / "config.yaml"
    resumed = nlpkit.train(config, out=config.parent, resume=True)
    first, second = (
        (each.path / "bundle" / "model.safetensors").read_bytes() for each in (run, resumed)
    )
    assert first == second
