"""AdamW on a CPU that visits no row of an embedding before it has a gradient.

May go when the fused AdamW of torch takes sparse gradients and leaves rows alone that have none;
`torch.optim.AdamW(groups, fused=True)` takes its place then.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.optim import adamw as functional

if TYPE_CHECKING:
    from collections.abc import Iterable

_LARGE = 1000
"""Rows of a table from which sparse gradients are worth it."""


class AdamW(torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter 2019), fused, which clips as it steps and visits no idle row.

    A row of a table whose gradient is sparse is visited once it has had a gradient: until then its
    moments are 0, and a dense step would not move it either (such tables have no decay). Of a
    vocabulary that is most rows, and of a small encoder half of all parameters.

    Attributes:
        grad_scale: What gradients are divided by in the next step, as they are read; or None.
    """

    grad_scale: Tensor | None = None

    def __init__(self, groups: Iterable[dict[str, Any]], **options: Any) -> None:
        super().__init__(groups, fused=True, **options)
        self._rows: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; gradients that are sparse have been coalesced."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._step_rows(parameter, group)
                else:
                    self._rows.pop(parameter, None)  # a dense gradient may have reached any row
        super().step(closure)

    def _step_rows(self, table: Tensor, group: dict[str, Any]) -> None:
        """Steps the rows that ever had a gradient, and leaves the rest to nobody."""
        sparse, state = cast("Tensor", table.grad), self.state[table]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=table.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        had = sparse.values().any(dim=1)
        looked_up, values = sparse.indices()[0][had], sparse.values()[had]
        rows = self._active(table, looked_up)
        if 2 * len(rows) > len(table):  # then copying rows takes longer than visiting all
            table.grad = sparse.to_dense()
            return
        gradient = values.new_zeros(len(rows), table.shape[1])
        gradient[torch.searchsorted(rows, looked_up)] = values
        whole = (table, state["exp_avg"], state["exp_avg_sq"])
        parts = [tensor[rows] for tensor in whole]
        functional.adamw(
            [parts[0]],
            [gradient],
            [parts[1]],
            [parts[2]],
            [],
            [state["step"]],
            fused=True,
            grad_scale=self.grad_scale,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )
        for tensor, part in zip(whole, parts, strict=True):
            tensor.index_copy_(0, rows, part)
        table.grad = None

    def _active(self, table: Tensor, looked_up: Tensor) -> Tensor:
        """The rows with a gradient now or before, in order: before are those with moments."""
        rows = self._rows.get(table)
        if rows is None:
            moments = self.state[table]
            moved = moments["exp_avg"].any(dim=1) | moments["exp_avg_sq"].any(dim=1)
            rows = moved.nonzero()[:, 0]
        rows = cast("Tensor", torch.cat([rows, looked_up]).unique())  # type: ignore[no-untyped-call]
        self._rows[table] = rows
        return rows


def use_sparse_gradients(model: nn.Module) -> None:
    """Has large embeddings that nothing shares give gradients of the rows that were looked up."""
    holders = Counter(
        id(p) for each in model.modules() for p in each._parameters.values() if p is not None
    )
    for each in model.modules():
        if isinstance(each, nn.Embedding):
            alone = holders[id(each.weight)] == 1 and not each.scale_grad_by_freq
            each.sparse = alone and each.num_embeddings >= _LARGE
            if each.sparse and each.weight.requires_grad:
                each.weight.register_post_accumulate_grad_hook(_bounded)  # type: ignore[no-untyped-call]


def _bounded(table: Tensor) -> None:
    """Keeps micro-batches from adding up to more rows than the table has."""
    gradient = cast("Tensor", table.grad)
    if gradient.is_sparse and gradient._nnz() > len(table):
        table.grad = gradient.coalesce()
