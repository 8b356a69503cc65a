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
        return run_of(folder / "made", export=["onnx"])


def test_it_goes_on_counting_from_its_bundle_and_from_its_export(run: nlpkit.Run) -> None:
    models = [nlpkit.load(run, trust_plugins=True, backend=each) for each in ("torch", "onnx")]
    words = [models[0].tokenizer.encode(word).ids[1:-1] for word in "three four five six".split()]
    expected = " ".join(str(number) for word in words for number in word)
    for model in models:
        assert model.predict(["one two"])[0].ids == expected
    assert run.result["metrics"]["validation"]["right"] > 0.9


def test_a_tied_table_is_in_the_weights_once(run: nlpkit.Run) -> None:
    weights = safetensors.torch.load_file(run.path / "bundle" / "model.safetensors")
    assert "output.table" not in weights
    network = nlpkit.load(run, trust_plugins=True).engine.model  # type: ignore[attr-defined]
    assert network.output.table is network.embedding.tokens.weight
    assert torch.equal(network.output.table, weights["embedding.tokens.weight"])
    export = run.path / "bundle" / "onnx" / "model.onnx"
    untied = export.stat().st_size + weights["embedding.tokens.weight"].nbytes
    assert export.stat().st_size < 1.5 * sum(each.nbytes for each in weights.values()) + untied


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
