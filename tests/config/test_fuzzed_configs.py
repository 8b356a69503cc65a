"""Whatever stands in a config, `nlpkit check` takes it or says what is wrong: never a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlpkit.cli.main import main
from nlpkit.config.jsonschema import config_schema
from nlpkit.config.resolve import KINDS as SECTIONS
from nlpkit.plugin.host import Host

GOOD = """\
name: x
seed: 3
device: cpu
task: {text: text, label: label, target: class, class_weights: balanced}
data:
  name: files
  train: rows.csv
  validation: 0.2
  on_bad_rows: skip
tokenizer: {name: char, max_length: 16, lowercase: true}
model: {name: transformer, layers: 1, hidden: 16, heads: 2, dropout: 0.1}
train:
  epochs: 1
  learning_rate: 1e-3
  schedule: cosine
eval: {every: 5, monitor: accuracy}
loader: {workers: 0}
checkpoint: {every: epoch, keep: 1}
strategy: single
export: [state_dict]
observers: [progress]
launch: local
"""
ROWS = "text,label\n" + "".join(f"word {number},{'ab'[number % 2]}\n" for number in range(20))


HOST = Host.discover()
SCHEMA = config_schema(HOST)
NAMES = sorted({entry.record.name for kind in SECTIONS.values() for entry in HOST.entries(kind)})
WORDS = ["epoch", "auto", "none", "nfkc", "balanced", "class", "multilabel", "regression", "text"]
WORDS += ["label", "both", "all", "cpu", "fp16", "bf16", "skip", "loss", "learned", "constant", "."]
TEXT = st.text("ab:-[]{}&*!|>'\"%#\n ,?1.~=é@`\t\\卡\u200b", max_size=8)
VALUES = st.recursive(
    st.sampled_from([*NAMES, *WORDS, "rows.csv", "gone.csv", "", None, True, False, 0, -1, 1.5])
    | st.integers(1, 40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "a", "b", "devices", "0"]), inner, max_size=2)
    ),
    max_leaves=4,
)
"""Often one that fits somewhere, so that what lies behind the config is reached too."""


def keys(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The dotted keys of the JSON Schema with what fits them, options of components included."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if prefix:
        yield prefix, schema
    for branch in [*schema.get("oneOf", ()), *schema.get("anyOf", ())]:
        yield from keys(branch, prefix)
    if "." not in prefix:
        for key, inner in schema.get("properties", {}).items():
            yield from keys(inner, f"{prefix}.{key}".removeprefix("."))


def fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit a schema, or nearly."""
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    least = int(schema.get("exclusiveMinimum", schema.get("minimum", 0)))
    kinds = {
        "integer": st.integers(least, least + 20),
        "number": st.floats(0.01, 0.9),
        "boolean": st.booleans(),
        "null": st.none(),
        "string": st.sampled_from([*NAMES, *WORDS, "rows.csv"]),
        "array": st.lists(st.sampled_from([*NAMES, *WORDS]), max_size=2),
    }
    return kinds.get(schema.get("type", ""), VALUES)


FITTING: dict[str, list[st.SearchStrategy[Any]]] = {}
for key, schema in keys(SCHEMA):
    if key not in ("plugins", "device"):
        FITTING.setdefault(key, []).append(fitting(schema))
PAIRS = st.sampled_from(sorted(FITTING)).flatmap(
    lambda key: st.tuples(st.just(key), st.one_of(*FITTING[key] * 5, VALUES))
)
OVERRIDES = st.lists(PAIRS, min_size=1, max_size=4, unique_by=lambda pair: pair[0]).map(dict)
EDITS = st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 6), TEXT), max_size=2)


def check(folder: Path, edits: list[tuple[int, int, str]], overrides: dict[str, Any]) -> None:
    text = GOOD
    for place, length, new in edits:
        text = text[:place] + new + text[place + length :]
    (folder / "c.yaml").write_text(text, encoding="utf-8", newline="")
    given = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in overrides.items()]
    assert main(["check", "c.yaml", *given]) in (0, 2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With rows in it, and far from every network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text(ROWS)
    return tmp_path


ONLY_OVERRIDES = st.tuples(st.just([]), OVERRIDES)  # edits mostly end in the parser
fuzzed = given(st.one_of(ONLY_OVERRIDES, ONLY_OVERRIDES, st.tuples(EDITS, st.just({}))))
quiet = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@settings(quiet, max_examples=100)
@fuzzed
def test_a_hundred_fuzzed_configs_give_no_traceback(folder, case):
    check(folder, *case)


@pytest.mark.slow
@settings(quiet, max_examples=500)
@fuzzed
def test_five_hundred_fuzzed_configs_give_no_traceback(folder, case):
    check(folder, *case)


def test_the_config_that_is_broken_is_good(folder):
    check(folder, [], {})
    assert main(["check", "c.yaml"]) == 0
    assert len(FITTING) > 60
