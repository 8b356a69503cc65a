"""What is known of a pretrained BERT before anything heavy is loaded: its config.json. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit.contracts import Resolution
from nlpkit.environment import hub_folder
from nlpkit.errors import ConfigError, Problem, shorten

if TYPE_CHECKING:
    from nlpkit_bert.config import BertOptions

REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
"""Sizes without which the encoder cannot be built: positive whole numbers."""

DESCRIBING = (
    *REQUIRED,
    "type_vocab_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
)
"""The keys of a config.json that shape the encoder; the others (labels, paths) are left behind."""


def resolve(options: BertOptions) -> Resolution:
    """Completes the options with the pretrained model's description: no other file is needed then.

    The learning rate is BERT's usual 5e-5 at width 768, and grows as the width shrinks.

    Raises:
        ConfigError: There is no such model, it is no BERT, or `freeze` names a layer it lacks.
    """
    description = options.description or _describe(options.pretrained)
    layers = description["num_hidden_layers"]
    beyond = [layer for layer in options.frozen_layers() if layer >= layers]
    if beyond:
        message = f"there is no layer {beyond[0]}: the model has {layers}"
        remedy = f"number them from 0 to {layers - 1}"
        raise ConfigError([Problem(key="model.freeze", message=message, remedy=remedy)])
    return Resolution(
        options=options.model_copy(update={"description": description}),
        learning_rate=5e-5 * 768 / description["hidden_size"],
        max_length=description["max_position_embeddings"],
    )


def _describe(pretrained: str) -> dict[str, Any]:
    path = locate(pretrained, "config.json", remedy="save the model with save_pretrained")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise unusable(f"{path} is not JSON ({error})", "restore the file") from error
    kind = found.get("model_type") if isinstance(found, dict) else None
    if kind != "bert":
        raise unusable(
            f'{path} describes a model of type "{kind}", not "bert"',
            "name a BERT, or another model under model.name",
        )
    for key in REQUIRED:
        if type(found.get(key)) is not int or found[key] < 1:
            raise unusable(f"{path} has no usable {key}", "restore the file")
    return {key: found[key] for key in DESCRIBING if key in found}


def locate(pretrained: str, name: str, *, remedy: str) -> Path:
    """A file of a pretrained model: in its local folder, or from the hub through the hub's cache.

    Raises:
        ConfigError: The file is not there; `remedy` says what to do where the folder lacks it.
    """
    folder = Path(pretrained)
    if folder.is_dir():
        if not (folder / name).is_file():
            raise unusable(f"the folder {pretrained} has no {name}", remedy)
        return folder / name
    if folder.is_absolute() or pretrained.startswith((".", "~")):
        raise unusable(f"there is no folder {pretrained}", "correct the path")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        message = f'"{pretrained}" is no local folder, and models of the hub need huggingface_hub'
        raise unusable(message, "pip install 'nlpkit-sdk[train]'") from error
    try:
        return Path(hf_hub_download(pretrained, name, cache_dir=hub_folder()))
    except (OSError, ValueError) as error:
        reason = f"{type(error).__name__}: {shorten(str(error), 120)}"
        raise unusable(
            f'"{pretrained}" is no local folder, and the hub does not give its {name} ({reason})',
            "correct the model id, connect to huggingface.co, or name a local folder",
        ) from error


def unusable(message: str, remedy: str) -> ConfigError:
    """The error that `model.pretrained` cannot be used."""
    return ConfigError([Problem(key="model.pretrained", message=message, remedy=remedy)])
