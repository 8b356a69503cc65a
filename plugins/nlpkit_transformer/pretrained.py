"""What a trained transformer gives another one to begin with: its sizes, and its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tokenizers import Tokenizer

from nlpkit.bundle.format import WEIGHTS, pretrained_bundle
from nlpkit.bundle.tokenizer import TOKENIZER
from nlpkit.contracts import Resolution
from nlpkit.errors import BundleError, ConfigError, Problem
from nlpkit.pretrained import Pretrained
from nlpkit_transformer.config import TransformerConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from nlpkit.bundle.format import Bundle
    from nlpkit.contracts import HeadSpec, Vocabulary
    from nlpkit_transformer.encoder_decoder import Translator
    from nlpkit_transformer.model import Reader, Writer

SHAPE = (
    *("layers", "decoder_layers", "hidden", "heads", "feed_forward"),
    *("positions", "norm", "tied"),
)
"""The options that weights belong to."""

_KEY = "model.pretrained"
_OWN = "take its tokenizer (tokenizer: pretrained)"
_RATE = 5e-4
_STACKS = ("encoder", "decoder")
_POSITIONS = "embedding.positions"
_TABLE = "output.table"  # of words that are said, where it is not that of the embedding


def resolve(options: TransformerConfig) -> Resolution:
    """The model's own learning rate; with `pretrained` the sizes of that.

    It takes texts of any length, but where positions are learned.

    Raises:
        ConfigError: There is no such model, or it has other sizes.
    """
    if options.pretrained is None:
        return Resolution(options=options, learning_rate=_RATE)
    tokenizer = Pretrained(options.pretrained, _KEY).folder / TOKENIZER
    if options.model_fields_set >= {*SHAPE}:  # it is completed, and that may be gone
        return Resolution(options=options, learning_rate=_RATE, tokenizer=tokenizer)
    bundle = _bundle(options.pretrained)
    sizes = _sizes(bundle, options)
    learned = sizes["positions"] == "learned"
    pooling = {"pooling": bundle.model.options.get("pooling", options.pooling)}
    return Resolution(
        options=TransformerConfig(**pooling | options.model_dump(exclude_unset=True) | sizes),
        learning_rate=_RATE,
        max_length=bundle.vocabulary.max_length if learned else None,
        vocabulary=bundle.vocabulary.size,
        tokenizer=tokenizer,
    )


def check(options: TransformerConfig) -> list[Problem]:
    """Whether what it begins with is whole and fits, if it is there. Raises ConfigError."""
    if options.pretrained is not None and Pretrained(options.pretrained, _KEY).folder.is_dir():
        _sizes(_bundle(options.pretrained, whole=True), options)
    return []


def load(
    network: Reader | Writer | Translator,
    options: TransformerConfig,
    vocabulary: Vocabulary,
    head: HeadSpec,
) -> tuple[str, ...]:
    """Puts a trained model's weights into another: those of embedding and blocks, which all fit.

    Those of an encoder fit a decoder, and the other way round; of a model that has both one begins
    with them. A head for the same task is taken label by label, another one stays behind, and so
    does a table of words where none are said.

    Args:
        network: Takes them.
        options: Its own; `pretrained` is a run or a bundle of a transformer.
        vocabulary: Its own.
        head: What its head gives.

    Returns:
        What became of heads, where that is to be said.

    Raises:
        ConfigError: There are none, they are damaged, or not of this model's sizes and tokens.
    """
    import torch
    from safetensors.torch import load_file

    name = str(options.pretrained)
    bundle, own = _bundle(name, whole=True), vocabulary.tokenizer
    _sizes(bundle, options)
    stored_tokens = Tokenizer.from_file(str(bundle.path / TOKENIZER)).get_vocab()
    if own and own.get_vocab() != stored_tokens:
        raise Pretrained(name, _KEY).unusable(f"the tokens of {name} are others", _OWN)
    stored = load_file(bundle.path / WEIGHTS)
    there = [stack for stack in _STACKS if any(each.startswith(stack) for each in stored)]
    wanted = [stack for stack in _STACKS if hasattr(network, stack)]
    if not {*wanted} & {*there}:
        stored = {each.replace(f"{there[0]}.", f"{wanted[0]}.", 1): stored[each] for each in stored}
        there = wanted
    new = [f"{stack}." for stack in wanted if stack not in there]
    for each, parameter in network.named_parameters():
        if each.startswith(("head.", *new)) or (".cross_" in each and each not in stored):
            continue
        found = stored.pop(each, torch.empty(0))
        if each == _POSITIONS:  # shorter texts have the first of them
            found = found[: len(parameter)]
        if found.shape == parameter.shape:
            parameter.data.copy_(found)
        elif each == _TABLE:
            new.append("output.")
        else:
            message = f"{name}: its {each} is {[*found.shape]}, and {[*parameter.shape]} here"
            raise Pretrained(name, _KEY).unusable(message, _OWN)
    told, same = "", (bundle.head.level, bundle.head.kind) == (head.level, head.kind)
    if same and bundle.model.options.get("pooling", options.pooling) == options.pooling:
        told = _take_head(network, stored, head, bundle.head.labels)
    heads = sorted(
        {"cross-attention" if ".cross_" in each else each.partition(".")[0] for each in stored}
    )
    return (
        *([f"{_KEY} {name}: {told}"] if told else ()),
        *(f"{_KEY} {name}: its {each} is left behind" for each in heads),
        *(f"{_KEY} {name}: has no {each[:-1]}, which is new" for each in new),
    )


def _take_head(
    network: nn.Module, stored: dict[str, Tensor], spec: HeadSpec, labels: Sequence[str]
) -> str:
    """Moves what is stored of a head into that of the network; what is said of it."""
    from nlpkit.nn import Head, take_labels

    head = getattr(network, "head", None)
    if not isinstance(head, Head):
        return ""
    names = {f"head.linear.{end}": end for end in ("weight", "bias")}
    row = {end: stored[name] for name, end in names.items() if name in stored}
    if told := take_labels(head.linear, row, spec, labels):
        cast("Reader", network).trained = True
        for name in names:
            del stored[name]
    return told


def _sizes(bundle: Bundle, options: TransformerConfig) -> dict[str, Any]:
    """The sizes that weights have. Raises ConfigError where others were chosen."""
    origin = TransformerConfig(**bundle.model.options).completed(bundle.head.level)
    sizes, level = {name: getattr(origin, name) for name in SHAPE}, bundle.head.level
    if level != "target":  # its decoder is all that it has, or a new one will do
        sizes["decoder_layers"] = sizes["layers"] if level == "next" else options.decoder_layers
    for name in SHAPE:
        wanted = getattr(options, name)
        if name in options.model_fields_set and wanted not in (None, sizes[name]):
            message = f"{options.pretrained} was trained with {name}: {sizes[name]}"
            problem = Problem(key=f"model.{name}", message=message, remedy="leave it out")
            raise ConfigError([problem])
    return sizes


def _bundle(name: str, *, whole: bool = False) -> Bundle:
    """The bundle of this name, its weights verified where it is wanted `whole`.

    Raises:
        ConfigError: It is none of a transformer, or it is damaged.
    """
    model = Pretrained(name, _KEY)
    bundle = pretrained_bundle(model, "transformer")
    if bundle is None:
        raise model.unusable(f"{name} is no run and no bundle", "name the run of a transformer")
    if whole:
        try:
            bundle.verify(WEIGHTS)
        except BundleError as error:
            raise model.unusable(str(error), "") from error
    return bundle
