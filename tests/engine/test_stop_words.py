"""Where stop words end a text, and what of a text can be shown that grows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from nlpkit.engine.generate import generate, generating
from nlpkit.engine.search import Written, before, settled
from nlpkit.engine.settings import Settings
from nlpkit.errors import InputError
from tests.engine.test_generate import METHODS
from tests.engine.toys import Table

PIECES = ["·", "a", "b", "c", "xENDy", "E", "N", "D", " ", "d", "e", "f"]


class Reading:
    """The text of a table's ids; it keeps how many it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, ids: Sequence[int]) -> str:
        self.asked.append(len(ids))
        return "".join(PIECES[id] for id in ids)


def following(*ids: int) -> Table:
    """After place 1 these follow, one after the other, nearly for sure."""
    table = Table(12, scale=0.01)
    for place, id in enumerate(ids, start=1):
        table.place[place, id] = 20
    return table


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("ids", "taken", "text"),
    [
        ([1, 2, 4, 3, 1], 3, "abx"),  # within a token
        ([1, 5, 6, 7, 3], 4, "a"),  # over several
        ([1, 5, 6, 3, 5, 6, 7, 2], 7, "aENc"),  # begun once before
        ([1, 3, 9, 2], 3, "ac"),  # another of them
        ([1, 2, 3, 1, 2, 3, 1], 7, "abcabca"),  # none
    ],
)
def test_a_text_is_cut_before_a_stop_word(
    method: str, ids: list[int], taken: int, text: str
) -> None:
    table, settings = following(*ids), Settings(max_tokens=7, stop=["END", "d"], **METHODS[method])
    (written,) = generate(table, [np.array([1])], settings, text=Reading())
    assert written.text == text
    assert written.ids == ids[:taken]
    assert written.complete is (text != "abcabca")
    assert len(table.runs) == taken


def test_stop_words_are_looked_for_in_the_last_tokens_only() -> None:
    text = Reading()
    settings = Settings(max_tokens=60, stop=["END"])
    (written,) = generate(following(*[1] * 60), [np.array([1])], settings, text=text)
    assert len(written.ids) == 60
    assert text.asked.count(61) == 1  # with the last token of the prompt
    assert max(each for each in text.asked if each != 61) == len("END") + 1


def test_what_only_the_last_tokens_alone_seem_to_say_is_no_stop_word() -> None:
    pieces = {"[UNK]": 0, "a": 1, "##b": 2, "c": 3}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    assert "#" in tokenizer.decode([2, 3])
    (written,) = generate(
        following(1, 2, 3, 1, 2, 3),
        [np.array([1])],
        Settings(max_tokens=6, stop=["#"]),
        text=tokenizer.decode,
    )
    assert (written.text, written.complete) == (" ab c ab c", False)


def test_a_stop_word_may_begin_with_the_blank_of_the_first_token() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "Ġa": 1, "Ġb": 2, "b": 3}, "[UNK]"))
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    assert tokenizer.decode([1, 2]) == "a b"
    for first, text, taken in ((2, "", 1), (3, "b a", 3)):
        (written,) = generate(
            following(first, 1, 2, 1, 1),
            [np.array([1])],
            Settings(max_tokens=5, stop=[" b"]),
            text=tokenizer.decode,
        )
        assert (written.text, len(written.ids), written.complete) == (text, taken, True)


def test_a_stop_word_that_the_prompt_has_or_begins_stops_nothing() -> None:
    for prompt in ([4], [1, 6]):  # "xENDy", and "EN" before "D"
        table, settings = Table(12, scale=0.0), Settings(max_tokens=3, stop=["END"])
        table.place[:, 7] = 9
        given = [np.array(prompt)]
        (written,) = generate(table, given, settings, text=Reading())
        assert (written.text, written.complete) == ("DDD", False)


def test_stop_words_without_a_tokenizer_are_refused() -> None:
    with pytest.raises(InputError, match="stop words need a tokenizer"):
        generate(Table(12), [np.array([1])], Settings(stop=["END"]))


def test_a_stop_word_of_bytes_and_a_text_that_is_shown_as_it_grows() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["the end of the words"] * 3, trainer)
    wanted = "the words 漢字 und äpfel, the end 🙂 STÖP more"
    ids = tokenizer.encode(wanted).ids
    table = Table(tokenizer.get_vocab_size(), scale=0.01)
    for place, id in enumerate(ids, start=1):
        table.place[place % 64, id] = 20
    settings = Settings(max_tokens=len(ids), stop=["STÖP", "endless"])
    shown = [
        (each.said(), each.written)
        for each in generating(table, [np.array([1])], settings, text=tokenizer.decode)
    ]
    whole = wanted[: wanted.index("STÖP")]
    *growing, (_, written) = shown
    assert written == Written(list(written.ids), whole, written.score, True)
    assert len(written.ids) < len(ids)
    assert all(whole.startswith(text) for text, _ in growing)
    assert growing[-1][0] == whole
    assert len({text for text, _ in growing}) > 15


def test_what_may_begin_a_stop_word_is_not_shown_yet() -> None:
    stop = ["</s>", "\n\n"]
    for text, shown in {
        "one <": "one ",
        "one </": "one ",
        "one </s": "one ",
        "one </s>": "one ",
        "one </p": "one </p",
        "one\n": "one",
        "one\n\ntwo": "one",
        "one �": "one ",
    }.items():
        assert settled(text, stop) == shown
    assert settled("one <", []) == "one <"
    assert settled("abc", ["abcd", "e"]) == ""
    assert before("one </s> two\n\n", stop) == "one "
    assert before("one", stop) == "one"
