"""The exporter `huggingface`: a folder that transformers loads without nlpkit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import redirect_stderr
from io import StringIO
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from nlpkit.bundle.format import read_bundle
from nlpkit.contracts import Artifact, Exporter
from nlpkit.environment import import_path
from nlpkit.errors import InputError, RunError
from nlpkit.nn import run_graph
from nlpkit_bert.heads import LibraryHead
from nlpkit_bert.model import AUTO, Bert, config_of, network_of
from nlpkit_bert.resolve import AFTER_PADDING, PROBLEMS, is_library, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel

    from nlpkit.contracts import Arrays, Graph, HeadSpec

LINEAR = ("bert", "distilbert", "electra", "roberta", "xlm-roberta")
"""Types whose head for tokens is a linear layer, as nlpkit's own is."""

PIPELINES = {
    "sequence": "text-classification",
    "token": "token-classification",
    "vocabulary": "fill-mask",
}
_TOLERANCE = 1e-6  # times the largest logit, where that is more than 1
_CARD = """---
library_name: transformers
pipeline_tag: {pipeline}
---

Trained with nlpkit {version}, task `{task}`; it needs transformers alone:

```python
from transformers import pipeline

pipe = pipeline("{pipeline}", FOLDER)
```

A text has at most {longest:,} tokens. What nlpkit does beside the model is not in here: windows
over longer texts, and spans of whole words.
"""
_ALONE = """
import sys
sys.modules["nlpkit"] = None  # whoever imports it fails
import numpy, torch, transformers
folder, kind, asked, told = sys.argv[1:]
model = getattr(transformers, kind).from_pretrained(folder).eval()
with torch.inference_mode(), numpy.load(asked) as arrays:
    inputs = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    numpy.save(told, model(**inputs).logits.numpy())
"""


