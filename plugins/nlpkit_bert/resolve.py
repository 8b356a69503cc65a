"""What is known of a pretrained encoder before anything heavy is loaded: its config.json. No torch.

BERT's own names of sizes are used throughout; `named` says what another type calls them.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nlpkit.bundle.format import DESCRIPTION, Bundle, pretrained_bundle
from nlpkit.contracts import Resolution
from nlpkit.errors import ConfigError, Problem
from nlpkit.files import from_json
from nlpkit.pretrained import Pretrained
from nlpkit_bert import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nlpkit.contracts import HeadSpec
    from nlpkit_bert.config import BertOptions

TYPES = ("bert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta")
"""The types of models that are tested; others are tried, if they look like encoders of texts."""

AFTER_PADDING = (
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
"""Types that number their positions from pad_token_id + 1: so many of them are never used."""

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
"""The keys that describe a BERT: a description without `model_type` is one."""

ACTIVATIONS = ("hidden_act", "activation", "hidden_activation")
"""What the types call their activation."""

LEFT_BEHIND = (
    "add_cross_attention",
    "architectures",
    "attn_implementation",
    "auto_map",
    "chunk_size_feed_forward",
    "dtype",
    "experts_implementation",
    "finetuning_task",
    "gradient_checkpointing",
    "head",
    "id2label",
    "is_decoder",
    "label2id",
    "max_seq_length",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "quantization_config",
    "return_dict",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "trust_remote_code",
    "use_cache",
)
"""The keys of other types that do not shape the encoder: labels, how it was saved and used."""

HEADED = (*TYPES, "camembert", "deberta-v2", "mpnet")
"""The types whose heads for texts and tokens are tested; others have to be asked for."""

PROBLEMS = {
    "class": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}
"""What transformers calls the kinds of `HeadSpec`."""

TRAINED = {"sequence": "ForSequenceClassification", "token": "ForTokenClassification"}
"""How transformers calls models that have a head for a task, by the level of `HeadSpec`."""

_NAMES = {
    "distilbert": {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
    }
}
_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
_NO_NAME = re.compile(r"LABEL_\d+")
_NO_ENCODERS = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")


def resolve(options: BertOptions) -> Resolution:
    """Completes the options with the pretrained model's description: no other file is needed then.

    The learning rate is BERT's usual 5e-5 at width 768, and grows as the width shrinks.

    Raises:
        ConfigError: There is no such model, it is no encoder, or `freeze` names a layer it lacks.
    """
    if not options.description:
        options = _completed(options)
    description = options.description or {}
    layers = description[named("num_hidden_layers", description)]
    beyond = [layer for layer in options.frozen_layers() if layer >= layers]
    if beyond:
        message = f"there is no layer {beyond[0]}: the model has {layers}"
        remedy = f"number them from 0 to {layers - 1}"
        raise ConfigError([Problem(key="model.freeze", message=message, remedy=remedy)])
    return Resolution(
        options=options,
        learning_rate=5e-5 * 768 / description[named("hidden_size", description)],
        max_length=_longest(description),
        vocabulary=description.get("vocab_size"),
    )


def check(options: BertOptions) -> list[Problem]:
    """Looks at the description, and at the weights in a local folder, without reading them.

    The encoder is built, without numbers, only where something is odd: torch takes seconds.

    Raises:
        ConfigError: There are no weights, one of several files is missing or not whole, they do not
            fit the description, or there is no such encoder.
    """
    from safetensors import SafetensorError, safe_open

    model = pretrained_model(options.pretrained)
    files = model.folder.is_dir() and not bundle_of(model)  # whose weights are its model's
    paths = model.weights() if files else []
    shapes: dict[str, Sequence[int]] = {}
    for path in paths:
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, "np") as file:
                    names = file.keys()
                    shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in names}
        except SafetensorError as error:
            raise unusable(f"{path} is damaged ({error})", "restore the file") from error
    description = options.description or _describe(options.pretrained)
    if _is_odd(description, shapes) and find_spec("torch") and find_spec("transformers"):
        from nlpkit_bert.model import fit

        fit(description, shapes, options.pretrained)
    return sentence.check(options, model)


def _completed(options: BertOptions) -> BertOptions:
    """The options with what the pretrained model says, and with what follows from it."""
    model, head = pretrained_model(options.pretrained), options.head
    pooled = "pooling" in options.model_fields_set
    if pooled and head == "transformers":
        message = "transformers' heads pool as they are made to"
        remedy = "leave it out, or set model.head: nlpkit"
        raise ConfigError([Problem(key="model.pooling", message=message, remedy=remedy)])
    sentence.modules(model)
    options = sentence.complete(options, _describe(options.pretrained), model)
    update: dict[str, Any] = {"head": "nlpkit"} if pooled else {}
    if not pooled and (bundle := bundle_of(model)):
        update["pooling"] = bundle.model.options.get("pooling", options.pooling)
    return options.model_copy(update=update)


def is_library(head: str, description: Mapping[str, Any], level: str) -> bool:
    """Whether a head of this level is transformers' own, by `model.head` and the description."""
    own = head == "nlpkit" or (head == "auto" and description.get("head") != level)
    return level == "vocabulary" or not own


