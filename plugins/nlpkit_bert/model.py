"""BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805) under nlpkit's own head.

The encoder is transformers'. Its weights are read here, from safetensors only, so that what does
not fit is an error and never a warning among others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from nlpkit.nn import Head
from nlpkit_bert.resolve import locate, resolve, unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nlpkit.contracts import HeadSpec, Vocabulary
    from nlpkit_bert.config import BertOptions


class Bert(nn.Module):
    """Token ids to logits. There is no pooler: it would be trained by no loss.

    Args:
        options: Their description gives the sizes; one that is not filled in yet is looked up.
        head: What the task wants.
    """

    inputs = ("input_ids", "attention_mask", "token_type_ids")

    def __init__(self, options: BertOptions, head: HeadSpec) -> None:
        super().__init__()
        settings = {**resolve(options).options.description, "attn_implementation": "sdpa"}
        if options.dropout is not None:
            settings["hidden_dropout_prob"] = options.dropout
            settings["attention_probs_dropout_prob"] = options.dropout
        config = transformers.BertConfig(**settings)
        self.bert = transformers.BertModel(config, add_pooling_layer=False)
        dropout = config.hidden_dropout_prob
        self.head = Head(config.hidden_size, head, pooling=options.pooling, dropout=dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Logits of int64 inputs, each [batch, tokens]; the mask is 1 at real tokens."""
        mask_BT = attention_mask.bool()
        # Of a mask [batch, tokens] transformers asks whether all of it is true: a wait for the
        # device in every step, and a branch that tracing freezes. [B, 1, 1, T] is taken as it is.
        output = self.bert(
            input_ids=input_ids,
            attention_mask=mask_BT[:, None, None, :],
            token_type_ids=token_type_ids,
        )
        return cast("Tensor", self.head(output.last_hidden_state, mask_BT))


def build(options: BertOptions, head: HeadSpec, vocabulary: Vocabulary, *, weights: bool) -> Bert:
    """The model, with pretrained weights or, for weights that come from elsewhere, random ones.

    Raises:
        ConfigError: The tokenizer is not this model's, or the weights are not there or do not fit.
    """
    model = Bert(options, head)
    known = model.bert.config.vocab_size
    if vocabulary.size > known:
        raise unusable(
            f"the tokenizer gives {vocabulary.size} different ids, the model knows {known}",
            "take the tokenizer that was made for the model (tokenizer.pretrained)",
        )
    if weights:
        _load(model.bert, options.pretrained)
    if "embeddings" in options.freeze:
        model.bert.embeddings.requires_grad_(False)
    for layer in options.frozen_layers():
        model.bert.encoder.layer[layer].requires_grad_(False)
    return model


def _load(bert: nn.Module, pretrained: str) -> None:
    """Puts the weights of a pretrained model into the encoder: each one, or none."""
    remedy = "save the model with save_pretrained: pickled weights are never read"
    path = locate(pretrained, "model.safetensors", remedy=remedy)
    try:
        found = _encoder_weights(load_file(path))
    except SafetensorError as error:
        raise unusable(f"{path} is damaged ({error})", "restore the file") from error
    wanted = bert.state_dict()
    wrong = {
        "missing": wanted.keys() - found.keys(),
        "not BERT's": found.keys() - wanted.keys(),
        "of another shape": {
            name for name in wanted.keys() & found.keys() if wanted[name].shape != found[name].shape
        },
    }
    if any(wrong.values()):
        listed = "; ".join(f"{what}: {_listing(names)}" for what, names in wrong.items() if names)
        raise unusable(
            f"the weights in {path} do not fit its config.json ({listed})",
            "restore the folder, or name another model",
        )
    bert.load_state_dict(found)


def _encoder_weights(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's part of a checkpoint, by the names that it has now.

    Heads of earlier tasks and the pooler stay behind. A model with such a head prefixes the
    encoder's weights with `bert.`, and the first checkpoints call the layer norm's gamma and beta.
    """
    weights = {}
    for full_name, tensor in found.items():
        name = full_name.removeprefix("bert.")
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        name = name.replace("LayerNorm.beta", "LayerNorm.bias")
        if name.startswith(("embeddings.", "encoder.")) and name != "embeddings.position_ids":
            weights[name] = tensor
    return weights


def _listing(names: Iterable[str], limit: int = 5) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more
