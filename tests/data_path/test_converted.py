"""Folders older than tokenizer.json: transformers makes it, to the ids that its classes give."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import transformers
from tokenizers import ByteLevelBPETokenizer

from nlpkit.data.vocabulary import vocabulary_of
from nlpkit.errors import ConfigError
from nlpkit.pretrained import Pretrained
from nlpkit_data.config import PretrainedConfig
from nlpkit_data.pretrained import build, check, roles

ROWS = [
    "Where is my card, the money has not arrived",
    "please refund the money on the account",
    "un café naïve, déjà vu",
    "我的卡还没到 卡",
    "I have ABC 123 !?",
] * 4
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "xlm-roberta": ("sentencepiece.bpe.model", {}),
    "camembert": ("sentencepiece.bpe.model", {}),
    "t5": ("spiece.model", {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}),
    "albert": (
        "spiece.model",
        {
            "pad_id": 0,
            "unk_id": 1,
            "bos_id": -1,
            "eos_id": -1,
            "control_symbols": ["[CLS]", "[SEP]"],
            "user_defined_symbols": ["[MASK]"],
        },
    ),
    "deberta-v2": (
        "spm.model",
        {
            "pad_id": 0,
            "bos_id": 1,
            "eos_id": 2,
            "unk_id": 3,
            "pad_piece": "[PAD]",
            "bos_piece": "[CLS]",
            "eos_piece": "[SEP]",
            "unk_piece": "[UNK]",
        },
    ),
}
TEXTS = [
    "",
    " ",
    "   ",
    "\t",
    "\n",
    "\r\n",
    "a",
    "Where is my card?",
    "  leading and trailing  ",
    "two  spaces   three",
    "tab\there\nline\r\nline",
    "vertical\x0btab\x0cfeed",
    "nul\x00inside",
    "\x00",
    "control\x07 bell \x1b escape",
    "zero\u200bwidth\u200djoiner\ufeffmark",
    "no\u00a0break\u2009thin\u3000ideographic",
    "soft\u00adhyphen",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈 flag",
    "👍🏽 🇩🇪 ❤️",
    "שלום עולם",
    "مرحبا \u202bעולם\u202c",
    "我的卡还没到",
    "カード ｶｰﾄﾞ 카드",
    "card卡card 123卡",
    "ａｂｃ Ａ１ ﬁ ½ ① ™",
    "cafe\u0301 nai\u0308ve A\u030a",
    "café naïve Å",
    "Z͑͗a͌͏l̷g̸o",
    "x" * 1_000,
    "un" * 300 + "believable",
    "<s> </s> <pad> <unk> <mask>",
    "a<mask>b <mask>, <mask>",
    "<MASK> < mask > <mas k>",
    "[CLS] [SEP] [MASK] [PAD] [UNK]",
    "<extra_id_0> ▁ ▁▁ Ġ Ċ",
    "<s>NOTUSED </s></s>",
    "\ud7ff\ue000\ufffd\ufffe",
    "ẞ ß ſ İ ı Ǆ",
    "नमस्ते ไทย ភាសា",
    "!?.,;:'\"()[]{}…–—«»„“",
    "1,234.56 € 10^6 -7 +3",
    "http://a.b/c?d=e&f#g user@host",
    "don't can't I'm we'll they've",
    'x = {"a": [1, 2]}  # code',
    "C++ & R&D \\n %20 &amp;",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each type, as they were before there was tokenizer.json."""
    made = {}
    for kind, (name, settings) in MODELS.items():
        made[kind] = tmp_path_factory.mktemp(kind)
        with (made[kind] / name).open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(ROWS),
                model_writer=file,
                vocab_size=90,
                hard_vocab_limit=False,
                minloglevel=2,
                **settings,
            )
    made["roberta"] = tmp_path_factory.mktemp("roberta")
    pieces = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces.train_from_iterator(ROWS, vocab_size=330, special_tokens=special)
    pieces.save_model(str(made["roberta"]))
    for kind, folder in made.items():
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    return made


def options(folder: Path) -> PretrainedConfig:
    return PretrainedConfig(pretrained=str(folder))


def copied(folder: Path, target: Path, **settings: Any) -> Path:
    """A copy of a folder that says more in tokenizer_config.json."""
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    (target / "tokenizer_config.json").write_text(json.dumps(settings))
    return target


def test_there_are_enough_odd_texts() -> None:
    assert len({*TEXTS}) == len(TEXTS) >= 40


@pytest.mark.parametrize("kind", [*MODELS, "roberta"])
def test_the_ids_are_those_of_auto_tokenizer(folders: dict[str, Path], kind: str) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(folders[kind], local_files_only=True)
    ours = build(options(folders[kind]), None)
    assert ours.get_vocab() == theirs.get_vocab()
    for text in TEXTS:
        assert ours.encode(text).ids == theirs(text).input_ids, text
        found, pair = ours.encode(text, "a second Text"), theirs(text, "a second Text")
        assert found.ids == pair.input_ids, text
        if "token_type_ids" in pair:
            assert found.type_ids == pair.token_type_ids, text
    name = MODELS[kind][0] if kind in MODELS else "vocab.json"
    (said,) = check(options(folders[kind]))
    assert said.message.endswith(f"has no tokenizer.json; transformers makes it of its {name}")