def kind_of(description: dict[str, Any]) -> str:
    """The type of model that a description is of."""
    return str(description.get("model_type", "bert"))


def named(size: str, description: dict[str, Any]) -> str:
    """The key that has one of BERT's sizes in the description of another type."""
    return _NAMES.get(kind_of(description), {}).get(size, size)


def shaping(found: dict[str, Any]) -> dict[str, Any]:
    """What shapes the encoder, of a config.json or of a description that anybody may have written.

    What is left behind may choose code: an attention's name can be a repository of kernels.
    """
    return {
        key: value
        for key, value in found.items()
        if key not in LEFT_BEHIND and not key.startswith("_")
    }


def pretrained_model(name: str) -> Pretrained:
    """Where the files of the pretrained model are."""
    return Pretrained(name, "model.pretrained")


def bundle_of(model: Pretrained) -> Bundle | None:
    """The bundle that a pretrained model is; None: it is a folder as transformers saves one.

    Raises:
        ConfigError: It is damaged, or not of this model, or an export.
    """
    bundle = pretrained_bundle(model, "bert")
    if bundle and not isinstance(_description(bundle), dict):
        raise unusable(f"{bundle.path} does not describe its model", "train it again")
    return bundle


def unusable(message: str, remedy: str) -> ConfigError:
    """The error that `model.pretrained` cannot be used."""
    return pretrained_model("").unusable(message, remedy)


def _longest(description: dict[str, Any]) -> int | None:
    """The longest input in tokens; None where positions have no end."""
    positions: int | None = description.get("max_position_embeddings")
    if positions is not None and kind_of(description) in AFTER_PADDING:
        padding = description.get("pad_token_id")
        positions -= 1 + (1 if padding is None else int(padding))
    known = [each for each in (positions, description.get(sentence.LONGEST)) if each is not None]
    return min(known, default=None)


