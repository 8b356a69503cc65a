from __future__ import annotations

import pytest
import torch
from torch import nn

from nlpkit import PluginError
from nlpkit.contracts import Codec, HeadSpec, Vocabulary
from nlpkit.nn import Head, StepModule, call, graphs_of, input_names

HIDDEN = torch.tensor(
    [[[1.0, 2.0], [3.0, 6.0], [50.0, 50.0]], [[4.0, 4.0], [9.0, 9.0], [9.0, 9.0]]]
)
MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])


class Sum:
    """An objective: the sum of the logits times a target."""

    def total(self, logits, targets, rows):
        return (logits * targets["factor"]).sum()

    def output(self, logits, targets, rows):
        return logits


class Scale(nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.factor = nn.Parameter(torch.ones((), dtype=dtype))

    def forward(self, input_ids, attention_mask):
        return input_ids * self.factor * attention_mask


class Renamed(Scale):
    inputs = ("attention_mask", "input_ids")


class Stranger(nn.Module):
    def forward(self, pixels):
        return pixels


def transparent(head):
    nn.init.eye_(head.linear.weight)
    return head


def head(level="sequence", pooling="mean", dropout=0.0):
    return transparent(
        Head(2, HeadSpec(size=2, level=level), pooling=pooling, dropout=dropout)
    ).eval()


def test_mean_pooling_averages_the_real_tokens():
    assert head(pooling="mean")(HIDDEN, MASK).tolist() == [[2.0, 4.0], [4.0, 4.0]]


def test_cls_pooling_takes_the_first_token():
    assert head(pooling="cls")(HIDDEN, MASK).tolist() == [[1.0, 2.0], [4.0, 4.0]]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_head_for_tokens_keeps_every_token(pooling):
    assert torch.equal(head(level="token", pooling=pooling)(HIDDEN, MASK), HIDDEN)


def test_a_mask_may_be_bool():
    assert torch.equal(head()(HIDDEN, MASK.bool()), head()(HIDDEN, MASK))


def test_the_mean_of_many_16_bit_tokens_is_added_up_in_float32():
    hidden = torch.full((1, 4096, 2), 0.1, dtype=torch.bfloat16)
    mask = torch.ones(1, 4096, dtype=torch.int64)
    logits = head().to(torch.bfloat16)(hidden, mask)
    assert logits.dtype == torch.bfloat16
    assert torch.equal(logits, hidden[:, 0])


def test_dropout_works_in_training_only():
    quiet = transparent(Head(2, HeadSpec(size=2), pooling="mean", dropout=0.5))
    torch.manual_seed(0)
    trained = torch.stack([quiet.train()(HIDDEN, MASK) for _ in range(20)])
    assert (trained == 0).any()
    assert torch.equal(quiet.eval()(HIDDEN, MASK), head()(HIDDEN, MASK))


def test_a_step_is_the_objectives_sum_in_a_vector_of_one():
    inputs = {"input_ids": torch.tensor([[1, 2]]), "attention_mask": torch.tensor([[1, 1]])}
    total = StepModule(Scale(), Sum(), HeadSpec(size=2))(inputs, {"factor": torch.tensor(2.0)})
    assert total.shape == (1,)
    assert total.item() == 6.0


@pytest.mark.parametrize(
    ("computed", "seen"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_an_objective_sees_float32_at_least(computed, seen):
    inputs = {"input_ids": torch.ones(1, 2), "attention_mask": torch.ones(1, 2)}
    inputs = {name: each.to(computed) for name, each in inputs.items()}
    total = StepModule(Scale(computed), Sum(), HeadSpec(size=2))(
        inputs, {"factor": torch.tensor(1.0)}
    )
    assert total.dtype == seen


def test_a_model_names_its_inputs_by_its_forward_or_by_an_attribute():
    assert input_names(Scale()) == ("input_ids", "attention_mask")
    assert input_names(Renamed()) == ("attention_mask", "input_ids")


def test_inputs_that_a_model_does_not_take_are_left_out():
    inputs = {
        "token_type_ids": torch.zeros(1, 2),
        "attention_mask": torch.tensor([[1, 0]]),
        "input_ids": torch.tensor([[3, 4]]),
    }
    assert call(Scale(), inputs).tolist() == [[3, 0]]


class Packed(Scale):
    def forward(self, input_ids, attention_mask, *, document_ids=None):
        logits = super().forward(input_ids, attention_mask)
        return logits if document_ids is None else logits + document_ids


def test_what_is_taken_by_keyword_only_is_given_where_the_batch_has_it():
    inputs = {"input_ids": torch.tensor([[3, 4]]), "attention_mask": torch.tensor([[1, 0]])}
    assert call(Packed(), inputs).tolist() == [[3, 0]]
    documents = {"document_ids": torch.tensor([[10, 20]])}
    assert call(Packed(), {**documents, **inputs}).tolist() == [[13, 20]]
    step = StepModule(Packed(), Sum(), HeadSpec(size=2))
    assert step({**documents, **inputs}, {"factor": torch.tensor(1.0)}).item() == 33


def test_what_is_taken_by_keyword_only_is_no_input_of_a_graph():
    codec = Codec({}, Vocabulary(size=5, max_length=5))
    codec.head = HeadSpec(size=2)
    codec.inputs = {**Codec.inputs, "document_ids": ("rows", "tokens")}
    assert list(graphs_of(Packed(), codec)["model"].spec.inputs) == ["input_ids", "attention_mask"]


def test_an_input_that_the_task_lacks_is_named_with_the_model():
    with pytest.raises(PluginError, match=r'Stranger takes "pixels".* \(it gives input_ids\)'):
        call(Stranger(), {"input_ids": torch.zeros(1, 2)})


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (HeadSpec(size=3), r"model Scale gave \[1, 2\] .* the task wants .*\[1, 3\]"),
        (HeadSpec(size=2, level="token"), r"wants .*\[1, 2, 2\]"),
    ],
)
def test_logits_of_a_shape_that_the_task_does_not_want_are_refused(head, message):
    inputs = {"input_ids": torch.ones(1, 2), "attention_mask": torch.ones(1, 2)}
    with pytest.raises(PluginError, match=message):
        StepModule(Scale(), Sum(), head).logits(inputs)


def test_what_is_no_tensor_is_refused():
    class Pair(nn.Module):
        def forward(self, input_ids):
            return input_ids, input_ids

    with pytest.raises(PluginError, match="model Pair gave tuple, not a tensor of logits"):
        call(Pair(), {"input_ids": torch.ones(1, 2)})
