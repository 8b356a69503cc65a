"""Exports without the gate: what an exporter writes, opened again, beside the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

import nlpkit
from nlpkit.bundle.format import describe_export, seal
from nlpkit.config.resolve import build
from nlpkit.config.schema import Component
from nlpkit.plugin.trust import remember
from nlpkit.projection import worked_out
from tests.bundle.bundles import LABELS, NUMBERS, PAIRS, ROWS, make_run
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from nlpkit.contracts import Artifact, Exporter

MODELS: dict[str, dict[str, Any]] = {
    "bert mean": {"name": "bert", "pooling": "mean"},
    "bert cls": {"name": "bert", "pooling": "cls"},
    **{
        f"transformer {positions} {norm}": {
            "name": "transformer",
            "layers": 2,
            "hidden": 16,
            "heads": 2,
            "positions": positions,
            "norm": norm,
        }
        for positions in ("sinusoidal", "learned")
        for norm in ("pre", "post")
    },
    "a stranger's": {"name": "bag"},
}
ENCODERS: dict[str, dict[str, Any]] = {
    "roberta": {"type_vocab_size": 1, "pad_token_id": 1},
    "xlm-roberta": {"type_vocab_size": 1, "pad_token_id": 1},
    "distilbert": {},
    "electra": {"embedding_size": 16},
    "modernbert": {
        "local_attention": 4,
        "pad_token_id": 0,
        **dict.fromkeys(("bos_token_id", "cls_token_id"), 1),
        **dict.fromkeys(("eos_token_id", "sep_token_id"), 2),
    },
}
"""What else `bert` loads, with what sets each apart from a BERT."""
TASKS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "class": (ROWS, {}),
    "multilabel": (LABELS, {"target": "multilabel"}),
    "regression": (NUMBERS, {"target": "regression"}),
    "pairs": (PAIRS, {"text": ["first", "second"]}),
}
FORMATS = ("state_dict", "torchscript", "torch_export", "onnx")
LONGEST = 16
GRID = [(batch, length) for batch in (1, 2, 3, 17) for length in (1, 7, LONGEST)]

_BAG = REPOSITORY / "examples" / "single_file_plugin" / "my_model.py"
_SIZES = {
    "vocab_size": 150,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}

_DISTILBERT = {
    "vocab_size": 150,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 40,
}


def run_of(folder: Path, model: str, task: str = "class") -> Path:
    """A run folder with a small model of each kind."""
    options = dict(MODELS.get(model, {"name": "bert"}))
    if options["name"] == "bert":
        kind = model if model in ENCODERS else "bert"
        sizes = _DISTILBERT if kind == "distilbert" else {**_SIZES, **ENCODERS.get(kind, {})}
        config = transformers.AutoConfig.for_model(kind, **sizes)
        pretrained = folder.with_name(f"{folder.name}-pretrained")
        transformers.AutoModel.from_config(config).save_pretrained(pretrained)
        options["pretrained"] = str(pretrained)
    rows, settings = TASKS[task]
    plugins = [str(_BAG)] if options["name"] == "bag" else []
    remember(map(Path, plugins))  # as training with them does
    return make_run(folder, rows, model=options, plugins=plugins, **settings)


class Exported:
    """A run's model, and an export of it.

    The model that an export is compared with is not the one that the exporter was given: a trace
    shares its weights, so a change of them would change both.

    Args:
        run: The run folder.
        format: The exporter.
        out: Where to write.
        options: Of the exporter.
    """

    def __init__(self, run: Path, format: str, out: Path, **options: Any) -> None:
        loaded, given = (
            nlpkit.load(run, device="cpu", trust_plugins=True, backend="torch") for _ in range(2)
        )
        self.model: torch.nn.Module = loaded.engine.model  # type: ignore[attr-defined]
        self.inputs = loaded.bundle.inputs
        component = Component(name=format, **options)
        exporter: Exporter = build(component, "exporter", loaded.host)
        out.mkdir(parents=True)
        describe_export(loaded.bundle, out, component, loaded.host)
        sample = arrays(2, 11, self.inputs)
        (graph,) = given.engine.modules.values()  # type: ignore[attr-defined]
        self.artifact: Artifact = exporter.export({"model": replace(graph, sample=sample)}, out)
        seal(out)
        self.call = exporter.open(out)["model"]

    def difference(self, batch: int, length: int) -> float:
        """The largest difference of a logit, on random ids."""
        inputs = arrays(batch, length, self.inputs)
        with torch.inference_mode():
            expected = worked_out(self.model(*map(torch.from_numpy, inputs.values()))).numpy()
        (found,) = self.call(inputs)
        assert (found.shape, found.dtype) == (expected.shape, np.float32)
        return float(np.abs(found - expected).max())


def arrays(batch: int, length: int, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Random ids, as a task collates them: real tokens first, at least one."""
    random = np.random.default_rng(1000 * batch + length)
    lengths = random.integers(1, length + 1, size=batch)
    lengths[-1] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    found = {
        "input_ids": random.integers(1, 50, size=(batch, length)) * mask,
        "attention_mask": mask,
        "token_type_ids": (np.arange(length) > length // 2) * mask,
        "masked": random.integers(lengths[:, None], size=(batch, 1 + length % 3)),
    }
    return {name: found[name] for name in names}
