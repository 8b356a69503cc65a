"""Losses over a vocabulary, in parts: tokens × words are too many logits to be in memory together.

Shape suffixes: P places, R some of them, H hidden, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Projection:
    """Logits before they are worked out: hidden states times a table of a row for each word.

    What a model's forward gives where its outputs are words: the logits of all places of a batch
    may be larger than all else in training, and so never are in memory together. The table is a
    tensor of the forward pass, so its gradient goes the way of all others.

    Attributes:
        hidden: [rows, places, hidden].
        table: [vocabulary, hidden].
        bias: [vocabulary], or None.
    """

    hidden: Tensor
    table: Tensor
    bias: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the logits."""
        return (*self.hidden.shape[:-1], len(self.table))

    def logits(self) -> Tensor:
        """All of them, where there are few places: in a graph."""
        return functional.linear(self.hidden, self.table, self.bias)


def worked_out(output: Projection | Tensor) -> Tensor:
    """Logits as they are, and those of a projection."""
    return output.logits() if isinstance(output, Projection) else output


def summed_cross_entropy(
    output: Projection | Tensor, ids: Tensor, *, ignore: int = -100, smoothing: float = 0.0
) -> Tensor:
    """The summed cross-entropy of the words at each place, with torch's own gradient.

    A projection is worked out a few places at a time, and its gradient at once, so that logits are
    computed once and kept nowhere (Hsu et al. 2024, https://arxiv.org/abs/2410.10989, section 3).

    Args:
        output: Of shape [rows, places, vocabulary].
        ids: The words, [rows, places].
        ignore: What stands where no word counts; on a CPU such places cost nothing.
        smoothing: The share of a target that is spread over all words.

    Returns:
        A scalar, float32 at least.
    """
    if isinstance(output, Tensor):
        return functional.cross_entropy(
            output.flatten(0, -2).to(_wide(output)),
            ids.flatten(),
            reduction="sum",
            ignore_index=ignore,
            label_smoothing=smoothing,
        )
    if not torch.is_grad_enabled():
        return place_scores(output, ids, ignore=ignore, smoothing=smoothing)[..., 0].sum()
    hidden_PH, ids_P = output.hidden.flatten(0, -2), ids.flatten()
    at_P = _counted(ids_P, ignore)
    found = _SummedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_PH[at_P], output.table, output.bias, ids_P[at_P], ignore, smoothing
    )
    return cast("Tensor", found)


@torch.no_grad()
def place_scores(
    output: Projection | Tensor, ids: Tensor, *, ignore: int = -100, smoothing: float = 0.0
) -> Tensor:
    """What metrics ask of each place: its cross-entropy, and 1 where its word is the likeliest.

    The arguments are those of `summed_cross_entropy`; a projection is worked out in parts here too.

    Returns:
        [rows, places, 2], float32 at least; 0 where no word counts.
    """
    ids_P = ids.flatten()
    at_P = _counted(ids_P, ignore)
    if isinstance(output, Tensor):
        logs_PV = output.flatten(0, -2).to(_wide(output))[at_P].log_softmax(dim=-1)
        parts = iter([(slice(None), logs_PV, logs_PV)])
    else:
        parts = _parts(*_narrowed(output.hidden.flatten(0, -2)[at_P], output.table, output.bias))
    scores = []
    for rows, _, logs_RV in parts:
        losses_R = _losses(logs_RV, ids_P[at_P][rows], ignore, smoothing)
        right_R = logs_RV.argmax(dim=-1) == ids_P[at_P][rows]
        scores.append(torch.stack([losses_R, right_R.to(losses_R.dtype)], dim=-1))
    found_P2 = scores[0].new_zeros(len(ids_P), 2)
    found_P2[at_P] = torch.cat(scores)
    return found_P2.view(*ids.shape, 2)


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_PH: Tensor,
        table_VH: Tensor,
        bias_V: Tensor | None,
        ids_P: Tensor,
        ignore: int,
        smoothing: float,
    ) -> Tensor:
        ctx.types = hidden_PH.dtype, table_VH.dtype
        hidden_PH, table_VH, bias_V = _narrowed(hidden_PH, table_VH, bias_V)
        to_hidden_PH = torch.empty_like(hidden_PH)
        to_table_VH = torch.zeros_like(table_VH, dtype=_wide(table_VH))
        to_bias_V = to_table_VH.new_zeros(len(table_VH))
        loss = to_table_VH.new_zeros(())
        for rows, part_RH, logs_RV in _parts(hidden_PH, table_VH, bias_V):
            ids_R = ids_P[rows]
            loss += _losses(logs_RV, ids_R, ignore, smoothing).sum()
            to_logits_RV = _gradient(logs_RV, ids_R, smoothing)
            counts_R1 = (ids_R != ignore)[:, None].to(to_logits_RV.dtype)
            narrow_RV, counted_RH = to_logits_RV.to(part_RH.dtype), part_RH * counts_R1
            to_hidden_PH[rows] = (narrow_RV @ table_VH) * counts_R1
            if bias_V is not None:
                to_bias_V += (to_logits_RV * counts_R1).sum(dim=0)
            if narrow_RV is to_logits_RV:
                to_table_VH.addmm_(narrow_RV.T, counted_RH)
            else:
                to_table_VH += narrow_RV.T @ counted_RH.to(part_RH.dtype)
        ctx.save_for_backward(to_hidden_PH, to_table_VH, None if bias_V is None else to_bias_V)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        to_hidden_PH, to_table_VH, to_bias_V = ctx.saved_tensors
        to_hidden_PH = to_hidden_PH.to(ctx.types[0]).mul_(gradient)
        to_table_VH = to_table_VH.mul_(gradient).to(ctx.types[1])
        to_bias_V = None if to_bias_V is None else (to_bias_V * gradient).to(ctx.types[1])
        return to_hidden_PH, to_table_VH, to_bias_V, None, None, None


