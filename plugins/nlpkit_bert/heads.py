"""transformers' own heads: what a model for a task has beside its encoder. Their loss is not used.

Shape suffixes: B batch, T tokens, S slots, V vocabulary, H hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from nlpkit.errors import ConfigError, Problem
from nlpkit.nn import Projection
from nlpkit_bert.resolve import unusable

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LibraryHead(nn.Module):
    """A model of transformers without its encoder, which has run: only its pooler is left of it.

    Args:
        network: It stays as it is, but for the encoder, in whose place it is given hidden states.

    Raises:
        ConfigError: How its encoder pools is not known.
    """

    def __init__(self, network: PreTrainedModel) -> None:
        super().__init__()
        pooler = getattr(network.base_model, "pooler", None)
        if isinstance(pooler, nn.Linear):  # what follows it is a part of the encoder
            kind = type(network).__name__
            message = f"how {kind} pools is a part of its encoder, which runs without it"
            raise ConfigError(
                [Problem(key="model.head", message=message, remedy="set it to nlpkit")]
            )
        if pooler is not None:
            network.base_model.register_module("pooler", None)
        setattr(network, network.base_model_prefix, _Given(pooler))
        self.network = network

    def forward(self, hidden_BTH: Tensor, mask_BT: Tensor) -> Tensor:
        """Logits [batch, size] or [batch, tokens, size]; the mask is true at real tokens."""
        found = self.network(inputs_embeds=hidden_BTH, attention_mask=mask_BT.long())
        return cast("Tensor", found.logits)

    @property
    def last(self) -> nn.Linear:
        """The layer that gives the logits."""
        return [each for each in self.network.modules() if isinstance(each, nn.Linear)][-1]


class MaskedHead(LibraryHead):
    """The head that fills masks, run at some places alone.

    Args:
        network: transformers' model.
        size: Of the vocabulary: ids from there on, which the table may have, get no logits.

    Raises:
        ConfigError: There is no table of the vocabulary at its end.
    """

    def __init__(self, network: PreTrainedModel, size: int) -> None:
        output = network.get_output_embeddings()  # type: ignore[no-untyped-call]
        if not isinstance(output, nn.Linear) or len(output.weight) != network.config.vocab_size:
            kind = type(network).__name__
            raise unusable(f"{kind} has no output table that is known", "name another encoder")
        name = next(name for name, each in network.named_modules() if each is output)
        network.set_output_embeddings(_Output(output, size))  # type: ignore[no-untyped-call]
        beside = getattr(network.get_submodule(name.rpartition(".")[0]), "bias", None)
        if beside is not None and beside is not output.bias:  # as where nothing is tied
            beside.requires_grad_(False)
        super().__init__(network)
        self.tied = bool(network.config.tie_word_embeddings)

    def forward(self, hidden_BTH: Tensor, places_BS: Tensor) -> Projection:  # type: ignore[override]
        """Logits [batch, slots, size] of the places, which are not worked out yet."""
        places_BSH = places_BS.unsqueeze(-1).expand(-1, -1, hidden_BTH.shape[-1])
        hidden_BSH = hidden_BTH.gather(1, places_BSH)
        return cast("Projection", self.network(inputs_embeds=hidden_BSH).logits)


class _Given(nn.Module):
    """Stands for the encoder, which has run."""

    def __init__(self, pooler: nn.Module | None) -> None:
        super().__init__()
        self.pooler = pooler

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> BaseModelOutputWithPooling:
        pooled = self.pooler(inputs_embeds) if self.pooler else None
        return BaseModelOutputWithPooling(last_hidden_state=inputs_embeds, pooler_output=pooled)


class _Output(nn.Module):
    """The last layer, with the table and the bias of transformers' own."""

    def __init__(self, output: nn.Linear, size: int) -> None:
        super().__init__()
        self.weight, self.bias, self.size = output.weight, output.bias, size

    def forward(self, hidden_BSH: Tensor) -> Projection:
        bias_V = None if self.bias is None else self.bias[: self.size]
        return Projection(hidden_BSH, self.weight[: self.size], bias_V)
