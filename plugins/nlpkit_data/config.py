"""Options of the sources and tokenizers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

import nlpkit


class FilesConfig(nlpkit.ComponentConfig):
    """Options of the source `files`."""

    encoding: Literal["auto"] = Field("auto", description="UTF-8, with or without a BOM.")


class PretrainedConfig(nlpkit.ComponentConfig):
    """Options of the tokenizer `pretrained`."""

    pretrained: nlpkit.FolderOrId = Field(
        description="Has tokenizer.json; default: the model's own pretrained."
    )


class CharConfig(nlpkit.ComponentConfig):
    """Options of the tokenizer `char`."""

    lowercase: bool = Field(False, description="Accents stay.")
    normalize: Literal["none", "nfkc"] = Field("none", description="Unicode normal form.")


class SubwordConfig(nlpkit.ComponentConfig):
    """Options of the tokenizers `wordpiece` and `bpe`."""

    vocab_size: PositiveInt = Field(
        8000, description="Tokens at most, or as many as there are characters."
    )
    lowercase: bool = Field(True, description="Accents stay.")
    normalize: Literal["none", "nfkc"] = Field("none", description="Unicode normal form.")