_LOGITS = 1 << 23
"""Logits that are worked on at a time: 32 MB, and as much for their logarithms."""


def _parts(
    hidden_PH: Tensor, table_VH: Tensor, bias_V: Tensor | None
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Places in parts, at least one: which, their hidden states, and their log-probabilities.

    A part lies where the one before it was.
    """
    places, words, wide = len(hidden_PH), len(table_VH), _wide(hidden_PH)
    size = max(1, min(places, _LOGITS // words))
    logits_RV, logs_RV = (table_VH.new_empty(size, words, dtype=wide) for _ in range(2))
    for start in range(0, max(1, places), size):
        rows = slice(start, min(start + size, places))
        part_RH, some = hidden_PH[rows], slice(rows.stop - start)
        if wide == hidden_PH.dtype and bias_V is None:
            torch.mm(part_RH, table_VH.T, out=logits_RV[some])
        else:
            logits_RV[some] = functional.linear(part_RH, table_VH, bias_V)
        yield rows, part_RH, torch.log_softmax(logits_RV[some], -1, out=logs_RV[some])


def _losses(logs_RV: Tensor, ids_R: Tensor, ignore: int, smoothing: float) -> Tensor:
    """The cross-entropy at each place; 0 where no word counts."""
    losses_R = (smoothing - 1) * logs_RV.gather(1, ids_R.clamp(min=0)[:, None])[:, 0]
    if smoothing:
        losses_R = losses_R - smoothing * logs_RV.mean(dim=1)
    return losses_R.where(ids_R != ignore, 0)


def _gradient(logs_RV: Tensor, ids_R: Tensor, smoothing: float) -> Tensor:
    """The gradient of the losses by the logits, in the place of log-probabilities."""
    found_RV = logs_RV.exp_()
    if smoothing:
        found_RV -= smoothing / found_RV.shape[1]
    own_R1 = ids_R.clamp(min=0)[:, None]
    return found_RV.scatter_add_(1, own_R1, found_RV.new_full(own_R1.shape, smoothing - 1))


def _counted(ids_P: Tensor, ignore: int) -> Tensor | slice:
    """The places where a word counts; all, where they do or where finding them is a long wait."""
    if ids_P.device.type != "cpu":  # the host would wait for the device
        return slice(None)
    at_P = (ids_P != ignore).nonzero()[:, 0]
    return at_P if len(at_P) < len(ids_P) else slice(None)


def _narrowed(
    hidden: Tensor, table: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The tensors as autocast gives them to a matrix product."""
    kind = hidden.device.type
    if not torch.is_autocast_enabled(kind) or hidden.dtype == torch.float64:
        return hidden, table, bias
    narrow = torch.get_autocast_dtype(kind)
    return hidden.to(narrow), table.to(narrow), None if bias is None else bias.to(narrow)


def _wide(like: Tensor) -> torch.dtype:
    """float32, or float64 as it is."""
    return torch.promote_types(like.dtype, torch.float32)
