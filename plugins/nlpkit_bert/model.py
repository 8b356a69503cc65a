"""BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805) and its kin.

The encoder is transformers'; the head is its own, or nlpkit's. Shape suffixes: B batch, T tokens,
S slots, V vocabulary, H hidden.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers
from torch import Tensor, nn
from transformers.activations import ACT2FN

from nlpkit.dropout import attention, use_fast_dropout
from nlpkit.errors import ConfigError, Problem, closest
from nlpkit.nn import Head
from nlpkit_bert.heads import LibraryHead, MaskedHead
from nlpkit_bert.resolve import (
    ACTIVATIONS,
    AFTER_PADDING,
    HEADED,
    TYPES,
    is_library,
    kind_of,
    named,
    pretrained_model,
    resolve,
    shaping,
    unusable,
)
from nlpkit_bert.weights import compare, load_pretrained

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nlpkit.contracts import HeadSpec, Vocabulary
    from nlpkit.nn import Projection
    from nlpkit_bert.config import BertOptions

DROPOUTS = (
    "hidden_dropout_prob",
    "dropout",
    "mlp_dropout",
    "attention_probs_dropout_prob",
    "attention_dropout",
    "embedding_dropout",
    "classifier_dropout",
    "seq_classif_dropout",
)
"""What the types call their dropout rates; the first one that a model has is the head's too."""


