"""The weights of a pretrained encoder: read without executing anything, and fitted name by name.

They are read here and not by transformers, so that what does not fit is an error and never a
warning among others.
"""

from __future__ import annotations

import pickle
import re
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from nlpkit.bundle.format import WEIGHTS
from nlpkit.errors import BundleError
from nlpkit.nn import take_labels
from nlpkit_bert.heads import LibraryHead, MaskedHead
from nlpkit_bert.resolve import bundle_of, labels_of, unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import nn
    from transformers import PreTrainedModel

    from nlpkit.bundle.format import Bundle
    from nlpkit.contracts import HeadSpec
    from nlpkit.nn import Head
    from nlpkit.pretrained import Pretrained
    from nlpkit_bert.model import Bert

T = TypeVar("T")

HEADS = (
    "classifier",
    "cls",
    "decoder",
    "discriminator_predictions",
    "generator_lm_head",
    "generator_predictions",
    "head",
    "lm_head",
    "pooler",
    "pre_classifier",
    "qa_outputs",
    "vocab_layer_norm",
    "vocab_projector",
    "vocab_transform",
)
"""What transformers calls the heads of its models, and the pooler: they stay behind."""

_RESTORE = "restore the file"


def load_pretrained(
    model: Bert, pretrained: Pretrained, spec: HeadSpec, pooling: str
) -> tuple[tuple[str, ...], bool]:
    """Puts pretrained weights into a model: each one of the encoder, or none; and of a head what
    is for the same task, label by label.

    Args:
        model: Takes them.
        pretrained: A folder or a hub id, or a bundle, or a run that has one.
        spec: Of the model's head.
        pooling: What nlpkit's own head does.

    Returns:
        What became of heads, where that is to be said, and whether the head was trained for the
        task.

    Raises:
        ConfigError: There are none, they are damaged, or they are not just the encoder's.
    """
    encoder, bundle = model.bert, bundle_of(pretrained)
    paths = [] if bundle else pretrained.weights()
    stored = _of_bundle(bundle, encoder) if bundle else {}
    stored |= {name: tensor for path in paths for name, tensor in _tensors(path).items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    compare(shapes, encoder, pretrained.name)
    weights = _encoders_part(stored, encoder)
    encoder.load_state_dict(weights)
    if isinstance(model.head, MaskedHead):
        used = _load_masked(model.head.network, encoder, stored)
        trained, tied = bool(used), ", tied to the embeddings" if model.head.tied else ""
        made = f"it has no whole output head; a new one is made{tied}"
        said = "its output head is used" if trained else made
    else:
        pooled = not bundle or bundle.model.options.get("pooling", "mean") == pooling
        labels = labels_of(pretrained, bundle, spec) if pooled else None
        prefix = f"{encoder.base_model_prefix}."
        said, used, trained = _load_head(model.head, prefix, stored, spec, labels)
    if not said and bundle:
        said = f"its head, of the task {bundle.task.name}, is left behind"
    elif left := _heads_part([name for name in stored if name not in used], encoder):
        said = "; ".join(filter(None, (said, f"left behind: {_listing(left)}")))
    return (f"{pretrained.key} {pretrained.name}: {said}",) if said else (), trained


def _load_head(
    head: nn.Module,
    prefix: str,
    stored: Mapping[str, Tensor],
    spec: HeadSpec,
    labels: Sequence[str] | None,
) -> tuple[str, set[str], bool]:
    """Fills a head with what is stored for it.

    Args:
        head: transformers' or nlpkit's.
        prefix: What precedes the names of the encoder's pooler, but in a folder of it alone.
        stored: Tensors by transformers' names; of nlpkit's head `head.linear.weight`.
        spec: What the head gives.
        labels: What the stored head's outputs are called; [] for no names, None: they are for
            something else.

    Returns:
        What is said of that, the stored tensors that are used, and whether it is whole.
    """
    if isinstance(head, LibraryHead):
        last, own = head.last, dict(head.network.named_parameters())
    else:
        last = cast("Head", head).linear
        own = {f"head.{name}": parameter for name, parameter in head.named_parameters()}
    named = {
        name: each for name in own for each in (name, name.removeprefix(prefix)) if each in stored
    }
    ends = {name: end for name, each in own.items() for end in _ends(each, last)}
    row = {ends[name]: stored[named[name]] for name in ends.keys() & named}
    told = "" if labels is None else take_labels(last, row, spec, labels)
    taken = {*ends} if told else set()
    for name in named.keys() - ends:
        if stored[named[name]].shape == own[name].shape:
            own[name].data.copy_(stored[named[name]])
            taken.add(name)
    used = {named[name] for name in taken}
    if told and len(taken) == len(own):
        return told, used, True
    if not taken:
        return "", used, False
    why = "none of its labels is the task's"
    if labels is None:
        why = "it is for another kind of target"
    elif not labels:
        why = "its labels have no names; write id2label into its config.json"
    some, new = ([name for name in own if (name in taken) == each] for each in (True, False))
    said = f"of its head is used {', '.join(some)}; new is {', '.join(new)}"
    return f"{said} ({why})" if row and not told else said, used, False


def _ends(parameter: Tensor, layer: nn.Linear) -> list[str]:
    """The name that a layer has for its parameter; none for another's."""
    return [name for name, each in layer.named_parameters() if each is parameter]


def _of_bundle(bundle: Bundle, encoder: PreTrainedModel) -> dict[str, Tensor]:
    """The weights of a bundle, by the names that transformers would have for them."""
    try:
        bundle.verify(WEIGHTS)
    except BundleError as error:
        raise unusable(str(error), "") from error
    stored = _tensors(bundle.path / WEIGHTS)
    prefix = f"{encoder.base_model_prefix}."
    return {
        re.sub(r"^bert\.", prefix, name).removeprefix("head.network."): stored[name]
        for name in stored
    }


def _load_masked(
    head: PreTrainedModel, encoder: PreTrainedModel, stored: Mapping[str, Tensor]
) -> set[str]:
    """Fills a head, but for what the encoder has, where a whole one is stored; what is used."""
    names = {_modern(name): name for name in stored}
    stored = {name: stored[each] for name, each in names.items()}
    own = dict(head.named_parameters(remove_duplicate=False))
    known = {id(each) for each in encoder.parameters()}
    fitting = {name for name in own.keys() & stored.keys() if own[name].shape == stored[name].shape}
    for name in fitting:
        if id(own[name]) in known and not own[name].equal(stored[name].to(own[name].dtype)):
            message = f"{name} is not the table of the embeddings, though its config.json ties both"
            raise unusable(message, "set tie_word_embeddings: false in config.json")
    found = {name: stored[name] for name in fitting if id(own[name]) not in known}
    known |= {id(own[name]) for name in found}
    whole = all(id(each) in known for each in own.values())
    if whole:
        head.load_state_dict(found, strict=False)
    return {names[name] for name in own.keys() & names.keys()} if whole else set()


def compare(stored: Mapping[str, Sequence[int]], encoder: PreTrainedModel, folder: str) -> None:
    """Raises ConfigError where weights of these shapes, by name, are not just the encoder's."""
    found = _encoders_part(stored, encoder)
    wanted = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    wrong = {
        "missing": wanted.keys() - found.keys(),
        "unexpected": found.keys() - wanted.keys(),
        "of another shape": {
            name for name in wanted.keys() & found.keys() if wanted[name] != found[name]
        },
    }
    if any(wrong.values()):
        listed = "; ".join(f"{what}: {_listing(names)}" for what, names in wrong.items() if names)
        raise unusable(
            f"the weights in {folder} do not fit its config.json ({listed})",
            "restore the folder, or name another model",
        )


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise unusable(
            f"{path} holds more than tensors, or is damaged, and is not executed",
            "save the model as model.safetensors where you trust the file",
        ) from error
    except Exception as error:  # a damaged pickle is read until something fails, whatever that is
        raise unusable(f"{path} is damaged ({error})", _RESTORE) from error
    if not isinstance(found, dict) or not all(isinstance(each, Tensor) for each in found.values()):
        raise unusable(f"{path} is not a mapping of tensors", "save the model's state_dict in it")
    return found


def _encoders_part(found: Mapping[str, T], encoder: PreTrainedModel) -> dict[str, T]:
    """The encoder's part of a checkpoint, by the names that it has now.

    Heads stay behind. A model with a head prefixes the encoder's weights (`bert.`, `model.`), and
    what has no prefix beside these is a head by any name. Tables of numbers that old versions saved
    (position_ids) are computed now, and the first checkpoints call the layer norm's gamma and beta.
    """
    prefix = f"{encoder.base_model_prefix}."
    prefixed = any(name.startswith(prefix) for name in found)
    wanted = encoder.state_dict().keys()
    parts = {name.partition(".")[0] for name in wanted}
    computed = {name for name, _ in encoder.named_buffers()} - wanted
    weights = {}
    for full_name, value in found.items():
        name = full_name.removeprefix(prefix)
        part = name.partition(".")[0]
        head = part not in parts and (part in HEADS or (prefixed and name == full_name))
        if not head and name not in computed:
            weights[_modern(name)] = value
    return weights


def _heads_part(names: Iterable[str], encoder: PreTrainedModel) -> set[str]:
    """What a checkpoint has beside the encoder, by the names of its modules."""
    prefix = f"{encoder.base_model_prefix}."
    known = {*encoder.state_dict(), *(name for name, _ in encoder.named_buffers())}
    own = {_modern(name).removeprefix(prefix) for name in names} - known
    return {name.rpartition(".")[0] or name for name in own}


def _modern(name: str) -> str:
    """A name as it is now: the first checkpoints call the layer norm's gamma and beta."""
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
    return name.replace("LayerNorm.beta", "LayerNorm.bias")


def _listing(names: Iterable[str], limit: int = 5) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more
