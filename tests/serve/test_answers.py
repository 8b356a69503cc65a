"""What a client asks is what `Model.predict` says, in the order of the texts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.bundle.bundles import TEXTS


def test_a_text_and_a_list_of_texts_are_answered_as_the_model_predicts(server, model):
    expected = model.predict(TEXTS)
    status, answer = server.ask({"texts": TEXTS})
    assert status == 200
    assert [line["label"] for line in answer["predictions"]] == [each.label for each in expected]
    scores = [each.score for each in expected]
    assert [line["score"] for line in answer["predictions"]] == pytest.approx(scores, abs=1e-5)
    status, single = server.ask({"text": TEXTS[3]})
    assert (status, [line["label"] for line in single["predictions"]]) == (200, [expected[3].label])
    assert server.ask({"texts": []}) == (200, {"predictions": []})


def test_top_k_gives_the_best_labels_first(server, model):
    (expected,) = model.predict(TEXTS[:1], top_k=2)
    _, answer = server.ask({"text": TEXTS[0], "top_k": 2})
    top = answer["predictions"][0]["top"]
    assert [each["label"] for each in top] == list(expected.scores)
    assert [each["score"] for each in top] == pytest.approx(list(expected.scores.values()))


def test_requests_at_the_same_time_each_get_their_own_answers_in_order(server, model):
    expected = {text: each.label for text, each in zip(TEXTS, model.predict(TEXTS), strict=True)}
    questions = [[TEXTS[(at + step) % 8] for step in range(1 + at % 5)] for at in range(120)]
    before = server.metrics()
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda texts: server.ask({"texts": texts}), questions))
    for texts, (status, answer) in zip(questions, answers, strict=True):
        assert status == 200
        assert [line["label"] for line in answer["predictions"]] == [expected[t] for t in texts]
    asked = sum(map(len, questions))
    counted = {name: value - before.get(name, 0) for name, value in server.metrics().items()}
    assert counted['nlpkit_requests_total{status="200"}'] == len(questions)
    assert counted["nlpkit_texts_total"] == counted["nlpkit_batch_texts_sum"] == asked
    assert counted["nlpkit_batch_texts_count"] < len(questions)
    assert counted["nlpkit_request_seconds_count"] == len(questions)
    assert counted["nlpkit_waiting_texts"] == 0


def test_a_bad_text_among_others_gets_its_error_in_its_place(server, model):
    texts = [TEXTS[0], "", None, 5, ["a", "b"], "half \ud800", "long " * 3000, TEXTS[1]]
    status, answer = server.ask({"texts": texts})
    lines = answer["predictions"]
    assert status == 200
    assert [lines[0]["label"], lines[-1]["label"]] == [e.label for e in model.predict(TEXTS[:2])]
    assert [line["error"] for line in lines[1:-1]] == [
        'texts[1]: column "text": the text is empty',
        'texts[2]: column "text": the text is empty',
        "texts[3]: is no text",
        "texts[4]: is no text",
        "texts[5]: holds half a surrogate pair, which is no character",
        "texts[6]: has 15000 characters; at most 10000 are taken",
    ]


def test_one_text_that_cannot_be_predicted_is_an_error_of_the_request(server):
    status, answer = server.ask({"text": " "})
    assert (status, answer) == (422, {"error": 'text: column "text": the text is empty'})


def test_health_says_ok(server):
    assert server.request("GET", "/healthz") == (200, {"status": "ok"})
