"""The head that fills masks: transformers' own, run at some places alone.

Shape suffixes: B batch, T tokens, S slots, V vocabulary, H hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from nlpkit.nn import Projection
from nlpkit_bert.resolve import unusable

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class MaskedHead(nn.Module):
    """What a model for masked language modeling, of any type, has beside its encoder.

    Args:
        network: transformers' model. It stays as it is, but for the encoder, in whose place it is
            given hidden states.
        size: Of the vocabulary: ids from there on, which the table may have, get no logits.

    Raises:
        ConfigError: There is no table of the vocabulary at its end.
    """

    def __init__(self, network: PreTrainedModel, size: int) -> None:
        super().__init__()
        output = network.get_output_embeddings()  # type: ignore[no-untyped-call]
        if not isinstance(output, nn.Linear) or len(output.weight) != network.config.vocab_size:
            kind = type(network).__name__
            raise unusable(f"{kind} has no output table that is known", "name another encoder")
        name = next(name for name, each in network.named_modules() if each is output)
        network.set_output_embeddings(_Output(output, size))  # type: ignore[no-untyped-call]
        beside = getattr(network.get_submodule(name.rpartition(".")[0]), "bias", None)
        if beside is not None and beside is not output.bias:  # as where nothing is tied
            beside.requires_grad_(False)
        setattr(network, network.base_model_prefix, _Given())
        self.network, self.tied = network, bool(network.config.tie_word_embeddings)

    def forward(self, hidden_BTH: Tensor, places_BS: Tensor) -> Projection:
        """Logits [batch, slots, size] of the places, which are not worked out yet."""
        places_BSH = places_BS.unsqueeze(-1).expand(-1, -1, hidden_BTH.shape[-1])
        hidden_BSH = hidden_BTH.gather(1, places_BSH)
        return cast("Projection", self.network(inputs_embeds=hidden_BSH).logits)


class _Given(nn.Module):
    """Stands for the encoder, which has run."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=inputs_embeds)


class _Output(nn.Module):
    """The last layer, with the table and the bias of transformers' own."""

    def __init__(self, output: nn.Linear, size: int) -> None:
        super().__init__()
        self.weight, self.bias, self.size = output.weight, output.bias, size

    def forward(self, hidden_BSH: Tensor) -> Projection:
        bias_V = None if self.bias is None else self.bias[: self.size]
        return Projection(hidden_BSH, self.weight[: self.size], bias_V)