class HuggingFaceExporter(Exporter):
    """config.json and model.safetensors beside the tokenizer; no code."""

    def check(self, config: Any) -> Sequence[str]:
        """Why a run's model would be none of transformers: it is another one, or its head is."""
        model = config.model
        if model.name != "bert":
            return [f'huggingface writes models of transformers, and "{model.name}" is none']
        level = config.task.name  # whose names are those of levels
        description = model.options.get("description") or {}
        if level in ("sequence", "token") and not _fits(model.options, description, level):
            return [_refusal(level)]
        return []

    def export(self, graphs: Mapping[str, Graph], out: Path) -> Artifact:
        """Writes the model of the class that transformers has for its type and its head.

        Raises:
            InputError: There is none.
            RunError: A process without nlpkit gets other logits out of it.
        """
        graph = graphs["model"]
        model = getattr(graph.module, "model", graph.module)  # a projection is worked out
        if not isinstance(model, Bert):
            kind = type(model).__name__
            raise InputError(f"huggingface writes models of transformers, and {kind} is none")
        description = json.loads((out / "nlpkit.json").read_bytes())
        network = library_model(model)
        padding = description["vocabulary"]["special"].get("pad")
        if padding is not None and kind_of(model.description) not in AFTER_PADDING:
            network.config.pad_token_id = padding  # where positions do not hang on it
        with _quiet():
            network.save_pretrained(out)
        card = _CARD.format(
            pipeline=PIPELINES[model.spec.level],
            version=description["nlpkit"],
            task=description["task"]["name"],
            longest=description["vocabulary"]["max_length"],
        )
        (out / "README.md").write_text(card, encoding="utf-8")
        _compare(graph, model.spec, out)
        kind = AUTO[model.spec.level].__name__
        names = ("config.json", "model.safetensors", "README.md")
        return Artifact(
            path=out,
            files=[out / name for name in names],
            note=f"transformers.{kind}.from_pretrained opens it, and so does pipeline",
        )

    def open(self, path: Path) -> dict[str, Callable[[Arrays], Any]]:
        """Loads it with transformers, whose own attention it gets.

        Of config.json what shapes the model is taken: the rest may choose code.
        """
        spec = read_bundle(path).head
        description = json.loads((path / "config.json").read_bytes())
        with _quiet():
            network = AUTO[spec.level].from_pretrained(
                path,
                config=config_of(description, None, size=spec.size, attention="sdpa"),
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
        network.eval()

        def run(inputs: Arrays) -> list[np.ndarray]:
            given = {name: torch.as_tensor(inputs[name]) for name in _taken(spec, inputs)}
            with torch.inference_mode():
                logits = network(**given).logits.numpy()
            return [_at_places(spec, logits, inputs)]

        return {"model": run}


def library_model(model: Bert) -> PreTrainedModel:
    """The same model as transformers has it, with a configuration that says the labels.

    Raises:
        InputError: Its head is none that transformers has.
    """
    spec, library = model.spec, isinstance(model.head, LibraryHead)
    if not library and not (spec.level == "token" and kind_of(model.description) in LINEAR):
        raise InputError(_refusal(spec.level))
    config = config_of(model.description, model.dropout, size=spec.size, attention=None)
    if spec.labels:
        config.id2label = dict(enumerate(spec.labels))
        config.label2id = {label: number for number, label in enumerate(spec.labels)}
    if spec.level == "sequence":
        config.problem_type = cast("Any", PROBLEMS[spec.kind])
    network = network_of(config, spec.level)
    prefix = f"{network.base_model_prefix}."
    heads = {"head.network.": "", "head.linear.": "classifier.", "bert.": prefix}
    network.load_state_dict(
        {
            next(
                new + name.removeprefix(old) for old, new in heads.items() if name.startswith(old)
            ): tensor
            for name, tensor in model.state_dict().items()
        }
    )
    return network


def _quiet() -> redirect_stderr[StringIO]:
    """Keeps the bars of transformers to itself."""
    return redirect_stderr(StringIO())


def _fits(options: Mapping[str, Any], description: Mapping[str, Any], level: str) -> bool:
    library = is_library(options.get("head", "auto"), description, level)
    return library or (level == "token" and kind_of({**description}) in LINEAR)


def _refusal(level: str) -> str:
    return (
        f"transformers has no such head for the level {level} as nlpkit's own; "
        "train with model.head: transformers"
    )


def _taken(spec: HeadSpec, inputs: Arrays) -> list[str]:
    """The inputs that transformers takes: places are none of them."""
    return [name for name in inputs if name != spec.over or spec.level != "vocabulary"]


def _at_places(spec: HeadSpec, logits: np.ndarray, inputs: Arrays) -> np.ndarray:
    """Of logits of the whole vocabulary at all tokens those that are asked for."""
    if spec.level != "vocabulary":
        return logits
    places = np.asarray(inputs[spec.over])[..., None]
    return np.take_along_axis(logits, places, axis=1)[..., : spec.size]


def _compare(graph: Graph, spec: HeadSpec, out: Path) -> None:
    """Raises RunError where a process without nlpkit does not get the same logits (law 11)."""
    sample = {name: np.asarray(value) for name, value in graph.sample.items()}
    with TemporaryDirectory() as folder, torch.inference_mode():
        tensors = {name: torch.from_numpy(value) for name, value in sample.items()}
        own = run_graph(graph, tensors)["logits"].numpy()
        asked, told = f"{folder}/asked.npz", f"{folder}/told.npy"
        np.savez(asked, **{name: sample[name] for name in _taken(spec, sample)})  # type: ignore[arg-type]
        done = subprocess.run(
            [sys.executable, "-P", "-c", _ALONE, out, AUTO[spec.level].__name__, asked, told],
            env={**os.environ, "PYTHONPATH": import_path(), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            raise RunError(f"huggingface: transformers alone cannot load it: {' '.join(last)}")
        other = _at_places(spec, np.load(told), sample)
    apart = float(np.abs(own - other).max())
    if not apart <= _TOLERANCE * max(1.0, float(np.abs(own).max())):
        raise RunError(f"huggingface: transformers alone gets logits that are {apart:.1e} apart")


def build(options: None) -> HuggingFaceExporter:
    """The exporter; it has no options."""
    return HuggingFaceExporter()
