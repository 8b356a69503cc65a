"""Texts are generated together, each as if alone; nothing is computed twice, or for ended ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from nlpkit.engine.generate import generate, generating
from nlpkit.engine.search import Written
from nlpkit.engine.settings import Settings
from nlpkit.errors import InputError, NonFiniteError
from tests.engine.toys import Gpt2, Table

METHODS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sample": {"method": "sample"},
    "beam": {"method": "beam", "beams": 3},
}
END = (0,)


def prompts(count: int, vocabulary: int = 12, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(1, vocabulary, random.integers(1, 9)) for _ in range(count)]


def ids_of(found: Sequence[Written]) -> list[list[int]]:
    return [written.ids for written in found]


def greedily(table: Table, prompt: np.ndarray, most: int, end: Sequence[int] = END) -> list[int]:
    ids = prompt.tolist()
    while len(ids) < len(prompt) + most:
        chosen = int(table.logits(ids).argmax())
        if chosen in end:
            break
        ids.append(chosen)
    return ids[len(prompt) :]


def test_greedy_takes_the_likeliest_token_each_time() -> None:
    table, given = Table(12), prompts(30)
    found = generate(table, given, Settings(max_tokens=9), end=END)
    assert ids_of(found) == [greedily(table, each, 9) for each in given]
    assert [written.complete for written in found] == [len(each.ids) < 9 for each in found]
    assert {written.complete for written in found} == {True, False}


def test_the_score_is_the_mean_log_probability_of_a_token_the_end_included() -> None:
    table, given = Table(12), prompts(30)
    for values in METHODS.values():
        for prompt, written in zip(
            given, generate(table, given, Settings(max_tokens=6, **values), end=END), strict=True
        ):
            ids = written.ids + [0] * written.complete
            parts = []
            for at, id in enumerate(ids):
                logits = table.logits([*prompt.tolist(), *ids[:at]]).astype(np.float64)
                parts.append(logits[id] - np.log(np.exp(logits).sum()))
            assert written.score == pytest.approx(np.mean(parts), abs=1e-5)


def test_a_score_knows_neither_temperature_nor_filters() -> None:
    table, given = Table(12), prompts(4)
    options = {"method": "sample", "temperature": 1e-3, "top_k": 5, "top_p": 0.9}
    cold = generate(table, given, Settings(max_tokens=5, **options))
    assert cold == generate(table, given, Settings(max_tokens=5))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_a_prompt_gives_the_same_words_wherever_it_stands(method: str, batch: int) -> None:
    table, given = Table(12), [*prompts(40), *prompts(24)]
    settings = Settings(max_tokens=6, **METHODS[method])
    expected = generate(table, given, settings, end=END)
    assert expected[:24] == expected[40:]
    found = []
    for at in range(0, len(given), batch):
        found += generate(table, given[at : at + batch], settings, end=END)
    assert found == expected
    turned = generate(table, given[::-1], settings, end=END)
    assert turned[::-1] == expected


@pytest.mark.parametrize("method", METHODS)
def test_with_a_cache_and_without_one_a_real_model_writes_the_same(method: str) -> None:
    engine, given = Gpt2().engine(), prompts(12, 40)
    settings = Settings(max_tokens=10, **METHODS[method])
    expected = ids_of(generate(engine, given, settings, end=END, graph="again"))
    assert ids_of(generate(engine, given, settings, end=END)) == expected
    alone = [generate(engine, [each], settings, end=END)[0].ids for each in given]
    assert alone == expected


def test_pasts_stay_where_the_engine_computes() -> None:
    engine, seen = Gpt2().engine(), list[set[type]]()
    step = engine.step

    def watched(inputs: Any, graph: str) -> Any:
        found = step(inputs, graph)
        seen.append({type(each) for name, each in found.items() if name.startswith("present_")})
        assert type(found["logits"]) is np.ndarray
        return found

    engine.step = watched  # type: ignore[method-assign]
    generate(engine, prompts(3, 40), Settings(max_tokens=3))
    assert seen == [{torch.Tensor}] * 3
    given = {"input_ids": np.ones((1, 2), np.int64), "attention_mask": np.ones((1, 2), np.int64)}
    pasts = {
        name: np.zeros((1, 2, 0, 8), np.float32)
        for name in engine.graphs["model"].inputs
        if name.startswith("past_")
    }
    assert {type(each) for each in engine.run({**given, **pasts}).values()} == {np.ndarray}


def test_another_seed_and_another_prompt_give_other_words() -> None:
    table = Table(12, scale=0.1)
    given = [np.array([1, 2, 3]), np.array([4, 2, 3]), np.array([1, 2, 3, 1, 2, 3])]
    texts = {
        tuple(written.ids)
        for seed in range(20)
        for written in generate(table, given, Settings(method="sample", max_tokens=9, seed=seed))
    }
    assert len(texts) == 60


def test_first_words_are_as_frequent_as_the_softmax_says() -> None:
    table, prompt, draws = Table(8, scale=0.7), np.array([3, 1]), 1_000
    found = np.zeros(8)
    for seed in range(draws):
        settings = Settings(method="sample", max_tokens=1, seed=seed)
        found[generate(table, [prompt], settings)[0].ids[0]] += 1
    shares = np.exp(table.logits([3, 1]).astype(np.float64))
    expected = draws * shares / shares.sum()
    assert ((found - expected) ** 2 / expected).sum() < 24.3  # 0.999 of 7 degrees


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0},
        {"method": "sample", "temperature": 0},
        {"method": "sample", "top_k": 1},
        {"method": "beam", "beams": 1},
    ],
)
def test_these_are_greedy(values: dict[str, Any]) -> None:
    table, given = Table(12), prompts(20)
    expected = generate(table, given, Settings(max_tokens=6), end=END)
    assert generate(table, given, Settings(max_tokens=6, **values), end=END) == expected


@pytest.mark.parametrize("last_only", [True, False])
@pytest.mark.parametrize("method", ["greedy", "sample"])
def test_no_token_passes_twice_and_none_of_a_row_that_has_ended(
    method: str, last_only: bool
) -> None:
    table, given = Table(12, last_only=last_only), prompts(30)
    found = generate(table, given, Settings(max_tokens=9, **METHODS[method]), end=END)
    chosen = [len(each.ids) + each.complete for each in found]
    assert len(set(chosen)) > 3
    # The last token of each is chosen, and passes never.
    assert table.passed == sum(map(len, given)) + sum(each - 1 for each in chosen)
    assert table.runs == [sum(each > step for each in chosen) for step in range(max(chosen))]


def test_a_search_passes_each_prompt_once_and_its_beams_after_it() -> None:
    table, given = Table(12), prompts(5)
    generate(table, given, Settings(max_tokens=5, method="beam", beams=3))
    assert table.runs == [5, 15, 15, 15, 15]
    assert table.passed == sum(map(len, given)) + 4 * 15


def test_ids_beyond_the_vocabulary_are_never_chosen() -> None:
    table = Table(12)
    table.place[:, 10:] += 9
    for values in METHODS.values():
        settings = Settings(max_tokens=4, **values)
        assert max(map(max, ids_of(generate(table, prompts(9), settings)))) > 9
        found = generate(table, prompts(9), settings, vocabulary=10)
        assert max(map(max, ids_of(found))) <= 9
        assert max(written.score for written in found) < -3  # the model holds them unlikely


def test_a_vocabulary_of_one() -> None:
    for values in METHODS.values():
        settings = Settings(max_tokens=3, **values)
        assert generate(Table(1), [np.zeros(2, np.int64)], settings) == [
            Written([0, 0, 0], "", 0.0, False)
        ]
        (written,) = generate(Table(1), [np.zeros(2, np.int64)], settings, end=[0])
        assert written == Written([], "", 0.0, True)


def test_several_ids_may_end_a_text() -> None:
    table, given = Table(12), prompts(30)
    found = generate(table, given, Settings(max_tokens=9), end=[0, 3, 5])
    assert ids_of(found) == [greedily(table, each, 9, [0, 3, 5]) for each in given]


def test_an_end_that_is_the_last_of_max_tokens_is_an_end() -> None:
    table, given = Table(12), prompts(60)
    whole = generate(table, given, Settings(max_tokens=9), end=END)
    prompt, written = next(
        (prompt, each) for prompt, each in zip(given, whole, strict=True) if len(each.ids) == 3
    )
    assert generate(table, [prompt], Settings(max_tokens=4), end=END) == [written]
    assert not generate(table, [prompt], Settings(max_tokens=3), end=END)[0].complete


@pytest.mark.parametrize("method", METHODS)
def test_logits_that_are_no_numbers_are_one_error(method: str) -> None:
    table = Table(12)
    table.one[5, 3] = np.nan
    with pytest.raises(NonFiniteError, match="logits that are no numbers"):
        generate(table, [np.array([1]), np.array([5])], Settings(**METHODS[method]))


def test_a_prompt_without_a_token_is_refused() -> None:
    with pytest.raises(InputError, match="prompt 1 has no token to go on from"):
        generate(Table(12), [np.array([1]), np.zeros(0, np.int64)], Settings())


def test_it_tells_after_each_step_how_far_each_row_is() -> None:
    table, given = Table(12), prompts(12)
    settings, how = Settings(max_tokens=6), {"end": END, "text": spelled}
    expected = generate(table, given, settings, **how)
    told: dict[int, list[str]] = {}
    for row, said, written in generating(table, given, settings, **how):
        told.setdefault(row, []).append(said())
        assert written == (expected[row] if len(told[row]) == steps(expected[row]) else None)
    for row, written in enumerate(expected):
        growing = [spelled(written.ids[:at]) for at in range(1, steps(written) + 1)]
        assert told[row] == growing


def spelled(ids: list[int]) -> str:
    return "".join(chr(ord("a") + id) for id in ids)


def steps(written: Written) -> int:
    return len(written.ids) + written.complete


@pytest.mark.parametrize("method", METHODS)
def test_a_row_can_be_ended_early_and_the_others_do_not_notice(method: str) -> None:
    table, given = Table(12), prompts(6)
    settings = Settings(max_tokens=8, **METHODS[method])
    expected = generate(table, given, settings)
    asked = {row: 0 for row in range(6)}

    def stopped(row: int) -> bool:
        asked[row] += 1
        return row in (1, 4) and asked[row] == row

    found = generate(table, given, settings, stopped=stopped)
    assert [len(each.ids) for each in found] == [8, 1, 8, 8, 4, 8]
    assert not any(each.complete for each in found)
    for row in (0, 2, 3, 5):
        assert found[row] == expected[row]
    shorter = generate(table, given, Settings(max_tokens=4, **METHODS[method]))
    assert found[4] == shorter[4]
