"""Small engines: tables of numbers whose texts can be worked out by hand, and a real GPT-2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from nlpkit.contracts import Codec, Graph, GraphSpec
from nlpkit.engine.precision import resolve_device, resolve_precision
from nlpkit.engine.torch import TorchEngine

if TYPE_CHECKING:
    from nlpkit.contracts import Arrays

IDS = {"input_ids": ("rows", "tokens"), "attention_mask": ("rows", "present")}


class Table:
    """Logits by the last two real tokens and the place; what is masked would spoil them.

    `passed` counts the real tokens that went through, `runs` has the rows of each run.
    """

    def __init__(
        self, vocabulary: int, seed: int = 0, *, scale: float = 2.0, last_only: bool = False
    ) -> None:
        random = np.random.default_rng(seed)
        self.one, self.two = scale * random.standard_normal((2, vocabulary, vocabulary))
        self.place = random.standard_normal((64, vocabulary))
        self.last_only, self.passed, self.runs = last_only, 0, list[int]()
        past, present = {"past_ids": ("rows", "past")}, {"present_ids": ("rows", "present")}
        outputs = {"logits": ("rows", "tokens", vocabulary), **present}
        self.graphs = {"model": GraphSpec(inputs={**IDS, **past}, outputs=outputs)}

    def logits(self, ids: list[int]) -> np.ndarray:
        """After these tokens, [vocabulary]."""
        before = self.two[ids[-2]] if len(ids) > 1 else 0.0
        return (self.one[ids[-1]] + before + self.place[len(ids) % 64]).astype(np.float32)

    def run(self, inputs: Arrays, graph: str = "model") -> dict[str, np.ndarray]:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        rows, tokens = ids.shape
        seen = np.concatenate((inputs["past_ids"].astype(np.int64), ids), axis=1)
        assert mask.shape == seen.shape
        self.passed += int(mask[:, -tokens:].sum())
        self.runs.append(rows)
        found = np.full((rows, tokens, len(self.one)), np.nan, np.float32)
        for row, column in np.argwhere(mask[:, -tokens:]):
            upto = seen.shape[1] - tokens + column + 1
            found[row, column] = self.logits(seen[row, :upto][mask[row, :upto] > 0].tolist())
        given = found[:, -1:] if self.last_only else found
        return {"logits": given, "present_ids": seen.astype(np.float32)}


class Gpt2(nn.Module):
    """A small GPT-2 of random weights, as a graph with a cache, and as one without: "again"."""

    def __init__(self, *, vocabulary: int = 40, layers: int = 2, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(3)
        config = GPT2Config(
            vocab_size=vocabulary,
            n_positions=192,
            n_embd=width,
            n_layer=layers,
            n_head=max(2, width // 64),
            initializer_range=0.35 if width < 64 else 0.02,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.model = GPT2LMHeadModel(config)
        self.eval()

    def graphs(self) -> dict[str, Graph]:
        config = self.model.config
        size = config.n_embd // config.n_head
        names = [f"{part}_{at}" for at in range(config.n_layer) for part in ("key", "value")]
        pasts = {f"past_{name}": ("rows", config.n_head, "past", size) for name in names}
        presents = {f"present_{name}": ("rows", config.n_head, "present", size) for name in names}
        logits = {"logits": ("rows", "tokens", config.vocab_size)}
        cached = GraphSpec(inputs={**IDS, **pasts}, outputs={**logits, **presents})
        return {
            "model": Graph(module=_Cached(self.model), spec=cached),
            "again": Graph(module=_Again(self.model), spec=GraphSpec(inputs=IDS, outputs=logits)),
        }

    def engine(self) -> TorchEngine:
        device = resolve_device("cpu")
        codec = Codec({}, Any)  # type: ignore[arg-type]
        return TorchEngine(self, codec, device=device, precision=resolve_precision("fp32", device))


class _Cached(nn.Module):
    def __init__(self, model: GPT2LMHeadModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, *pasts: torch.Tensor) -> Any:
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        cache = DynamicCache(list(zip(pasts[::2], pasts[1::2], strict=True)))
        found = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache
        )
        pairs = ((layer.keys, layer.values) for layer in found.past_key_values.layers)
        return found.logits, *(each for pair in pairs for each in pair)


class _Again(nn.Module):
    def __init__(self, model: GPT2LMHeadModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        found = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
        )
        return found.logits
