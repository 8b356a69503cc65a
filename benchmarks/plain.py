"""Plain PyTorch loops that the language models of nlpkit are held against.

`Model` is a Transformer as nanoGPT's GPT and BERT have in common: learned positions, layer norm
before each sublayer, GELU, no biases, a tied table. Shape suffixes: B batch, T tokens, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.parts import Found
from benchmarks.turns import Laps


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Sizes, and how a model is trained; the defaults are nanoGPT's on a CPU.

    Attributes:
        vocabulary: How many ids there are.
        context: Tokens of a row.
        steps: Optimizer steps; the rate falls along a cosine from `rate` to `least` until then.
    """

    vocabulary: int
    steps: int
    layers: int = 4
    hidden: int = 128
    heads: int = 4
    context: int = 64
    batch: int = 12
    rate: float = 1e-3
    least: float = 1e-4
    warmup: int = 100
    betas: tuple[float, float] = (0.9, 0.99)
    decay: float = 0.1
    causal: bool = True
    seed: int = 13

    def rate_at(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        gone = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.least + (self.rate - self.least) * (1 + math.cos(math.pi * gone)) / 2


class Layer(nn.Module):
    """Attention and feed-forward, each beside the stream."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        hidden = setting.hidden
        self.heads, self.causal = setting.heads, setting.causal
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, bias=False) for _ in range(2))
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.up = nn.Linear(hidden, 4 * hidden, bias=False)
        self.down = nn.Linear(4 * hidden, hidden, bias=False)

    def forward(self, hidden_BTH: Tensor, mask_BT: Tensor | None) -> Tensor:
        """The stream after both."""
        first, second = self.norms
        qkv = self.qkv(first(hidden_BTH)).unflatten(-1, (3, self.heads, -1))
        query, key, value = (each.transpose(1, 2) for each in qkv.unbind(2))
        mask = None if mask_BT is None else mask_BT[:, None, None]
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=self.causal
        )
        hidden_BTH = hidden_BTH + self.out(mixed.transpose(1, 2).flatten(2))
        return hidden_BTH + self.down(functional.gelu(self.up(second(hidden_BTH))))


class Model(nn.Module):
    """Ids to the logits of each place."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.tokens = nn.Embedding(setting.vocabulary, setting.hidden)
        self.places = nn.Embedding(setting.context, setting.hidden)
        self.layers = nn.ModuleList(Layer(setting) for _ in range(setting.layers))
        self.norm = nn.LayerNorm(setting.hidden, bias=False)
        for name, each in self.named_parameters():
            if each.dim() > 1:
                last = name.endswith(("out.weight", "down.weight"))
                std = 0.02 / math.sqrt(2 * setting.layers) if last else 0.02
                nn.init.normal_(each, std=std)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """[batch, tokens, hidden], which `logits` takes, whole or in parts."""
        hidden_BTH = self.tokens(ids_BT) + self.places.weight[: ids_BT.shape[1]]
        for layer in self.layers:
            hidden_BTH = layer(hidden_BTH, mask_BT)
        return self.norm(hidden_BTH)

    def logits(self, hidden: Tensor) -> Tensor:
        """[…, hidden] to [..., vocabulary]."""
        return functional.linear(hidden, self.tokens.weight)


def trained(
    model: Model,
    setting: Setting,
    loss_of: Callable[[Model], Tensor],
    nats_of: Callable[[Model], float],
    pieces: int,
) -> Iterator[Found]:
    """Trains a piece when it is asked for the next: seconds of its steps, and nats after it.

    Args:
        model: With its first weights.
        setting: How it is trained.
        loss_of: Draws a batch, and gives its mean loss.
        nats_of: The loss on held-out text.
        pieces: How many there are; they divide the steps.
    """
    matrices = [each for each in model.parameters() if each.dim() > 1]
    others = [each for each in model.parameters() if each.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": setting.decay}, {"params": others}]
    optimizer = torch.optim.AdamW(groups, betas=setting.betas, weight_decay=0.0, fused=True)
    laps = Laps()
    for step in range(setting.steps):
        for group in optimizer.param_groups:
            group["lr"] = setting.rate_at(step)
        loss_of(model).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        laps.step()
        if (step + 1) % (setting.steps // pieces) == 0:
            seconds = laps.piece()
            with torch.no_grad():
                nats = nats_of(model)
            yield {"seconds": seconds, "nats": nats}


def writer(setting: Setting, train: Tensor, held_out: Tensor, pieces: int) -> Iterator[Found]:
    """A character model of a text: rows from anywhere in it, held-out text in whole rows.

    Args:
        setting: As nanoGPT has it, or another.
        train: Ids, [characters].
        held_out: The same; each of its characters is told once, but for the first in a row of
            `context`, which see the character before alone.
        pieces: As `trained` has it.
    """
    torch.manual_seed(setting.seed)
    random = torch.Generator().manual_seed(setting.seed)
    size, places = setting.context, torch.arange(setting.context + 1)
    whole = torch.cat([train[-1:], held_out])

    def nats(model: Model, rows: Tensor, reduction: str = "mean") -> Tensor:
        logits = model.logits(model(rows[:, :-1]))
        return functional.cross_entropy(
            logits.flatten(0, 1), rows[:, 1:].flatten(), reduction=reduction
        )

    def drawn(model: Model) -> Tensor:
        starts = torch.randint(len(train) - size, (setting.batch, 1), generator=random)
        return nats(model, train[starts + places])

    def of_held_out(model: Model) -> float:
        full = (len(whole) - 1) // size
        rows = [*(whole[torch.arange(full)[:, None] * size + places]).split(64)]
        if (rest := whole[full * size :]).numel() > 1:
            rows.append(rest[None])
        return sum(float(nats(model, each, "sum")) for each in rows) / len(held_out)

    return trained(Model(setting), setting, drawn, of_held_out, pieces)


def reader(
    setting: Setting,
    tokens: Tensor,
    held_out: Sequence[Mapping[str, Tensor]],
    pieces: int,
    *,
    mask: int,
    special: Sequence[int],
) -> Iterator[Found]:
    """A masked model: texts one after the other, cut into rows where these are full.

    Args:
        setting: How it is trained.
        tokens: Ids of all texts, [tokens].
        held_out: Batches of `input_ids` and `attention_mask` [rows, tokens], of which places are
            `masked` [rows, slots], and their `ids`, -100 where a slot has none.
        pieces: As `trained` has it.
        mask: The id that hides a token.
        special: Ids that are never hidden, nor put in the place of another.
    """
    torch.manual_seed(setting.seed)
    random = torch.Generator().manual_seed(setting.seed)
    rows_RT = tokens[: len(tokens) // setting.context * setting.context].view(-1, setting.context)
    known = torch.tensor(sorted({*range(setting.vocabulary)} - {*special}))

    def drawn(model: Model) -> Tensor:
        rows_BT = rows_RT[torch.randint(len(rows_RT), (setting.batch,), generator=random)]
        hidden_BT = torch.rand(rows_BT.shape, generator=random) < 0.15
        hidden_BT &= ~torch.isin(rows_BT, torch.tensor(special))
        coins_BT = torch.rand(rows_BT.shape, generator=random)
        others_BT = known[torch.randint(len(known), rows_BT.shape, generator=random)]
        seen_BT = rows_BT.where(~(hidden_BT & (coins_BT < 0.8)), mask)
        seen_BT = seen_BT.where(~(hidden_BT & (coins_BT >= 0.9)), others_BT)
        return functional.cross_entropy(model.logits(model(seen_BT)[hidden_BT]), rows_BT[hidden_BT])

    def of_held_out(model: Model) -> float:
        nats, count = 0.0, 0
        for each in held_out:
            hidden = model(each["input_ids"], each["attention_mask"].bool())
            places = each["masked"][..., None].expand(-1, -1, hidden.shape[-1])
            logits = model.logits(hidden.gather(1, places))
            ids = each["ids"].flatten()
            nats += float(functional.cross_entropy(logits.flatten(0, 1), ids, reduction="sum"))
            count += int((ids >= 0).sum())
        return nats / count

    return trained(Model(setting), setting, drawn, of_held_out, pieces)
