"""What `clm` and `mlm` make of odd inputs: each row of their pages, by the public ways."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from nlpkit.cli.main import main
from nlpkit.contracts import Row
from nlpkit.errors import DataError, InputError, NonFiniteError
from tests.docs.pages import TASKS, table
from tests.tasks.language import texts
from tests.tasks.odd import LENGTH, LONG, ROWS, Odd, loaded, trained
from tests.tasks.odd_files import a_nul, files_that_are_not, files_that_are_whole, lines_without_end

NOTHING = ["", "  \n\t", "\u200b", None, math.nan]


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Odd:
    folder = tmp_path_factory.mktemp("odd")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        runs = {task: trained(task, folder / task) for task in ("clm", "mlm")}
    return Odd(runs, {task: loaded(run) for task, run in runs.items()}, folder)


@pytest.fixture
def odd(trained_once: Odd, tmp_path: Path) -> Odd:
    return replace(trained_once, folder=tmp_path)


def a_prompt_without_room(odd):
    assert odd.said("clm", "the cat", max_tokens=22) == (
        "text 0: has 3 tokens, and max_tokens is 22: together more than the 24 that the model "
        "takes; set max_tokens to at most 21"
    )
    assert odd.said("clm", "the cat", max_tokens=21).continuation
    first, second, third = odd.lines(
        "clm", f"the cat\n{LONG}\nthe mat\n", "--generate", "max_tokens=9"
    )
    assert first["continuation"]
    assert third["continuation"]
    assert second["text"] == LONG
    assert "in.txt:2: has 181 tokens, and max_tokens is 9:" in second["error"]


def a_prompt_that_is_too_long(odd):
    count = len(odd.models["clm"].tokenizer.encode(LONG, add_special_tokens=False).ids)
    assert odd.said("clm", LONG) == (
        f"text 0: has {count + 1} tokens, and max_tokens is 12: together more than the 24 that the "
        "model takes; shorten it"
    )


def settings_that_leave_no_room(odd):
    assert odd.refused({"name": "clm", "generate": {"max_tokens": 23}}) == (
        "task.generate.max_tokens: leaves a prompt no room in 24 tokens; set it to at most 22, or "
        "tokenizer.max_length to more"
    )


def no_text_for_clm(odd):
    nothing_in("clm", odd)
    dropped = {"name": "wordpiece", "max_length": LENGTH}
    (error,) = odd.problems("clm", rows=[*ROWS, {"text": "\ufffd"}], tokenizer=dropped)
    assert "train row 42: holds nothing that the tokenizer keeps; 1 such row" in error
    run = trained("clm", odd.folder / "run", tokenizer=dropped)
    with pytest.raises(DataError, match="text 1: holds nothing that the tokenizer keeps"):
        loaded(run).predict(["the", "\ufffd"])


def nothing_in(task, odd):
    for text in NOTHING:
        assert odd.said(task, text) == 'text 0: column "text": the text is empty'
    rows = [*ROWS, *({"text": text} for text in NOTHING)]
    (error,) = odd.problems(task, rows=rows)
    assert error.startswith('train row 42: column "text": the text is empty; 5 such rows; data.on_')
    lines = odd.lines(task, "the cat\n\n \nthe mat\n")
    assert ["error" in line for line in lines] == [False, True, True, False]
    assert lines[1]["error"].endswith('in.txt:2: column "text": the text is empty')


def what_looks_special(odd):
    model = odd.models["clm"]
    special = {*model.codec.vocabulary.special.values()}
    for text in ("[SEP]", "[MASK]", "[CLS][PAD]", "</s>"):
        (example,) = model.examples([Row({"text": text}, "a")])
        assert not special & {*example["input_ids"][1:].tolist()}
        assert odd.said("clm", text, max_tokens=3).continuation
    rows = [{"text": "[SEP]"}, {"text": "[SEP] [SEP]"}]
    assert odd.problems("clm", rows=rows) == []


BAD = {
    'no setting "temprature"; did you mean "temperature"?': {"temprature": 1},
    'no setting "samples"; there are max_tokens, method, beams': {"samples": 0},
    "max_tokens must be a whole number above 0, not 0": {"max_tokens": 0},
    "max_tokens must be a whole number above 0, not '5'": {"max_tokens": "5"},
    "beams must be a whole number above 0, not 0": {"method": "beam", "beams": 0},
    "temperature 0.5 has no effect on method": {"method": "beam", "temperature": 0.5},
    "temperature must be 0, which is greedy, or": {"method": "sample", "temperature": -1},
    "top_k must be a whole number above 0, or null, not 0": {"method": "sample", "top_k": 0},
    "top_p must be above 0 and at most 1, or null (": {"method": "sample", "top_p": 0},
    "use method: greedy), not 1.5": {"method": "sample", "top_p": 1.5},
    "length_penalty must be a number from 0 to 10, not 1e+308": {"length_penalty": 1e308},
    "stop must be a list of texts that are not empty, such as [\".\"], not '.'": {"stop": "."},
}


def settings_that_cannot_be_had(odd):
    model = odd.models["clm"]
    for message, settings in BAD.items():
        with pytest.raises(InputError) as caught:
            model.predict(["the cat"], generate=settings)
        assert message in str(caught.value)
    (error,) = odd.problems({"name": "clm", "generate": settings})
    assert error == f"task.generate: {caught.value}"
    for settings in ("max_tokens=3", ["max_tokens"], 3):
        with pytest.raises(InputError, match="generate must be a mapping, such as"):
            model.predict(["the cat"], generate=settings)
    run = str(odd.runs["clm"].path)
    for asked in ("max_tokens", "=3", "max_tokens=[1", "stop=a"):
        assert main(["predict", run, "the cat", "--generate", asked]) == 2


def what_is_greedy(odd):
    greedy = odd.said("clm", "the cat")
    for settings in (
        {"temperature": 0},
        {"top_k": 1},
        {"beams": 1},
        {"method": "sample", "temperature": 0.0},
        {"method": "sample", "top_k": 1, "top_p": 0.5},
        {"method": "beam", "beams": 1},
    ):
        assert odd.said("clm", "the cat", **settings) == greedy


def another_method(odd):
    task = {"name": "clm", "generate": {"method": "sample", "temperature": 0.5, "max_tokens": 5}}
    model = loaded(trained(task, odd.folder / "run"))
    greedy = model.predict(["the cat"], generate={"temperature": 0})
    assert model.predict(["the cat"], generate={"method": "greedy"}) == greedy
    assert model.predict(["the cat"], generate={"method": "beam", "beams": 1}) == greedy
    with pytest.raises(InputError, match="temperature 0.7 has no effect"):
        model.predict(["the cat"], generate={"method": "beam", "temperature": 0.7})


def stop_words(odd):
    whole = odd.said("clm", "the cat", max_tokens=6).continuation
    assert whole[0] == " "
    ends = {whole[2:3]: 2, whole[:3]: 0, whole[4:8]: 4, whole[-5:]: whole.index(whole[-5:])}
    for word in ends:  # within one, the first with its blank, over two, the last
        found = odd.said("clm", "the cat", max_tokens=6, stop=["zzz", word])
        assert (found.continuation, found.complete) == (whole[: whole.index(word)], True)


def stop_words_of_the_prompt(odd):
    plain = odd.said("clm", "the cat", max_tokens=6)
    for word in ("the", "cat", "t" + plain.continuation[:3]):
        assert word not in plain.continuation
        assert odd.said("clm", "the cat", max_tokens=6, stop=[word]) == plain


def no_begin_or_end(odd):
    for role, *others in (["bos", "</s>"], ["eos", "<s>"]):
        error = odd.refused("clm", tokenizer=odd.tokenizer(*others))
        assert error.startswith(f'tokenizer: has no token for the role "{role}", which task "clm"')
        assert error.endswith(f"tokenizer_config.json names it, as {role}_token")
    assert odd.problems("clm", tokenizer=odd.tokenizer("<s>", "</s>")) == []


def several_ends(odd):
    tokenizer = odd.tokenizer("begin", "one", "two")
    ends = '{"bos_token_id": 1, "eos_token_id": [2, 3]}'
    (Path(tokenizer["pretrained"]) / "config.json").write_text(ends)
    run = trained("clm", odd.folder / "run", tokenizer=tokenizer)
    rows = [Row({"text": "the cat"}, "a")]
    (example,) = loaded(run).examples(rows, "train")
    assert example["tokens"].tolist()[::3] == [1, 2]


def one_token(odd):
    one = "<|endoftext|>"
    tokenizer = odd.tokenizer(words=[])
    path = Path(tokenizer["pretrained"]) / "tokenizer.json"
    path.write_text(path.read_text().replace("[UNK]", one))
    run = trained("clm", odd.folder / "run", tokenizer=tokenizer)
    values = run.metrics["validation"]
    assert values["perplexity"] == pytest.approx(1.0)
    assert math.isnan(values["bits_per_byte"])
    for settings in ({}, {"method": "sample"}, {"method": "beam"}):
        (found,) = loaded(run).predict(["the cat"], generate=settings)
        assert (found.continuation, found.complete) == ("", True)


def what_is_lost(odd):
    spaced = [{"text": text.replace(" ", "  ")} for text in texts(40)]
    found = ["the  cat", " Éa \u00a0 我们"]  # of 8 bytes, and of 14, two of them unknown
    rows = [Row({"text": each}, "a") for each in found]
    for whitespace, sizes in (("fold", [7, 10]), ("keep", [8, 12])):
        tokenizer = {"name": "char", "whitespace": whitespace, "max_length": LENGTH}
        run = trained("clm", odd.folder / whitespace, [*ROWS, *spaced], tokenizer=tokenizer)
        examples = loaded(run).examples(rows, "evaluate")
        assert [int(each["bytes"]) for each in examples] == sizes
        warnings = odd.problems("clm", "warning", rows=spaced, tokenizer=tokenizer)
        warnings = [each for each in warnings if "give back" in each]
        assert len(warnings) == (whitespace == "fold")
    assert (
        "bits_per_byte leaves out the bytes that are lost"
        in odd.problems(
            "clm", "warning", rows=spaced, tokenizer={"name": "char", "max_length": LENGTH}
        )[-1]
    )


def no_numbers(odd, task, text, **generate):
    for number in (math.nan, math.inf):
        model = loaded(odd.runs[task])
        for each in model.engine.model.parameters():
            each.data.fill_(number)
        with pytest.raises(NonFiniteError, match="the model gave logits that are no numbers"):
            model.predict([text], generate=generate or None)


def logits_of_clm(odd):
    for method in ("greedy", "sample", "beam"):
        no_numbers(odd, "clm", "the cat", method=method)


def masks(odd):
    (only,) = odd.said("mlm", "the [MASK] sat").tokens
    assert (only["start"], only["end"], len(only["candidates"])) == (4, 10, 5)
    found = odd.said("mlm", "[MASK][MASK] 我[MASK]").tokens
    assert [(each["start"], each["end"]) for each in found] == [(0, 6), (6, 12), (14, 20)]


def a_mask_that_is_cut_off(odd):
    error = "has a mask behind the 22 tokens that the model takes (give the text around it)"
    assert odd.said("mlm", "[MASK] " * 23) == f"text 0: {error}"
    assert len(odd.said("mlm", "[MASK] " * 22).tokens) == 22
    first, second, third = odd.lines("mlm", f"a [MASK]\n{LONG} [MASK]\n[MASK]\n")
    assert len(first["tokens"]) == len(third["tokens"]) == 1
    assert second["error"].endswith(f"in.txt:2: {error}")


def masks_of_a_longer_text(odd):
    (found,) = odd.said("mlm", f"the [MASK] {LONG}").tokens
    assert (found["start"], found["end"]) == (4, 10)


def no_mask(odd):
    assert odd.said("mlm", "the cat").tokens == []
    for text in ("[mask]", "[SEP] [CLS]", "[MA SK]", "<mask>"):
        assert odd.said("mlm", text).tokens == []


def no_text_for_mlm(odd):
    nothing_in("mlm", odd)


def a_dropped_text(odd):
    (error,) = odd.problems("mlm", rows=[*ROWS, {"text": "\ufffd"}])
    assert "train row 42: holds nothing that the tokenizer keeps; 1 such row" in error
    assert odd.said("mlm", "\ufffd").tokens == []


def settings_for_mlm(odd):
    assert odd.said("mlm", "a [MASK]", max_tokens=3) == "generate: the task writes no texts"


def nothing_to_tell(odd):
    error = odd.refused("mlm", tokenizer=odd.tokenizer("the", "cat"))
    assert error.startswith('tokenizer: has no token for the role "mask", which task "mlm" needs')
    alone = odd.tokenizer("<mask>", words=[])
    assert odd.refused("mlm", tokenizer=alone) == (
        "tokenizer: has special tokens alone, and none of them is told; take one whose vocabulary "
        "has words, or parts of them"
    )


def a_mask_and_no_frame(odd):
    run = trained("mlm", odd.folder / "run", tokenizer=odd.tokenizer("<mask>"))
    model = loaded(run)
    (batch,) = (model.batch(["the <mask> sat"]),)
    assert batch.inputs["input_ids"].tolist() == [[2, 1, 4]]
    (found,) = model.predict(["the <mask> sat"])
    assert [(each["start"], each["end"]) for each in found.tokens] == [(4, 10)]


def whole_words_of_char(odd):
    task, tokenizer = {"name": "mlm", "whole_words": True}, {"name": "char", "max_length": LENGTH}
    assert odd.refused(task, tokenizer=tokenizer) == (
        "task.whole_words: needs words, and each token of the tokenizer is one character; set it "
        "to false, or take wordpiece or bpe"
    )


def no_words(odd):
    rows = [{"text": text} for text in ["!!!", "😀", "。 。", "the cat"] * 4]
    task = {"name": "mlm", "whole_words": True, "masked": 0.9}
    assert odd.problems(task, rows=rows) == []
    values = trained(task, odd.folder / "run", rows, rows[:4]).metrics["validation"]
    assert values["perplexity"] > 1


def nothing_hidden(odd):
    run = trained("mlm", odd.folder / "run", held=[{"text": "a"}])
    assert math.isnan(run.metrics["validation"]["perplexity"])


def logits_of_mlm(odd):
    no_numbers(odd, "mlm", "the [MASK]")


CLM = {
    "A prompt that leaves no room for max_tokens": a_prompt_without_room,
    "A prompt longer than tokenizer.max_length": a_prompt_that_is_too_long,
    "task.generate with a max_tokens that leaves a prompt no room": settings_that_leave_no_room,
    "A text that is empty, missing (None, NaN), of blanks alone, or that the tokenizer drops": (
        no_text_for_clm
    ),
    "What looks like a special token ([SEP], [MASK], </s>)": what_looks_special,
    "An unknown setting, a value that it cannot have, one without effect, no mapping": (
        settings_that_cannot_be_had
    ),
    "temperature: 0, top_k: 1, beams: 1": what_is_greedy,
    "Another method than that of task.generate": another_method,
    "A stop word within a token, over several, or with the blank of the first": stop_words,
    "A stop word that the prompt has, or begins": stop_words_of_the_prompt,
    "A tokenizer without a begin or an end": no_begin_or_end,
    "A tokenizer with several ends": several_ends,
    "A vocabulary of one token": one_token,
    "A tokenizer that loses something of a text": what_is_lost,
    "Logits that are no numbers": logits_of_clm,
    "A .txt with a byte order mark, CRLF, blank lines, or no last newline": files_that_are_whole,
    "A .txt that is empty, has blank lines alone, is no UTF-8, or a .gz that is cut off": (
        files_that_are_not
    ),
    "A NUL in a .txt": a_nul,
    "A line or paragraph of more than 10 million characters, a document: file of more than 100 "
    "million": lines_without_end,
}
MLM = {
    "A text without a mask": no_mask,
    "Several masks, next to each other too": masks,
    "A mask behind the tokens that the model takes": a_mask_that_is_cut_off,
    "A longer text whose masks stand before that": masks_of_a_longer_text,
    "[mask], [SEP] and what else is no mask": no_mask,
    "A text that is empty, missing (None, NaN), or of blanks alone": no_text_for_mlm,
    "A text that the tokenizer drops": a_dropped_text,
    "Settings for writing (generate)": settings_for_mlm,
    "A tokenizer without a mask, or with special tokens alone": nothing_to_tell,
    "A tokenizer without [CLS] and [SEP]": a_mask_and_no_frame,
    "A mask that is among the words of tokenizer.json, not its added tokens": a_mask_and_no_frame,
    "whole_words with a tokenizer whose tokens are characters": whole_words_of_char,
    "Texts without words (!!!, emoji) with whole_words": no_words,
    "Held-out rows of which no token is hidden": nothing_hidden,
    "Logits that are no numbers": logits_of_mlm,
}
ODD = {"clm.md": CLM, "mlm.md": MLM}
"""What the pages say of odd inputs, and what finds it so."""


SLOW = {
    no_text_for_clm,
    another_method,
    several_ends,
    one_token,
    what_is_lost,
    files_that_are_not,
    lines_without_end,
    a_mask_and_no_frame,
    no_words,
    nothing_hidden,
}
"""They train runs of their own, or read much."""


@pytest.mark.parametrize(
    ("page", "row"),
    [
        pytest.param(page, row, marks=[pytest.mark.slow] if tried in SLOW else [])
        for page, rows in ODD.items()
        for row, tried in rows.items()
    ],
)
def test_an_odd_input_gives_what_the_page_says(odd, page, row):
    ODD[page][row](odd)


@pytest.mark.parametrize("name", ODD)
def test_every_odd_input_of_the_pages_is_tried(name):
    (page,) = [each for each in TASKS if each.name == name]
    rows = [line.cells[0] for line in table(page) if line.heading == "Odd inputs"]
    assert rows[2:] == [*ODD[name]]  # after the head
