"""The words of wordpiece.hpp are those of the tokenizers library, whatever the characters."""

from __future__ import annotations

import random
import subprocess
import sys
import unicodedata
from typing import TYPE_CHECKING

import pytest
from tokenizers import normalizers, pre_tokenizers

from tests.examples_cpp.conftest import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow

END = "\xff".encode("latin-1")
EVERY = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
STEPS = {  # clean_text, handle_chinese_chars, strip_accents, lowercase
    "uncased": (True, True, True, True),
    "uncased with accents": (True, True, False, True),
    "cased": (True, True, False, False),
    "nothing": (False, False, False, False),
    "uncleaned": (False, False, True, True),
}


def differences(program: Path, steps: Sequence[bool], texts: Sequence[str]) -> list[str]:
    """The texts whose words differ."""
    asked = b"".join(text.encode() + END for text in texts)
    command = [program, *(str(int(step)) for step in steps)]
    found = subprocess.run(command, input=asked, capture_output=True, check=True).stdout.split(END)
    assert len(found) == len(texts) + 1
    normalize = normalizers.BertNormalizer(*steps).normalize_str
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    return [
        text
        for text, words in zip(texts, found, strict=False)
        if "".join(f"{word} " for word, _ in split(normalize(text))) != words.decode()
    ]


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_every_code_point_is_treated_alike(words, steps):
    assert len(EVERY) == 1_112_064
    assert differences(words, steps, [f"a{character}b" for character in EVERY]) == []


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_marks_in_any_order_are_treated_alike(words, steps):
    marks = [one for one in EVERY if unicodedata.combining(one)]
    composed = [one for one in EVERY if unicodedata.decomposition(one)[:1] not in ("", "<")]
    rest = [*"aiIσΣß İ\t.,\u200d\u0e01", *"가힣각中𠀀ﬁＡ", *map(chr, range(0x1100, 0x1200))]
    chosen = random.Random(13)
    texts = [
        "".join(
            chosen.choice(chosen.choice((marks, marks, composed, rest)))
            for _ in range(chosen.randint(2, 9))
        )
        for _ in range(100_000)
    ]
    assert differences(words, steps, texts) == []


def test_the_tables_are_what_their_script_writes():
    script = [sys.executable, EXAMPLE / "make_tables.py"]
    written = subprocess.run(script, capture_output=True, check=True).stdout
    assert (EXAMPLE / "unicode_tables.hpp").read_bytes() == written