def test_the_ids_are_those_that_sentencepiece_gives_one_further(folders: dict[str, Path]) -> None:
    """fairseq, where XLM-RoBERTa is from, has <pad> before the pieces."""
    path = str(folders["xlm-roberta"] / "sentencepiece.bpe.model")
    pieces = sentencepiece.SentencePieceProcessor(model_file=path)
    ours = build(options(folders["xlm-roberta"]), None)
    for text in ROWS:
        expected = [id + 1 if id else 3 for id in pieces.encode(text)]
        assert ours.encode(text).ids == [0, *expected, 2]


def test_special_tokens_have_their_roles(folders: dict[str, Path]) -> None:
    for kind in ("xlm-roberta", "roberta", "camembert"):
        tokenizer = build(options(folders[kind]), None)
        special = vocabulary_of(tokenizer, 9, roles(options(folders[kind]))).special
        expected = {"pad": "<pad>", "unk": "<unk>", "mask": "<mask>", "bos": "<s>", "eos": "</s>"}
        expected |= {"cls": "<s>", "sep": "</s>"}
        assert special == {role: tokenizer.token_to_id(each) for role, each in expected.items()}
        assert tokenizer.encode("a").ids[:: len(tokenizer.encode("a").ids) - 1] == [
            special["cls"],
            special["sep"],
        ]
        assert tokenizer.encode("a <mask>").ids[-2] == special["mask"]


def test_other_files_of_the_folder_are_heard(folders: dict[str, Path], tmp_path: Path) -> None:
    said = {
        "tokenizer_class": "RobertaTokenizerFast",
        "add_prefix_space": True,
        "mask_token": "<m>",
    }
    folder = copied(folders["roberta"], tmp_path, **said)
    (folder / "added_tokens.json").write_text(json.dumps({"<new>": 330, "<m>": 331}))
    theirs = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ours = build(options(folder), None)
    for text in ("card", "a <new> <m> <mask>"):
        assert ours.encode(text).ids == theirs(text).input_ids
    assert "<m>" in ours.encode("a<m>").tokens
    assert roles(options(folder))["mask"] == "<m>"
    assert ours.encode("card").ids == ours.encode(" card").ids


@pytest.mark.parametrize("kind", ["xlm-roberta", "roberta"])
def test_a_run_reads_what_the_tokenizer_is_made_of(folders: dict[str, Path], kind: str) -> None:
    (folders[kind] / "model.safetensors").write_bytes(b"")
    names = {path.name for path in Pretrained(str(folders[kind]), "k").read_files(weights=False)}
    (folders[kind] / "model.safetensors").unlink()
    own = {"sentencepiece.bpe.model"} if kind in MODELS else {"vocab.json", "merges.txt"}
    assert names == {"config.json", *own}


@pytest.mark.parametrize("auto", [{"AutoTokenizer": ["mine.Mine", None]}, ["mine.Mine", None]])
def test_code_of_the_folder_is_refused_by_name_and_not_run(
    folders: dict[str, Path], tmp_path: Path, auto: Any
) -> None:
    folder = copied(folders["roberta"], tmp_path, auto_map=auto, tokenizer_class="Mine")
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ConfigError, match=r'code of its own \(\["mine\.Mine", null\]\), which is'):
        build(options(folder), None)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["Mine", "AutoModel", "pipeline", "PreTrainedTokenizerFast", "BertJapaneseTokenizer"]
)
def test_a_class_that_transformers_does_not_have_is_refused_by_name(
    folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    folder = copied(folders["xlm-roberta"], tmp_path, tokenizer_class=name)
    with pytest.raises(ConfigError, match=f"is for a {name}, of which transformers makes none; wr"):
        check(options(folder))


def test_a_folder_that_does_not_say_what_it_is_for(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(folders["xlm-roberta"], tmp_path)
    (folder / "config.json").unlink()
    with pytest.raises(ConfigError, match="no file of it says which one it has; name it in token"):
        build(options(folder), None)


@pytest.mark.parametrize("content", [b"", b"\x00\xff no protobuf", b"a 1\nb 2\n"])
def test_a_damaged_model_is_named(folders: dict[str, Path], tmp_path: Path, content: bytes) -> None:
    folder = copied(folders["xlm-roberta"], tmp_path)
    (folder / "sentencepiece.bpe.model").write_bytes(content)
    with pytest.raises(ConfigError, match=r"bpe\.model is no model of SentencePiece .*restore the"):
        build(options(folder), None)


def test_a_damaged_or_missing_list_of_merges_is_named(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(folders["roberta"], tmp_path)
    (folder / "merges.txt").write_text("#version: 0.2\nq zz\n")
    with pytest.raises(ConfigError, match=r"makes no RobertaTokenizer of .*vocab\.json .*restore"):
        build(options(folder), None)
    (folder / "merges.txt").unlink()
    with pytest.raises(ConfigError, match=r"has no merges\.txt; restore the file"):
        build(options(folder), None)
    (folder / "vocab.json").write_text("{")
    with pytest.raises(ConfigError, match=r"vocab\.json is no JSON"):
        build(options(folder), None)


@pytest.mark.parametrize(
    ("kind", "missing", "extras"),
    [
        ("xlm-roberta", "sentencepiece", "train,sentencepiece"),
        ("xlm-roberta", "google.protobuf", "train,sentencepiece"),
        ("roberta", "transformers", "train"),
    ],
)
def test_a_missing_library_is_named_with_the_command(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str, missing: str, extras: str
) -> None:
    for name in [each for each in sys.modules if each.startswith("sentencepiece")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    said = rf"takes {missing}; pip install --upgrade 'nlpkit-sdk\[{extras}\]'"
    with pytest.raises(ConfigError, match=said):
        check(options(folders[kind]))
