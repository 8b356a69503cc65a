"""Sources of rows, and tokenizers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Iterator


@nlpkit.hookimpl
def nlpkit_sources() -> Iterator[nlpkit.SourceRecord]:
    """Files, folders, datasets of Hugging Face, and the bundled sample."""
    yield nlpkit.SourceRecord(
        name="files",
        target="nlpkit_data.files:Files",
        config="nlpkit_data.config:FilesConfig",
        summary="csv, tsv, jsonl, conll, txt (also .gz), parquet and xlsx, on disk or at a URL",
    )
    yield nlpkit.SourceRecord(
        name="folder",
        target="nlpkit_data.folder:Folder",
        config="nlpkit_data.config:FolderConfig",
        summary="A .txt file for each text, in folders named after labels",
    )
    yield nlpkit.SourceRecord(
        name="huggingface",
        target="nlpkit_data.huggingface:Huggingface",
        config="nlpkit_data.config:HuggingfaceConfig",
        summary="Datasets of Hugging Face, from a folder",
        extra="datasets",
    )
    yield nlpkit.SourceRecord(
        name="sample",
        target="nlpkit_data.sample:Sample",
        summary="Bundled customer-service utterances over ten intents",
    )


@nlpkit.hookimpl
def nlpkit_tokenizers() -> Iterator[nlpkit.TokenizerRecord]:
    """One that is read, three that are trained on the training rows."""
    yield nlpkit.TokenizerRecord(
        name="pretrained",
        target="nlpkit_data.pretrained:build",
        config="nlpkit_data.config:PretrainedConfig",
        check="nlpkit_data.pretrained:check",
        roles="nlpkit_data.pretrained:roles",
        summary="tokenizer.json or vocab.txt of a folder or a hub id",
        trained=False,
    )
    yield nlpkit.TokenizerRecord(
        name="wordpiece",
        target="nlpkit_data.tokenizers:wordpiece",
        config="nlpkit_data.config:SubwordConfig",
        summary="Words and their pieces, as BERT has them",
    )
    yield nlpkit.TokenizerRecord(
        name="bpe",
        target="nlpkit_data.tokenizers:bpe",
        config="nlpkit_data.config:SubwordConfig",
        summary="Byte pair encoding: no text has unknown tokens",
    )
    yield nlpkit.TokenizerRecord(
        name="char",
        target="nlpkit_data.tokenizers:char",
        config="nlpkit_data.config:CharConfig",
        summary="One token a character",
    )
