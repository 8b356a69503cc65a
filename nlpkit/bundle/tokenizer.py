"""A bundle's tokenizer, for the tokenizers library and for transformers' AutoTokenizer."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from nlpkit.errors import BundleError, PluginError
from nlpkit.files import write_json
from nlpkit.plugin.imports import blaming

if TYPE_CHECKING:
    from pathlib import Path

TOKENIZER = "tokenizer.json"
_CONFIG = "tokenizer_config.json"
_VOCABULARY = "vocab.txt"

_GIVEN = ("input_ids", "token_type_ids", "attention_mask")
"""The inputs that a tokenizer of transformers gives."""

_SPECIAL = {
    "bos_token": ("<s>",),
    "eos_token": ("</s>",),
    "unk_token": ("[UNK]", "<unk>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "cls_token": ("[CLS]", "<s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
"""What special tokens are called, by their keys in tokenizer_config.json."""


def write_tokenizer(folder: Path, path: Path, max_length: int, inputs: list[str]) -> None:
    """Writes tokenizer.json, and what others than the tokenizers library need beside it.

    Args:
        folder: The bundle's folder.
        path: The tokenizer.json.
        max_length: The longest text, in tokens.
        inputs: What the model takes, by name.
    """
    stored = json.loads(shutil.copyfile(path, folder / TOKENIZER).read_bytes())
    model = stored["model"]
    if model["type"] == "WordPiece":
        tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
        lines = "".join(f"{token}\n" for token in tokens)
        (folder / _VOCABULARY).write_text(lines, encoding="utf-8")
    special = {each["content"] for each in stored["added_tokens"] if each["special"]}
    names = {key: name for key, known in _SPECIAL.items() for name in known if name in special}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": [name for name in inputs if name in _GIVEN],
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / _CONFIG, {**settings, **names})


def read_tokenizer(folder: Path, size: int) -> Tokenizer:
    """The tokenizer of a bundle, which neither cuts nor pads.

    Args:
        folder: The bundle's folder.
        size: The number of ids that the model takes.

    Raises:
        BundleError: It is none, or has other ids.
    """
    path = folder / TOKENIZER
    try:
        with blaming(""):
            tokenizer = Tokenizer.from_file(str(path))
            tokenizer.no_padding()
            tokenizer.no_truncation()
            ids = *tokenizer.get_vocab().values(), *tokenizer.encode("", "").ids
    except PluginError as error:
        raise BundleError(f"{path}: is no tokenizer ({error})") from None
    if max(ids, default=0) >= size:
        raise BundleError(
            f"{path}: has a token of the id {max(ids)}; its model takes those below {size}"
        )
    return tokenizer
