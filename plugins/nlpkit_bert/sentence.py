"""What a model of sentence-transformers says beside its encoder: its pooling, its longest input.

Read are the names that sentence-transformers 6.2 writes, and those of before. No torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlpkit.errors import Problem
from nlpkit.files import from_json

if TYPE_CHECKING:
    from pathlib import Path

    from nlpkit.pretrained import Module, Pretrained
    from nlpkit_bert.config import BertOptions

LONGEST = "max_seq_length"
"""The key of a description that has the longest input, where that is shorter than the positions."""

_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_POOLINGS = ("mean", "cls")


def complete(options: BertOptions, description: dict[str, Any], model: Pretrained) -> BertOptions:
    """The options with the description, and with the model's pooling where none was chosen.

    Raises:
        ConfigError: Its first module is no encoder, or a file of it cannot be read.
    """
    update: dict[str, Any] = {"description": description}
    if listed := modules(model):
        longest, positions = _longest(model), description.get("max_position_embeddings")
        if longest is not None and (positions is None or longest < positions):
            update["description"] = description | {LONGEST: longest}
        pooling = _pooling(listed, model)
        if pooling in _POOLINGS and "pooling" not in options.model_fields_set:
            update["pooling"] = pooling
    return options.model_copy(update=update)


def check(options: BertOptions, model: Pretrained) -> list[Problem]:
    """What of the model is left behind, by name.

    Raises:
        ConfigError: As `complete`.
    """
    listed = modules(model)
    behind = [name for each in listed[1:] if (name := _name(each)) != "Pooling"]
    if listed and _json(model, model.optional("sentence_bert_config.json")).get("do_lower_case"):
        behind.append("do_lower_case of sentence_bert_config.json")
    found = []
    if behind:
        message = f"{model.name} is a model of sentence-transformers: its encoder is taken, and "
        found.append(_warning(f"{message}left behind what it has beside: {', '.join(behind)}"))
    pooling = _pooling(listed, model)
    if pooling and pooling not in _POOLINGS:
        message = f"{model.name} pools by {pooling}, which nlpkit does not; a text is what "
        remedy = f"choose between {' and '.join(_POOLINGS)} there"
        found.append(_warning(f"{message}model.pooling says, {options.pooling}", remedy))
    return found


def modules(model: Pretrained) -> list[Module]:
    """Those that modules.json lists. Raises ConfigError where the first one is no encoder."""
    found = model.modules()
    if found and (_name(found[0]) != "Transformer" or not _own(found[0])):
        message = f"{model.name} is a model of sentence-transformers that begins with a module "
        remedy = "name a model that begins with their Transformer, or the encoder's own folder"
        raise model.unusable(f"{message}{found[0].type}", remedy)
    return found


def _own(module: Module) -> bool:
    return module.type.startswith("sentence_transformers.")


def _name(module: Module) -> str:
    return module.type.rpartition(".")[2]


def _pooling(listed: list[Module], model: Pretrained) -> str:
    """Its modes, joined by "+"; "": it has no such module."""
    path = next((each.path for each in listed if _name(each) == "Pooling"), None)
    if path is None:
        return ""
    found = _json(model, model.beside(f"{path}/config.json"))
    modes = found.get("pooling_mode") or [mode for key, mode in _FLAGS.items() if found.get(key)]
    return "+".join(map(str, [modes] if isinstance(modes, str) else modes)) or "mean"


def _longest(model: Pretrained) -> int | None:
    """In tokens: where the old file does not say it, the tokenizer's does."""
    places = {"sentence_bert_config.json": LONGEST, "tokenizer_config.json": "model_max_length"}
    for name, key in places.items():
        longest = _json(model, model.optional(name)).get(key)
        if type(longest) is int and longest > 0:
            return longest
    return None


def _json(model: Pretrained, path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise model.unusable(f"{path} is not JSON ({error})", "restore the file") from error
    return found if isinstance(found, dict) else {}


def _warning(message: str, remedy: str = "") -> Problem:
    return Problem(key="model.pretrained", message=message, remedy=remedy, severity="warning")
