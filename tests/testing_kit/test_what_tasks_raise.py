"""What a task raises by mistake is named with its line; what it need not have is not asked for."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest

from nlpkit.contracts import Codec
from nlpkit.data.encode import Encoder
from nlpkit.data.vocabulary import vocabulary_of
from nlpkit.errors import PluginError
from nlpkit.testing import check_task
from tests.tasks.language import tokenizer
from tests.testing_kit.test_sabotaged_tasks import ROWS, Objective, Words, WordsCodec, refused


def test_whatever_a_task_raises_is_named_and_where():
    class Texts(Words):
        def texts(self, row, *, targets):
            return row.values["text"]

    class Lists(WordsCodec):
        def encode(self, row, encodings, use):
            return {
                name: each.tolist() for name, each in super().encode(row, encodings, use).items()
            }

    class Zero(WordsCodec):
        def encode(self, row, encodings, use):
            return 1 // len(use.strip(use))

    class Dicts(WordsCodec):
        def collate(self, examples, seeds):
            return vars(super().collate(examples, seeds))

    assert refused(Texts()).startswith("task Texts: AttributeError: 'str' object has no attribute")
    for codec in (Lists, Dicts):
        assert refused(Words(codec)).startswith("task Words: AttributeError: ")
    assert f"({__file__}:" in refused(Words(Zero))
    assert refused(object()) == "task object: is no nlpkit.contracts.Task"


def test_metrics_of_predictions_need_no_gold():
    class Said:
        of = "predictions"
        better = MappingProxyType({"said": "higher"})

        def __init__(self):
            self.state = np.zeros(2)

        def update(self, output, batch):
            self.state += [len(output), 1]

        def compute(self, state):
            return {"said": float(state[0] / max(1, state[1]))}

        def details(self, state):
            return {}

    class Told(WordsCodec):
        gold = Codec.gold

        def metrics(self):
            return [Said()]

    check_task(Words(Told), ROWS, objective=lambda schema: Objective())


@pytest.mark.parametrize("of", ["texts", "encode"])
def test_in_a_run_the_row_is_named_too(of):
    class Dividing(Words):
        def texts(self, row, *, targets):
            return super().texts(row, targets=targets) if of != "texts" else 1 / 0

    class Zero(WordsCodec):
        def encode(self, row, encodings, use):
            return 1 / 0

    task = Dividing(Zero)
    encoder = Encoder(task, task.codec({}, vocabulary_of(tokenizer("bpe"), 16)), tokenizer("bpe"))
    with pytest.raises(PluginError, match=r"^rows:0: task Dividing: ZeroDivisionError: .*\.py:\d+"):
        list(encoder.encoded(ROWS, "train"))
