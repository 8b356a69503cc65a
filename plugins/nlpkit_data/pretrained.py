"""The tokenizer of a pretrained model: its tokenizer.json, or one that is made of older files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from nlpkit.data.vocabulary import USUAL
from nlpkit.errors import Problem
from nlpkit.files import from_json
from nlpkit.pretrained import Pretrained
from nlpkit_data import converted

if TYPE_CHECKING:
    from pathlib import Path

    from nlpkit_data.config import PretrainedConfig

SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
"""The special tokens of BERT, by their keys in tokenizer_config.json."""

WORDPIECE = ("Bert", "ConvBert", "DistilBert", "Electra", "LayoutLM", "MobileBert", "Retribert")
"""What the tokenizer classes of transformers are called that cut words as BERT does."""

_KEY = "tokenizer.pretrained"


def build(options: PretrainedConfig, texts: None) -> Tokenizer:
    """The tokenizer of a local folder or of a hub id.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """
    return _read(options)[0]


def check(options: PretrainedConfig) -> list[Problem]:
    """What is to be known of the tokenizer before it is used: where its lower-casing is from.

    Raises:
        ConfigError: As `build`.
    """
    remark = _read(options)[1]
    return [remark] if remark else []


def roles(options: PretrainedConfig) -> dict[str, str | int]:
    """The special tokens by role: as its tokenizer's files call them, else by config.json's ids.

    Raises:
        ConfigError: A file cannot be read.
    """
    model, found = Pretrained(options.pretrained, _KEY), dict[str, str | int]()
    names = ("tokenizer_config.json", "special_tokens_map.json", "config.json")
    *files, config = (_json(model, name) for name in names)
    for role in USUAL:
        said = [token for file in files if (token := _token(file.get(f"{role}_token"), ""))]
        ids = config.get(f"{role}_token_id")
        ids = ids if isinstance(ids, list) else [ids]  # of several ends the first counts
        known: list[str | int] = [*said, *(each for each in ids if isinstance(each, int))]
        if known:
            found[role] = known[0]
    return found


def _read(options: PretrainedConfig) -> tuple[Tokenizer, Problem | None]:
    model = Pretrained(options.pretrained, _KEY)
    write = f'AutoTokenizer.from_pretrained("{model.name}").save_pretrained(FOLDER)'
    remedy = f"write tokenizer.json with transformers: {write}"
    path = model.file("tokenizer.json", "vocab.txt", *converted.FILES, remedy=remedy)
    settings = _json(model, "tokenizer_config.json")
    if path.name in converted.FILES:
        config = _json(model, "config.json")
        types = {key: config.get(key) for key in ("model_type", "tokenizer_class")}
        made = converted.convert(model, path, types | settings, remedy)
        message = f"{model.name} has no tokenizer.json; transformers makes it of its {path.name}"
        return made, _warning(message)
    if path.suffix == ".txt":
        _check_kind(model, settings, remedy)
        return _built(path, model, settings)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        message = f"{path} is not a tokenizer.json that can be read ({error})"
        raise model.unusable(message, "restore the file") from None
    said = settings.get("do_lower_case")
    if not isinstance(said, bool) or said == _lower_cases(tokenizer):
        return tokenizer, None
    message = (
        f"tokenizer.json of {model.name} {'keeps capitals' if said else 'lower-cases'}, but its "
        f"tokenizer_config.json says do_lower_case: {json.dumps(said)}; tokenizer.json is taken"
    )
    return tokenizer, _warning(message, "correct the one that is wrong")


def _json(model: Pretrained, name: str) -> dict[str, Any]:
    path = model.optional(name)
    if path is None:
        return {}
    try:
        found = from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise model.unusable(f"{path} is not JSON ({error})", "restore the file") from None
    return found if isinstance(found, dict) else {}


def _check_kind(model: Pretrained, settings: dict[str, Any], remedy: str) -> None:
    """Raises ConfigError where vocab.txt alone does not say how the model cuts texts."""
    kind = str(settings.get("tokenizer_class") or "BertTokenizer").removesuffix("Fast")
    if kind not in {f"{name}Tokenizer" for name in WORDPIECE}:
        raise model.unusable(f"{model.name} has no tokenizer.json, and is for a {kind}", remedy)
    added = model.optional("added_tokens.json")
    if added and added.read_text(encoding="utf-8").strip() not in ("", "{}"):
        message = f"{model.name} has no tokenizer.json, but tokens beside vocab.txt ({added.name})"
        raise model.unusable(message, remedy)


def _built(
    path: Path, model: Pretrained, settings: dict[str, Any]
) -> tuple[Tokenizer, Problem | None]:
    """BERT's tokenizer over a vocab.txt, as transformers builds it; and where its case is from."""
    vocabulary = {token: number for number, token in enumerate(_lines(path, model))}
    special = {key: _token(settings.get(key), token) for key, token in SPECIAL.items()}
    for key in ("unk_token", "cls_token", "sep_token"):
        if special[key] not in vocabulary:
            message = f"{path} has no {special[key]}, the {key}"
            raise model.unusable(message, "restore the file, or name it in tokenizer_config.json")
    said = settings.get("do_lower_case")
    capitals = any(token != token.lower() for token in vocabulary.keys() - special.values())
    lowercase = said if isinstance(said, bool) else not capitals
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=special["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=lowercase,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece("##")
    start, end = special["cls_token"], special["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(token, vocabulary[token]) for token in (start, end)],
    )
    tokenizer.add_special_tokens([each for each in special.values() if each in vocabulary])
    return tokenizer, _remark(model, said, lowercase)


def _lines(path: Path, model: Pretrained) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise model.unusable(f"{path} is not UTF-8 ({error})", "restore the file") from None
    return text.removesuffix("\n").split("\n")


def _remark(model: Pretrained, said: object, lowercase: bool) -> Problem:
    how = "lower-cases" if lowercase else "keeps capitals"
    message = f"{model.name} has no tokenizer.json; the one that is built from its vocab.txt {how}"
    if isinstance(said, bool):
        return _warning(f"{message}, as its tokenizer_config.json says")
    seen = "has no capitals" if lowercase else "has capitals"
    remedy = "if that is wrong, set do_lower_case in its tokenizer_config.json"
    return _warning(f"{message}, since the vocabulary {seen}", remedy)


def _token(found: object, usual: str) -> str:
    """A special token of tokenizer_config.json: text, or a mapping that holds it."""
    if isinstance(found, dict):
        found = found.get("content")
    return found if isinstance(found, str) else usual


def _lower_cases(tokenizer: Tokenizer) -> bool:
    return tokenizer.normalizer is not None and "A" not in tokenizer.normalizer.normalize_str("A")


def _warning(message: str, remedy: str = "") -> Problem:
    return Problem(key=_KEY, message=message, remedy=remedy, severity="warning")