def _is_odd(description: dict[str, Any], shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether an encoder may not be one of the tested types, or not have weights of these shapes.

    Args:
        description: What shapes the encoder.
        shapes: Of the stored weights, by name; empty where they are not known.
    """
    kind = kind_of(description)
    if kind not in TYPES or any(description.get(each, "gelu") != "gelu" for each in ACTIVATIONS):
        return True
    sizes = {size: description[named(size, description)] for size in REQUIRED}
    wide, narrow = sizes["hidden_size"], description.get("embedding_size", sizes["hidden_size"])
    expected = {(sizes["vocab_size"], narrow), (wide, sizes["intermediate_size"])}
    if kind != "modernbert":  # which has no table of positions
        expected.add((sizes["max_position_embeddings"], narrow))
    layers = {found[1] for name in shapes if (found := _LAYER.search(name))}
    unlike = len(layers) != sizes["num_hidden_layers"] or not expected <= {*shapes.values()}
    return bool(shapes) and unlike


def _description(bundle: Bundle) -> Any:
    return bundle.model.options.get("description")


def _describe(name: str) -> dict[str, Any]:
    model = pretrained_model(name)
    trained: dict[str, Any] = {}
    if bundle := bundle_of(model):
        path, found = bundle.path / DESCRIPTION, {"model_type": "bert", **_description(bundle)}
        level = bundle.head.level
        if level in TRAINED and is_library(bundle.model.options.get("head", "auto"), found, level):
            trained = {"head": level}
    else:
        path = model.file("config.json", remedy="save the model with save_pretrained")
        try:
            found = from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise unusable(f"{path} is not JSON ({error})", "restore the file") from error
    kind = found.get("model_type") if isinstance(found, dict) else None
    if not isinstance(kind, str):
        raise unusable(f"{path} does not say a model_type", "restore the file")
    _check(found, path)
    if not bundle:
        trained = next(({"head": level} for level in TRAINED if _has_head(found, level)), {})
    if kind != "bert":
        return shaping(found) | trained
    untied = {} if found.get("tie_word_embeddings", True) else {"tie_word_embeddings": False}
    beside = ["classifier_dropout"] if trained or found.get("classifier_dropout") else []
    beside += [sentence.LONGEST] if bundle else []
    return {key: found[key] for key in (*DESCRIBING, *beside) if key in found} | untied | trained


def _has_head(found: Mapping[str, Any], level: str) -> bool:
    known = kind_of({**found}) in HEADED
    return known and any(each.endswith(TRAINED[level]) for each in found.get("architectures") or [])


def labels_of(model: Pretrained, bundle: Bundle | None, spec: HeadSpec) -> list[str] | None:
    """What the outputs of a pretrained model's head are called, in order.

    Returns:
        [] where they have no names, as LABEL_0 is none; None where they are for another level or
        another kind of target.
    """
    if bundle:
        same = (bundle.head.level, bundle.head.kind) == (spec.level, spec.kind)
        return [*bundle.head.labels] if same else None
    found = from_json(model.file("config.json", remedy="").read_text(encoding="utf-8"))
    if spec.level == "sequence" and found.get("problem_type") not in (None, PROBLEMS[spec.kind]):
        return None
    names = found.get("id2label")
    if not isinstance(names, dict) or {*names} != {*map(str, range(len(names)))}:
        return []
    listed = [str(names[str(number)]) for number in range(len(names))]
    named = any(not _NO_NAME.fullmatch(each) for each in listed)
    return listed if named and len({*listed}) == len(listed) else []


def _check(found: dict[str, Any], path: Path) -> None:
    """Raises ConfigError for what is no encoder of texts, or lacks a size."""
    kind = kind_of(found)
    models = found.get("architectures") or []
    if not isinstance(models, list) or not all(isinstance(each, str) for each in models):
        raise unusable(f"{path}: architectures is no list of names", "restore the file")
    generates = any(model.endswith(_NO_ENCODERS) for model in models)
    if kind not in TYPES and (generates or found.get("is_encoder_decoder")):
        raise unusable(
            f'{path} describes a model of type "{kind}", which is no encoder',
            f"name an encoder ({', '.join(TYPES)}), or another model under model.name",
        )
    for size in REQUIRED:
        key = named(size, found)
        if kind not in TYPES and key not in found and size == "max_position_embeddings":
            continue
        if type(found.get(key)) is not int or found[key] < 1:
            raise unusable(
                f'{path}, which describes a model of type "{kind}", has no usable {key}',
                f"restore the file, or name an encoder ({', '.join(TYPES)})",
            )
    width, heads = (named(size, found) for size in ("hidden_size", "num_attention_heads"))
    if kind in TYPES and found[width] % found[heads]:
        raise unusable(
            f"{path}: {width} {found[width]} is not a multiple of {heads} {found[heads]}",
            "restore the file",
        )
