from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from nlpkit.config.jsonschema import config_schema
from nlpkit.config.load import load_config
from nlpkit.plugin.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE: dict[str, Any] = {"name": "x", "model": "transformer"}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = config_schema(Host.discover())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"model": {"name": "bert", "pretrained": "bert-base-uncased", "freeze": ["embeddings", 1]}},
        {"task": "sequence", "data": "sample"},
        {"task": {"text": ["a", "b"], "class_weights": {"x": 2}}},
        {"task": {"name": "sequence", "target": "multilabel"}},
        {"data": {"train": "a.csv", "validation": "b.csv", "encoding": "auto"}},
        {"data": {"name": "sample", "validation": 0.2}},
        {"tokenizer": {"name": "wordpiece", "vocab_size": 100, "max_length": 32}},
        {"tokenizer": {"max_length": 32}},
        {"tokenizer": {"name": "pretrained"}},
        {"tokenizer": "char"},
        {"strategy": {"devices": 2}, "launch": {"storage": "s3://b/x", "max_hours": 1}},
        {"strategy": {}, "launch": {}, "data": {}, "task": {}, "tokenizer": {}},
        {"strategy": {"name": "ddp", "devices": "all"}, "launch": "ray"},
        {"observers": ["progress", "tensorboard", {"name": "progress"}], "export": ["state_dict"]},
        {"train": {"epochs": 1, "max_steps": None}, "eval": {"every": 100}, "plugins": ["./a.py"]},
    ],
)
def test_it_accepts_what_loads(
    validator: jsonschema.Draft202012Validator, keys: dict[str, Any]
) -> None:
    config = {**BASE, **keys}
    load_config(config)
    validator.validate(config)


@pytest.mark.parametrize(
    "keys",
    [
        {"epochs": 3},
        {"name": 3},
        {"name": "a/b"},
        {"model": "transfomer"},
        {"model": "bert"},
        {"model": {"name": "transformer", "layer": 3}},
        {"model": {"name": "transformer", "layers": 0}},
        {"model": {"layers": 3}},
        {"model": {"name": "bert"}},
        {"data": {"name": "sample", "encoding": "auto"}},
        {"data": {"validation": 2}},
        {"tokenizer": {"name": "char", "vocab_size": 100}},
        {"tokenizer": {"vocabulary": 100}},
        {"tokenizer": {"vocab_size": "many"}},
        {"strategy": {"device": 2}},
        {"strategy": {"name": "single", "devices": 2}},
        {"launch": {"storage": 3}},
        {"train": {"epochs": "three"}},
        {"observers": "progress"},
        {"observers": ["progres"]},
    ],
)
def test_it_refuses_what_does_not(
    validator: jsonschema.Draft202012Validator, keys: dict[str, Any]
) -> None:
    assert not validator.is_valid({**BASE, **keys})


def test_a_missing_model_is_refused(validator: jsonschema.Draft202012Validator) -> None:
    assert not validator.is_valid({"name": "x"})


def test_descriptions_of_options_are_in_it() -> None:
    text = str(config_schema(Host.discover()))
    assert "Width of the residual stream" in text
    assert "trained from scratch" in text


def properties(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property in a schema, however deep, with its path."""
    children = enumerate(part) if isinstance(part, list) else part.items()
    for key, child in children:
        if key == "properties":
            yield from ((f"{path}.{name}", each) for name, each in child.items())
        if isinstance(child, dict | list):
            yield from properties(child, f"{path}.{key}")


def test_every_property_has_its_words(validator: jsonschema.Draft202012Validator) -> None:
    found = dict(properties(validator.schema))
    assert len(found) > 130
    assert [path for path, each in found.items() if not each.get("description")] == []
