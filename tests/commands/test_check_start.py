"""`nlpkit check` finds what `nlpkit train` refuses before its first step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

import nlpkit
from tests.bert.conftest import saved

STRANGER = """
import nlpkit

class Picky(nlpkit.contracts.Exporter):
    def __init__(self, options):
        pass

    def check(self, config):
        if config.model.options["layers"] > 1:
            yield f"picky: writes models of one layer, not of {config.model.options['layers']}"

def broken(options):
    raise OSError("no licence")

def unlucky(options, terminal):
    raise OSError("no port is free")

def nothing(options, terminal):
    pass

@nlpkit.hookimpl
def nlpkit_exporters():
    yield nlpkit.ExporterRecord(name="picky", target="stranger:Picky")
    yield nlpkit.ExporterRecord(name="broken", target="stranger:broken")
    yield nlpkit.ExporterRecord(name="needy", target="stranger:Picky", needs=("no_such",))

def choosy(options, terminal):
    raise nlpkit.InputError("choosy: needs a folder of its own; name one")

@nlpkit.hookimpl
def nlpkit_observers():
    yield nlpkit.ObserverRecord(name="choosy", target="stranger:choosy")
    yield nlpkit.ObserverRecord(name="unlucky", target="stranger:unlucky")
    yield nlpkit.ObserverRecord(name="nothing", target="stranger:nothing")
    yield nlpkit.ObserverRecord(name="absent", target="no_such_module:build")
    yield nlpkit.ObserverRecord(name="unknown", target="stranger:no_such_name")

@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="absent", target="no_such_module:build")

@nlpkit.hookimpl
def nlpkit_strategies():
    yield nlpkit.StrategyRecord(name="absent", target="no_such_module:build")

@nlpkit.hookimpl
def nlpkit_tasks():
    yield nlpkit.TaskRecord(
        name="half",
        target="nlpkit_tasks.sequence.task:build",
        config="nlpkit_tasks.sequence.config:SequenceConfig",
        objective="no_such_module:build",
    )
