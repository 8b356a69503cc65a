"""The tokenizer of a folder that is older than tokenizer.json, as transformers makes it.

transformers is given copies of the files that it reads, in a folder of their own: there is nothing
in it that could be executed.
"""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import TokenizersBackend

    from nlpkit.pretrained import Pretrained

FILES = ("sentencepiece.bpe.model", "spiece.model", "spm.model", "vocab.json")
"""What such a folder has: the model of XLM-RoBERTa and CamemBERT, of ALBERT and T5, or of DeBERTa
that SentencePiece made, or the vocabulary of RoBERTa, which has merges.txt beside it."""

_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def convert(model: Pretrained, path: Path, described: dict[str, Any], remedy: str) -> Tokenizer:
    """The tokenizer that transformers makes of a file and of those beside it.

    Args:
        model: Has the files.
        path: That of `FILES`.
        described: What tokenizer_config.json says, over what config.json says.
        remedy: What helps where transformers alone cannot make it.

    Raises:
        ConfigError: What it takes is not installed, the files are damaged or incomplete, or they
            are for a tokenizer that transformers does not have, or not as a tokenizer.json.
    """
    _check_readable(model, path)
    kind = _class(model, described, remedy)
    own = (name for key, name in kind.vocab_files_names.items() if key != "tokenizer_file")
    found = [model.file(name, remedy=f"restore the file, or {remedy}") for name in own]
    found += [beside for name in _BESIDE if (beside := model.optional(name))]
    with TemporaryDirectory() as folder:
        for each in found:
            shutil.copyfile(each, Path(folder, each.name))
        try:
            made = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # what is wrong with a file shows as many things
            reason = f"{type(error).__name__}: {error}".replace(folder, model.name)
            message = f"transformers makes no {kind.__name__} of {path} ({reason})"
            raise model.unusable(message, "restore the file") from error
    return cast("Tokenizer", made.backend_tokenizer)


def _check_readable(model: Pretrained, path: Path) -> None:
    """Raises ConfigError where a library is missing, or the file is no model of SentencePiece.

    Of such a file transformers would say that it needs tiktoken.
    """
    made = path.suffix == ".model"
    try:
        import transformers  # noqa: F401

        if made:
            from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2  # noqa: F401
    except Exception as error:  # protobuf's own, where it is older than SentencePiece wants
        missing = error.name if isinstance(error, ImportError) else error
        message = f"{model.name} has no tokenizer.json, and to make it of {path.name} takes "
        extras = "train,sentencepiece" if made else "train"
        remedy = f"pip install --upgrade 'nlpkit-sdk[{extras}]'{' protobuf' if made else ''}"
        raise model.unusable(f"{message}{missing or error}", remedy) from error
    try:
        if made:
            SentencePieceProcessor().LoadFromSerializedProto(path.read_bytes())
        else:
            json.loads(path.read_bytes())
    except (RuntimeError, ValueError) as error:
        what = "model of SentencePiece" if made else "JSON"
        raise model.unusable(f"{path} is no {what} ({error})", "restore the file") from error


def _class(model: Pretrained, described: dict[str, Any], remedy: str) -> type[TokenizersBackend]:
    """transformers' own class, by its name or by the type of model."""
    from transformers import TokenizersBackend
    from transformers.models.auto import tokenization_auto as auto

    name = described.get("tokenizer_class")
    name = name or auto.TOKENIZER_MAPPING_NAMES.get(described.get("model_type", ""))
    if code := described.get("auto_map"):
        code = code.get("AutoTokenizer", code) if isinstance(code, dict) else code
        message = f"{model.name} has no tokenizer.json, but code of its own ({json.dumps(code)})"
        raise model.unusable(f"{message}, which is not run", f"where you trust it, {remedy}")
    if not isinstance(name, str):
        message = f"{model.name} has no tokenizer.json, and no file of it says which one it has"
        raise model.unusable(message, "name it in tokenizer_config.json as tokenizer_class")
    found = auto.tokenizer_class_from_name(name.removesuffix("Fast"))
    known = inspect.isclass(found) and issubclass(found, TokenizersBackend)
    if not known or found is TokenizersBackend:
        message = f"{model.name} has no tokenizer.json, and is for a {name}"
        raise model.unusable(f"{message}, of which transformers makes none", remedy)
    return cast("type[TokenizersBackend]", found)