class Bert(nn.Module):
    """Token ids to logits. A pooler that no head uses is not there: it would learn from no loss.

    Attributes:
        notes: What a run says of the head that it begins with.
        trained: Whether that head was trained for the task.

    Args:
        options: Their description gives the sizes; one that is not filled in yet is looked up.
        head: What the task wants.

    Raises:
        ConfigError: The installed transformers has no such encoder.
    """

    notes: tuple[str, ...] = ()
    trained: bool = False

    def __init__(self, options: BertOptions, head: HeadSpec) -> None:
        super().__init__()
        self.description = resolve(options).options.description
        self.spec, self.dropout = head, options.dropout
        config = config_of(self.description, options.dropout, size=head.size)
        masked = head.level == "vocabulary"
        library = is_library(options.head, self.description, head.level)
        network = network_of(config, head.level if library else None)
        self.bert = cast("transformers.PreTrainedModel", network.base_model)
        use_fast_dropout(network)
        taken = inspect.signature(type(self.bert).forward).parameters
        self.types = getattr(config, "type_vocab_size", 0) if "token_type_ids" in taken else 0
        beside = [head.over] if masked else ["token_type_ids"] * (self.types > 1)
        self.inputs = ("input_ids", "attention_mask", *beside)
        dropout = next((getattr(config, name) for name in DROPOUTS if hasattr(config, name)), 0.0)
        self.head: nn.Module
        if masked:
            if options.head == "nlpkit":
                message = "nlpkit has no head of its own that fills masks"
                problem = Problem(key="model.head", message=message, remedy="leave it out")
                raise ConfigError([problem])
            self.head = MaskedHead(network, head.size)
        elif library:
            self.head = LibraryHead(network)
            if kind_of(self.description) not in HEADED:
                self._try(self.head)
        else:
            self.head = Head(config.hidden_size, head, pooling=options.pooling, dropout=dropout)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        beside: Tensor | None = None,
        *,
        document_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor | Projection:
        """Logits of int64 inputs.

        Args:
            input_ids: [batch, tokens].
            attention_mask: [batch, tokens]: 1 at real tokens.
            beside: [batch, tokens]: the tokens' types; or, for logits over the vocabulary, [batch,
                slots]: the tokens that they are wanted for, by place.
            document_ids: [batch, tokens]: tokens see those of their own document alone.
            position_ids: [batch, tokens]: the place of each in its document, from 0.
        """
        mask_BT = attention_mask.bool()
        masked = isinstance(self.head, MaskedHead)
        given: dict[str, Any] = {"attention_mask": self._mask(mask_BT, document_ids)}
        if self.types:
            given["token_type_ids"] = input_ids * 0 if masked or beside is None else beside
        if position_ids is not None:
            after = kind_of(self.description) in AFTER_PADDING
            first = self.bert.config.pad_token_id + 1 if after else 0
            given["position_ids"] = position_ids + first
        hidden_BTH = self.bert(input_ids=input_ids, **given).last_hidden_state
        return cast("Tensor | Projection", self.head(hidden_BTH, beside if masked else mask_BT))

    def _try(self, head: LibraryHead) -> None:
        """Raises ConfigError where a head that is not tested wants more than hidden states."""
        try:
            with torch.no_grad():
                head.eval()(torch.zeros(1, 2, self.bert.config.hidden_size), torch.ones(1, 2))
        except Exception as error:  # whatever it needs
            kind = type(head.network).__name__
            message = f"the head of {kind} needs more than hidden states ({error})"
            problem = Problem(key="model.head", message=message, remedy="set it to nlpkit")
            raise ConfigError([problem]) from error
        head.train()

    def _mask(
        self, mask_BT: Tensor, documents_BT: Tensor | None = None
    ) -> Tensor | dict[str, Tensor]:
        """The mask as attention takes it.

        Of a mask [batch, tokens] transformers asks whether all of it is true: a wait for the device
        in every step, and a branch that tracing freezes. [B, 1, 1, T] is taken as it is.
        """
        kind = kind_of(self.description)
        if kind not in TYPES and documents_BT is None:
            return mask_BT.long()
        if kind not in TYPES:
            message = f'how a "{kind}" keeps the documents of a packed row apart is not known'
            raise unusable(message, f"pack no rows, or name an encoder ({', '.join(TYPES)})")
        seen_B1TT = mask_BT[:, None, None, :]
        if kind != "modernbert" and documents_BT is None:
            return seen_B1TT
        # As far apart as a window reaches; padding sees itself, so that its numbers are finite.
        places_T = mask_BT[0].long().mul(0).add(1).cumsum(dim=0)
        apart_TT = (places_T[:, None] - places_T[None, :]).abs()
        if documents_BT is not None:
            same_B1TT = documents_BT[:, None, :, None] == documents_BT[:, None, None, :]
            seen_B1TT = (seen_B1TT & same_B1TT) | (apart_TT == 0)
        if kind != "modernbert":
            return seen_B1TT
        near_B1TT = (apart_TT <= self.bert.config.sliding_window) & (seen_B1TT | (apart_TT == 0))
        return {"full_attention": seen_B1TT, "sliding_attention": near_B1TT}


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
        pretrained = pretrained_model(options.pretrained)
        model.notes, model.trained = load_pretrained(model, pretrained, head, options.pooling)
    _freeze(model, options)
    return model


def fit(description: dict[str, Any], shapes: Mapping[str, Sequence[int]], name: str) -> None:
    """Tries whether there is such an encoder, and whether weights are just its own.

    Args:
        description: What shapes the encoder.
        shapes: Of the weights, by name; empty where they are not known.
        name: The pretrained model's.

    Raises:
        ConfigError: There is not, or they are not.
    """
    with torch.device("meta"):
        encoder = network_of(config_of(description, None))
    if shapes:
        compare(shapes, encoder, name)


@contextmanager
def _from_transformers(kind: str) -> Iterator[None]:
    """What transformers says of a description that it cannot use, as ConfigError."""
    try:
        yield
    except Exception as error:  # an unknown type is a ValueError, unfit values are many things
        message = f'transformers {transformers.__version__} has no "{kind}" of this config.json'
        reason = f"{type(error).__name__}: {error}"
        remedy = f"install the version that it needs, or name an encoder ({', '.join(TYPES)})"
        raise unusable(f"{message} ({reason})", remedy) from error


