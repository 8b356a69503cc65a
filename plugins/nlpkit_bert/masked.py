"""The head that fills masks: transformers' own, run at some places alone.

Shape suffixes: B batch, S slots, V vocabulary, H hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput

from nlpkit_bert.resolve import unusable

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def head_of(network: PreTrainedModel, size: int) -> PreTrainedModel:
    """What a model for masked language modeling has beside its encoder.

    It is the model itself, whatever its type: only that it takes the hidden states as
    `inputs_embeds` [batch, slots, hidden], and gives the logits of the first `size` ids.

    Raises:
        ConfigError: It has no table of its vocabulary at its end.
    """
    output = network.get_output_embeddings()
    if not isinstance(output, nn.Linear) or len(output.weight) != network.config.vocab_size:
        kind = type(network).__name__
        raise unusable(f"{kind} has no output table that is known", "name another encoder")
    network.set_output_embeddings(_Output(output, size))
    for each in network.parameters():  # a bias beside the output's own, where none are tied
        if each.shape == (len(output.weight),) and each is not output.bias:
            each.requires_grad_(False)
    setattr(network, network.base_model_prefix, _Given())
    return network


class _Given(nn.Module):
    """Stands for the encoder, which has run."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=inputs_embeds)


class _Output(nn.Module):
    """The last layer, with the table and the bias of transformers' own."""

    def __init__(self, output: nn.Linear, size: int) -> None:
        super().__init__()
        self.weight, self.size = output.weight, size
        self.register_parameter("bias", output.bias)

    def forward(self, hidden_BSH: Tensor) -> Tensor:
        bias_V = None if self.bias is None else self.bias[: self.size]
        return F.linear(hidden_BSH, self.weight[: self.size], bias_V)
