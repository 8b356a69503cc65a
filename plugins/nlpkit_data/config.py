"""Options of the sources and tokenizers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

import nlpkit
from nlpkit.data.encoding import AUTO, checked

Encoding = Annotated[str, AfterValidator(checked)]


def _one_character(value: str) -> str:
    value = "\t" if value == r"\t" else value  # as it is typed in a shell
    if value != AUTO and (len(value) != 1 or value in '"\r\n\0'):
        raise ValueError(f'must be auto or one character, such as ; or "\\t", not {value!r}')
    return value


Delimiter = Annotated[str, AfterValidator(_one_character)]


class FilesConfig(nlpkit.ComponentConfig):
    """Options of the source `files`."""

    encoding: Encoding = Field(
        AUTO, description="auto: UTF-8, with or without a BOM; or one that Python knows, gb18030."
    )
    delimiter: Delimiter = Field(
        AUTO, description="Of csv and tsv; auto: the header decides; or a character."
    )
    quotes: Literal["auto", "none"] = Field(
        "auto", description="Of csv and tsv; none: a quote is a character like others."
    )
    document: Literal["line", "paragraph", "file"] = Field(
        "line", description="Of txt: what a text is; paragraphs stand between blank lines."
    )
    sheet: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Of a workbook; null: the only one that shows rows."
    )


class FolderConfig(nlpkit.ComponentConfig):
    """Options of the source `folder`."""

    encoding: Encoding = Field(AUTO, description="As with files.")
    labels: tuple[str, ...] = Field((), description="The sub-folders that count; []: all of them.")


class HuggingfaceConfig(nlpkit.ComponentConfig):
    """Options of the source `huggingface`."""

    subset: str | None = Field(None, description="Of a dataset that has several.")


class PretrainedConfig(nlpkit.ComponentConfig):
    """Options of the tokenizer `pretrained`."""

    pretrained: nlpkit.FolderOrId = Field(
        description="Has tokenizer.json, or older files; default: the model's own pretrained."
    )


class CharConfig(nlpkit.ComponentConfig):
    """Options of the tokenizer `char`."""

    lowercase: bool = Field(False, description="Accents stay.")
    normalize: Literal["none", "nfkc"] = Field("none", description="Unicode normal form.")
    whitespace: Literal["fold", "keep"] = Field(
        "fold", description="fold: a run of it is one space; keep: each character is a token."
    )


class SubwordConfig(nlpkit.ComponentConfig):
    """Options of the tokenizers `wordpiece` and `bpe`."""

    vocab_size: PositiveInt = Field(
        8000, description="Tokens at most, or as many as there are characters."
    )
    lowercase: bool = Field(
        True, description="Accents stay. A task that writes texts has false by default."
    )
    normalize: Literal["none", "nfkc"] = Field("none", description="Unicode normal form.")