def config_of(
    description: dict[str, Any],
    dropout: float | None,
    *,
    size: int = 2,
    attention: str | None = "nlpkit",
) -> transformers.PreTrainedConfig:
    """The configuration of transformers for a description.

    Args:
        description: What shapes the encoder.
        dropout: Of all layers; None: the description's.
        size: How many values a head gives.
        attention: How it is worked out, in types that are tested.

    Raises:
        ConfigError: The installed transformers has no such one.
    """
    kind = kind_of(description)
    settings = {**shaping(description), "num_labels": size}
    settings.pop("model_type", None)
    if kind in TYPES and attention:
        settings["attn_implementation"] = attention
    with _from_transformers(kind):
        config = transformers.AutoConfig.for_model(kind, **settings)
    for key in ACTIVATIONS:
        value = getattr(config, key, None)
        if isinstance(value, str) and value not in ACT2FN:
            message = f'config.json: {key}: transformers has no activation "{value}"'
            guess = closest(value, ACT2FN)
            raise unusable(message, f'did you mean "{guess}"?' if guess else "restore the file")
    if dropout is not None:
        for name in DROPOUTS:
            if hasattr(config, name):
                setattr(config, name, dropout)
    return config


AUTO: dict[str | None, Any] = {
    None: transformers.AutoModel,
    "sequence": transformers.AutoModelForSequenceClassification,
    "token": transformers.AutoModelForTokenClassification,
    "vocabulary": transformers.AutoModelForMaskedLM,
}
"""The classes of transformers by the level of their head; None: without one."""


def network_of(
    config: transformers.PreTrainedConfig, level: str | None = None
) -> transformers.PreTrainedModel:
    """The encoder, or one with a head, of classes that transformers itself has.

    Its weights are random, and in float32.

    Raises:
        ConfigError: It has none.
    """
    found = transformers.MODEL_MAPPING.get(type(config), None)
    known = transformers.MODEL_FOR_MASKED_LM_MAPPING.get(type(config), None)
    if not inspect.isclass(found) or known is None or config.is_encoder_decoder:
        kind = config.model_type
        raise unusable(
            f'transformers {transformers.__version__} has no encoder of texts of type "{kind}"',
            f"name an encoder ({', '.join(TYPES)}), or another model under model.name",
        )
    pooled = "add_pooling_layer" in inspect.signature(found.__init__).parameters
    pooling = {"add_pooling_layer": False} if pooled and level is None else {}
    settings = {"trust_remote_code": False, "dtype": torch.float32, **pooling}
    with _from_transformers(config.model_type):
        return cast("transformers.PreTrainedModel", AUTO[level].from_config(config, **settings))


def _attend(
    module: nn.Module,
    query_BNTD: Tensor,
    key_BNTD: Tensor,
    value_BNTD: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The core's attention as transformers calls one; gives [batch, tokens, heads, D]."""
    mixed_BNTD = attention(
        query_BNTD, key_BNTD, value_BNTD, attention_mask, dropout=dropout, scale=scaling
    )
    return mixed_BNTD.transpose(1, 2).contiguous(), None


transformers.AttentionInterface.register("nlpkit", _attend)


def _freeze(model: Bert, options: BertOptions) -> None:
    """Stops what `freeze` names from learning."""
    if "embeddings" in options.freeze:
        for name, part in model.bert.named_children():
            if name.startswith("embeddings"):
                part.requires_grad_(False)
    count = model.description[named("num_hidden_layers", model.description)]
    lists = (each for each in model.bert.modules() if isinstance(each, nn.ModuleList))
    layers = next((each for each in lists if len(each) == count), None)
    for number in options.frozen_layers():
        if layers is None:
            message = f"the layers of {type(model.bert).__name__} cannot be told apart"
            problem = Problem(key="model.freeze", message=message, remedy="name no layers")
            raise ConfigError([problem])
        layers[number].requires_grad_(False)
