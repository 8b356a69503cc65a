"""German to English beside a plain loop over torch.nn.Transformer: a part of translation.py.

It has the same first weights, batches, rates, and way of writing: its weights are put into ours.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import nlpkit
from benchmarks.page import table
from benchmarks.parts import Found, Work, machines
from benchmarks.turns import OBSERVED, Laps, taking_turns
from nlpkit.cli.render import Terminal
from nlpkit.config.resolve import build, resolve
from nlpkit.data.loader import Batching, Loading, TrainingSteps, evaluation_batches
from nlpkit.data.plan import mix
from nlpkit.data.prepare import prepare
from nlpkit.engine.precision import resolve_precision
from nlpkit.engine.torch import TorchEngine
from nlpkit.plugin.host import Host
from nlpkit.training.optim import learning_rate
from nlpkit.training.predictions import said
from nlpkit.training.step import to_arrays
from tests.transformer.torchs import counterparts, transformer_of

SEEDS, STEPS, PIECES, RIVAL = (1, 2, 3), 1200, 3, "plain loop"
TEXT = """
### Beside a plain loop

Measured with {machine}: nlpkit and a loop over `torch.nn.Transformer` with the same first weights,
batches and rates, in one process, in turn after each third of {steps:,} steps of {batch} pairs;
BLEU of multi30k's test rows of 2016, greedy, with the weights of that step. Seconds are those of
training steps alone.

{table}

