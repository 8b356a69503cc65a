"""The weights of a pretrained encoder: read without executing anything, and fitted name by name.

They are read here and not by transformers, so that what does not fit is an error and never a
warning among others.
"""

from __future__ import annotations

import pickle
import re
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor

from nlpkit.bundle.format import WEIGHTS
from nlpkit.errors import BundleError
from nlpkit_bert.resolve import bundle_of, unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel

    from nlpkit.bundle.format import Bundle
    from nlpkit.pretrained import Pretrained
    from nlpkit_bert.masked import MaskedHead

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
    encoder: PreTrainedModel, model: Pretrained, head: MaskedHead | None = None
) -> tuple[str, ...]:
    """Puts the weights of a pretrained model into the encoder: each one, or none.

    Args:
        encoder: Takes them.
        model: A folder or a hub id, or a bundle, or a run that has one.
        head: Takes those of an output head, where there is a whole one.

    Returns:
        What became of heads, where that is to be said.

    Raises:
        ConfigError: There are none, they are damaged, or they are not just the encoder's.
    """
    bundle = bundle_of(model)
    paths = [] if bundle else model.weights()
    stored = _of_bundle(bundle, encoder) if bundle else {}
    stored |= {name: tensor for path in paths for name, tensor in _tensors(path).items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    compare(shapes, encoder, model.name)
    encoder.load_state_dict(_encoders_part(stored, encoder))
    if head is None:
        said = f"its head, of the task {bundle.task.name}, is left behind" if bundle else ""
    elif _load_head(head.network, encoder, stored):
        said = "its output head is used"
    else:
        tied = ", tied to the embeddings" if head.tied else ""
        said = f"it has no whole output head; a new one is made{tied}"
    return (f"{model.key} {model.name}: {said}",) if said else ()


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


def _load_head(
    head: PreTrainedModel, encoder: PreTrainedModel, stored: Mapping[str, Tensor]
) -> bool:
    """Whether a whole head is stored, which is filled with it, but for what the encoder has."""
    stored = {_modern(name): tensor for name, tensor in stored.items()}
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
    return whole


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


def _modern(name: str) -> str:
    """A name as it is now: the first checkpoints call the layer norm's gamma and beta."""
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
    return name.replace("LayerNorm.beta", "LayerNorm.bias")


def _listing(names: Iterable[str], limit: int = 5) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more
