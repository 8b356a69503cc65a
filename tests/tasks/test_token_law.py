"""Law 1 for `token`: one gradient, however a batch of long and short rows is split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from nlpkit.data.loader import to_tensors
from nlpkit.data.plan import share
from nlpkit.engine.precision import Precision
from nlpkit.nn import StepModule
from nlpkit.training.step import optimizer_step
from nlpkit_strategies.data_parallel import SplitAndSum
from nlpkit_strategies.single import Single
from nlpkit_tasks.token.config import TokenConfig
from nlpkit_tasks.token.objective import TokenObjective
from nlpkit_transformer.config import TransformerConfig
from nlpkit_transformer.model import build
from tests.tasks.tokens import codec_of, examples, row

WORDS, TAGS = ["EU", "rejects", "Köln", "\u200b"], ["B-org", "O", "I-loc", "O"]
ROWS = [row(WORDS * times, TAGS * times) for times in (1, 9, 2, 30, 1, 14, 3)]
ROWS += [row(["\u200b"], ["O"])]  # which counts nothing
CODEC, ENCODER = codec_of(ROWS, "wordpiece", 16)
EXAMPLES = examples(ENCODER, ROWS, "train")


class Recorder(torch.optim.SGD):
    """Keeps the gradient that it was given, as one vector."""

    gradient: torch.Tensor

    def step(self, closure=None):
        parts = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        self.gradient = torch.cat(parts)


class Copies:
    """`replicate` where there are no GPUs: the module itself, whose gradients add up."""

    def __call__(self, module, devices):
        return [module for _ in devices]


def module() -> StepModule:
    torch.manual_seed(5)
    options = TransformerConfig(layers=2, hidden=16, heads=2, dropout=0.0)
    model = build(options, CODEC.head, CODEC.vocabulary, weights=True)
    objective = TokenObjective(TokenConfig(), CODEC.schema)
    return StepModule(model, objective, CODEC.head).double()


def plain() -> tuple[torch.Tensor, float]:
    """Window after window, without padding: the mean over all words that have a token."""
    own, losses = module(), []
    for example in EXAMPLES:
        ends = np.cumsum(example["windows"])[:-1]
        for ids, labels in zip(
            *(np.split(example[name], ends) for name in ("input_ids", "labels")), strict=True
        ):
            known = torch.as_tensor(labels >= 0)
            ids_1T = torch.as_tensor(ids).long()[None]
            logits = own.model(ids_1T, torch.ones_like(ids_1T))[0]
            labels_T = torch.as_tensor(labels).long()
            losses.append(
                functional.cross_entropy(logits[known], labels_T[known], reduction="none")
            )
    loss = torch.cat(losses).mean()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in own.parameters()]), loss.item()


@pytest.mark.parametrize("chunks", [0, 2, 3])
@pytest.mark.parametrize("micro", [1, 3, 16])
def test_the_gradient_is_the_whole_batchs_however_it_is_split(micro, chunks):
    expected, loss = plain()
    own = module()
    cpu = torch.device("cpu")
    wrapped = SplitAndSum(own, [cpu] * chunks, Copies()) if chunks else own
    lengths = np.array([sum(map(sum, CODEC.lengths(each))) for each in EXAMPLES])
    rows = np.array([len(CODEC.lengths(each)) for each in EXAMPLES])
    parts = share(np.arange(len(ROWS)), lengths, rank=0, size=1, micro_batch_size=micro, rows=rows)
    batches = [
        to_tensors(CODEC.collate([EXAMPLES[at] for at in part], [0] * len(part))) for part in parts
    ]
    assert sum(batch.count for batch in batches) == 3 * 60
    recorder = Recorder(own.parameters(), lr=0.0)
    step = optimizer_step(
        batches, wrapped, Single(cpu), Precision("fp32", "cpu"), recorder, float("inf")
    )
    assert (recorder.gradient - expected).norm() / expected.norm() < 1e-10
    assert step.loss == pytest.approx(loss, rel=1e-6)