After the last step BLEU is {own:.2f} in the mean of {seeds} seeds, and {other:.2f} of the plain
loop.
"""


class Plain(nn.Module):
    """torch's Transformer with an embedding and an output of one table, from the weights of ours.

    Shape suffixes: B batch, S tokens of the source, T tokens that are written, H hidden.
    """

    def __init__(self, ours: Any, *, dropout: float) -> None:
        super().__init__()
        self.ours = [ours]  # whose weights are no parameters of this
        self.tokens = nn.Embedding.from_pretrained(
            ours.embedding.tokens.weight.detach().clone(), freeze=False
        )
        self.positions, self.scale = ours.embedding.positions, ours.embedding.scale
        self.whole, self.dropout = transformer_of(ours, dropout=dropout), nn.Dropout(dropout)

    def forward(self, source_BS: Tensor, mask_BS: Tensor, written_BT: Tensor) -> Tensor:
        """Logits, [batch, tokens, vocabulary]."""
        padding_BS = mask_BS == 0
        hidden_BTH = self.whole(
            self._embedded(source_BS),
            self._embedded(written_BT),
            tgt_mask=torch.ones(2 * written_BT.shape[1:], dtype=torch.bool).triu(1),
            src_key_padding_mask=padding_BS,
            memory_key_padding_mask=padding_BS,
            tgt_is_causal=True,
        )
        return functional.linear(hidden_BTH, self.tokens.weight)

    def translator(self) -> Any:
        """Ours, with the weights as they are now."""
        (ours,) = self.ours
        ours.embedding.tokens.weight.data.copy_(self.tokens.weight)
        stacks = (ours.encoder, self.whole.encoder), (ours.decoder, self.whole.decoder)
        for mine, theirs in stacks:
            for parameter, parts in counterparts(mine, theirs):
                sizes = [len(each) for each in parts]
                for each, part in zip(parts, parameter.split(sizes), strict=True):
                    each.data.copy_(part)
        return ours

    def _embedded(self, ids_BT: Tensor) -> Tensor:
        hidden_BTH = self.tokens(ids_BT) * self.scale + self.positions[: ids_BT.shape[1]]
        return self.dropout(hidden_BTH)


def measure(work: Work, config: dict[str, Any]) -> None:
    """Each seed."""
    for seed in SEEDS[: 1 if work.smoke else None]:
        work.kept(f"beside-{seed}", lambda seed=seed: duel(work, config, seed))


def duel(work: Work, config: dict[str, Any], seed: int) -> Found:
    """Both in turn; what they are judged by is the test rows."""
    steps = 6 if work.smoke else STEPS
    data = {**config["data"], "validation": config["data"]["test"], "test": None}
    config = {**config, "name": f"beside-{seed}", "seed": seed, "data": data}
    config["train"] = {**config["train"], "max_steps": steps}
    config["eval"] = {**config["eval"], "every": steps // PIECES}
    out = work.path / "runs" / config["name"]
    shutil.rmtree(out, ignore_errors=True)
    run, arms = taking_turns(
        {RIVAL: plain(config)},
        lambda: nlpkit.train(nlpkit.load_config({**config, **OBSERVED}), out=out),
    )
    lines = [line for line in run.history if line["split"] == "validation"]
    for piece, line in zip(arms["nlpkit"], lines, strict=True):
        piece["bleu"] = line["bleu"]
    return {"steps": steps, "batch": config["train"]["batch_size"], "arms": arms}


def plain(raw: dict[str, Any]) -> Iterator[Found]:
    """Trains a piece when it is asked for the next: seconds of its steps, and BLEU after it."""
    host = Host.discover()
    config = resolve(nlpkit.load_config(raw), host)
    prepared = prepare(config, host, Terminal())
    codec, train = prepared.codec(config, host), config.train
    torch.manual_seed(mix(config.seed, 0, 0))
    ours = build(config.model, "model", host, codec.head, codec.vocabulary, weights=True)
    model = Plain(ours, dropout=config.model.options["dropout"]).train()
    matrices = [each for each in model.whole.parameters() if each.dim() > 1]
    others = [each for each in model.whole.parameters() if each.dim() <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": train.weight_decay},
        {"params": [*others, model.tokens.weight]},
    ]
    optimizer = torch.optim.AdamW(groups, betas=tuple(train.betas), weight_decay=0.0, fused=True)
    batching = Batching(seed=config.seed, batch_size=train.batch_size)
    steps = TrainingSteps(prepared.stores["train"], codec, batching, Loading())
    laps, total, smoothing = Laps(), train.max_steps or 0, config.task.options["label_smoothing"]
    for step in steps.load(1, total):
        (batch,) = step.batches
        peak = train.learning_rate or 0.0
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step.step - 1, total=total, peak=peak, train=train)
        given = (batch.inputs[name] for name in ours.inputs)
        logits = model(*map(torch.as_tensor, given)).flatten(0, 1)
        ids = torch.as_tensor(batch.targets["ids"]).flatten()
        functional.cross_entropy(logits, ids, label_smoothing=smoothing).backward()
        nn.utils.clip_grad_norm_(model.parameters(), train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        laps.step()
        if step.step % (total // PIECES) == 0:
            seconds, state = laps.piece(), torch.get_rng_state()
            yield {"seconds": seconds, "bleu": bleu(model.translator(), codec, prepared)}
            torch.set_rng_state(state)


def bleu(network: Any, codec: Any, prepared: Any) -> float:
    """Of all that is written for the held-out rows."""
    device = torch.device("cpu")
    engine = TorchEngine(network, codec, device=device, precision=resolve_precision("fp32", device))
    (metric,) = (each for each in codec.metrics() if "bleu" in each.better)
    for batch in evaluation_batches(prepared.stores["validation"], codec, 64, Loading()):
        arrays = to_arrays(batch)
        metric.update(said(codec, engine, {}, arrays), arrays)
    return float(metric.compute(metric.state)["bleu"])


def text(work: Work) -> str:
    """A line for each piece of each seed."""
    found = work.found("beside-*")
    if not found:
        return ""
    rows, last = [], {"nlpkit": [], RIVAL: []}
    for name, each in found.items():
        spent = dict.fromkeys(last, 0.0)
        for at, pieces in enumerate(zip(*(each["arms"][arm] for arm in last), strict=True), 1):
            cells = [name.rpartition("-")[2], f"{at * each['steps'] // PIECES:,}"]
            for arm, piece in zip(last, pieces, strict=True):
                spent[arm] += piece["seconds"]
                cells += [f"{spent[arm]:.0f}", f"{piece['bleu']:.2f}"]
            rows.append(cells)
        for arm, bleus in last.items():
            bleus.append(each["arms"][arm][-1]["bleu"])
    some = next(iter(found.values()))
    titles = ["seed", "steps", "nlpkit, s", "BLEU", f"{RIVAL}, s", "BLEU"]
    return TEXT.format(
        machine=machines(found),
        steps=some["steps"],
        batch=some["batch"],
        seeds=len(found),
        own=mean(last["nlpkit"]),
        other=mean(last[RIVAL]),
        table=table(titles, rows),
    )