"""
ROWS = "text,label\n" + "".join(f"good {n},yes\nbad {n},no\n" for n in range(20))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").write_text(ROWS)
    (tmp_path / "alone.csv").write_text("text,label\ngood,yes\nbad,no\n")
    (tmp_path / "one.csv").write_text("text,label\ngood,yes\n")
    (tmp_path / "empty.csv").write_text("text,label\n")
    (tmp_path / "wrong.csv").write_text("text,label\ngood,maybe\n")
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "stranger.py").write_text(STRANGER)
    return tmp_path


def config(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "x",
        "plugins": ["./stranger.py"],
        "device": "cpu",
        "task": {"name": "sequence"},
        "data": {"train": "train.csv"},
        "model": {"name": "transformer", "layers": 2, "hidden": 8, "heads": 2},
        "train": {"max_steps": 1},
        "loader": {"workers": 0},
        "observers": [],
    }
    for key, value in changes.items():
        old = base.get(key, {})
        fits = isinstance(old, dict) and isinstance(value, dict) and "name" not in value
        base[key] = {**old, **value} if fits else value
    return base


def encoder(folder: Path, *, ids: int = 60) -> Path:
    """A tiny encoder of 60 ids, with a tokenizer of its own."""
    path = saved(folder / "encoder", "bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"word{number}" for number in range(ids - len(words))]
    vocabulary = {word: number for number, word in enumerate(words)}
    Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]")).save(str(path / "tokenizer.json"))
    return path


def bert(path: Path) -> dict[str, Any]:
    return config(model={"name": "bert", "pretrained": str(path)}, tokenizer={"max_length": 16})


def too_many_ids(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    return bert(encoder(folder, ids=70))


def no_weights(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    path = encoder(folder)
    (path / "model.safetensors").unlink()
    return bert(path)


def pointer_of_git(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    path = encoder(folder)
    (path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    return bert(path)


def missing_part(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    path = encoder(folder)
    (path / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return bert(path)


def unusable_cache(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    patch.setenv("NLPKIT_CACHE", str(folder / "file" / "cache"))
    return config()


def unusable_runs(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    patch.setenv("NLPKIT_RUNS", str(folder / "file" / "runs"))
    return config()


Case = Callable[[Path, pytest.MonkeyPatch], dict[str, Any]]
WORLD: dict[Case, str] = {
    too_many_ids: "the tokenizer gives 70 different ids, the model knows 60",
    no_weights: "has none of model.safetensors",
    pointer_of_git: "model.safetensors is damaged",
    missing_part: "has no model-1.safetensors",
    unusable_cache: "Not a directory",
    unusable_runs: "Not a directory",
}
CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"export": ["picky"]}, "export[0]: picky: writes models of one layer, not of 2"),
    ({"export": ["broken"]}, "no licence"),
    ({"export": ["state_dict", "needy"]}, "export[1]: needy needs no_such, which is not installed"),
    ({"observers": ["absent"]}, 'observer "absent"'),
    ({"observers": ["choosy"]}, "needs a folder of its own; name one"),
    ({"observers": ["unknown"]}, "stranger has no no_such_name"),
    ({"model": {"name": "absent"}}, 'model "absent"'),
    ({"strategy": "absent"}, 'strategy "absent"'),
    ({"task": {"name": "half"}}, 'task "half"'),
    ({"strategy": "data_parallel"}, "strategy: data_parallel is for 2 GPUs and more"),
    ({"device": "cuda:63"}, "device: cuda:63 is not there"),
    ({"device": "mps"}, "device: mps is not there"),
    ({"precision": "fp16"}, "precision: fp16 is for CUDA devices"),
    ({"strategy": "amp", "precision": "fp32"}, 'precision: strategy "amp" does not take fp32'),
    ({"checkpoint": {"backup": "gopher://x"}}, "gopher://x/x: cannot be used"),
    (
        {"checkpoint": {"backup": "s3://me:pw@bucket"}},
        "checkpoint.backup: the URL shows a password",
    ),
    ({"data": {"train": None}}, "data.train: missing"),
    ({"data": {"train": "none.csv"}}, "none.csv: there is no such file"),
    ({"data": {"train": "empty.csv"}}, "there are no train rows"),
    ({"data": {"train": "alone.csv"}}, "training rows is no row"),
    (
        {"data": {"train": "one.csv"}},
        "the one training row cannot be divided; give a file, or null",
    ),
    ({"data": {"test": "wrong.csv"}}, '"maybe" is not one of the 2 labels'),
    ({"eval": {"monitor": "bleu"}}, "eval.monitor"),
    ({"tokenizer": {"name": "pretrained", "pretrained": "./none"}}, "there is no folder"),
    (
        {"task": {"name": "sequence", "class_weights": {"maybe": 2.0}}},
        'task.class_weights: "maybe" is not one of',
    ),
]


def assert_both_refuse(settings: dict[str, Any], expected: str) -> None:
    """The words stand in an error of check, and in what training raises, which trains nothing."""
    problems = nlpkit.check(settings)
    assert [str(each) for each in problems if each.severity == "error" and expected in str(each)]
    with pytest.raises(nlpkit.NlpkitError) as caught:
        nlpkit.train(settings)
    assert expected in str(caught.value)
    assert not list(Path().glob("runs/*"))


@pytest.mark.parametrize(("changes", "expected"), CONFIGS, ids=[each for _, each in CONFIGS])
def test_what_training_refuses_of_a_config_check_finds(
    folder: Path, changes: dict[str, Any], expected: str
) -> None:
    assert_both_refuse(config(**changes), expected)


@pytest.mark.parametrize("case", WORLD, ids=lambda case: case.__name__)
def test_what_training_refuses_of_a_machine_check_finds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    assert_both_refuse(case(folder, monkeypatch), WORLD[case])


def test_the_config_of_these_cases_is_one_that_both_take(folder: Path) -> None:
    one_layer = config(export=["picky"])["model"] | {"layers": 1}
    problems = nlpkit.check(config(export=["picky"], model=one_layer))
    assert [str(each) for each in problems if each.severity == "error"] == []
    assert nlpkit.train(config()).result["steps"] == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unlucky", 'observer "unlucky": OSError: no port is free ('),
        ("nothing", 'observer "nothing" is built as NoneType, not nlpkit.contracts.Observer'),
    ],
)
def test_an_observer_that_cannot_be_built_is_a_warning_and_ends_no_run(
    folder: Path, name: str, said: str
) -> None:
    settings = config(observers=[name, "progress"])
    (problem,) = [each for each in nlpkit.check(settings) if each.key == "observers[0]"]
    assert (problem.severity, problem.remedy) == ("warning", "a run goes on without it")
    assert said in problem.message
    account = nlpkit.train(settings).result["observers"][name]
    assert account["first_error"] == problem.message
    assert (account["failures"], account["disabled"]) == (1, True)


def test_a_backup_of_another_run_is_a_warning_for_it_can_be_gone_on_with(folder: Path) -> None:
    settings = config(checkpoint={"backup": str(folder / "backup")})
    run = nlpkit.train(settings)
    warnings = [str(each) for each in nlpkit.check(settings)]
    assert not [each for each in warnings if "another run" in each]  # train takes another folder
    run.path.rename(folder / "elsewhere")
    (problem,) = [each for each in nlpkit.check(settings) if "another run" in each.message]
    assert (problem.severity, problem.key) == ("warning", "checkpoint.backup")
    with pytest.raises(nlpkit.InputError, match="has checkpoints of another run"):
        nlpkit.train(settings)
