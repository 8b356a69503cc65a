from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlpkit.config.load import dump_config, load_config
from nlpkit.config.schema import Config
from nlpkit.errors import ConfigError

MINIMAL = {"name": "x", "model": "transformer"}
FILE = """\
name: banking
task: {label: intent}
data:
  train: data/train.csv
  encoding: auto
tokenizer: {name: wordpiece, max_length: 64, vocab_size: 500}
model: {name: bert, pretrained: there, freeze: [embeddings, 0-3]}
train: {epochs: 5, learning_rate: 5e-5}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "banking.yaml"
    path.write_text(FILE)
    return path


def problems(source: Any, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides)
    return [str(problem) for problem in caught.value.problems]


def test_what_is_not_given_has_the_documented_default() -> None:
    config = load_config(MINIMAL)
    assert (config.seed, config.device, config.precision) == (13, "auto", "auto")
    assert (config.task.name, config.data.name, config.strategy.name) == (
        "sequence",
        "files",
        "single",
    )
    assert (config.train.epochs, config.train.batch_size, config.train.learning_rate) == (
        3,
        32,
        None,
    )
    assert [observer.name for observer in config.observers] == ["progress"]


def test_locations_count_from_the_folder_of_the_file(file: Path) -> None:
    assert load_config(file).data.train == str(file.parent / "data/train.csv")


def test_locations_of_a_mapping_count_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config({**MINIMAL, "data": {"train": "a.csv", "test": "s3://b/t.csv"}})
    assert config.data.train == str(tmp_path / "a.csv")
    assert config.data.test == "s3://b/t.csv"


def test_a_number_for_validation_is_a_fraction_and_text_is_a_path(file: Path) -> None:
    assert load_config(file, ["data.validation=0.2"]).data.validation == 0.2
    assert load_config(file, ['data.validation="0.2"']).data.validation == str(file.parent / "0.2")


def test_options_stay_as_they_were_written(file: Path) -> None:
    assert load_config(file).model.options == {
        "pretrained": "there",
        "freeze": ["embeddings", "0-3"],
    }


def test_any_mapping_tuples_paths_and_numpy_numbers_are_taken() -> None:
    source = OrderedDict(
        name="x",
        model={"name": "transformer", "layers": np.int64(2)},
        data={"train": Path("/data/a.csv")},
        task={"class_weights": {0: np.float32(1.5), 1: 2}},
        observers=("progress", {"name": "tensorboard"}),
        loader={"bucketing": np.bool_(False)},
        export=np.array(["onnx"]),
    )
    config = load_config(source)
    assert config.loader.bucketing is False
    assert [each.name for each in config.export] == ["onnx"]
    assert config.model.options == {"layers": 2}
    assert config.data.train == "/data/a.csv"
    assert config.task.options == {"class_weights": {"0": 1.5, "1": 2}}
    assert len(config.observers) == 2


@pytest.mark.parametrize("value", [float("nan"), object(), {None: 1}, {True: 1}, {1, 2}, "\ud800"])
def test_values_that_yaml_does_not_have_are_refused(value: object) -> None:
    (problem,) = problems({**MINIMAL, "task": {"weight": value}})
    assert problem.startswith("task.weight: ")


def test_a_mapping_that_contains_itself_is_refused() -> None:
    source: dict[str, Any] = {**MINIMAL}
    source["task"] = source
    assert "has no place in a config" in problems(source)[0]


def test_problems_of_a_mapping_have_dotted_keys_alone() -> None:
    assert problems({**MINIMAL, "seed": -1}) == [
        "seed: -1 is not a whole number from 0 to 9223372036854775807"
    ]


def test_all_problems_of_the_frame_come_at_once_with_their_lines(file: Path) -> None:
    file.write_text(FILE.replace("epochs: 5", "epochs: 0").replace("banking", "../x") + "sed: 1\n")
    assert sorted(problems(file)) == [
        f'{file}:1: name: "../x" is not a name that can be a folder\'s: no slash, no dot in front',
        f"{file}:8: train.epochs: 0 is not a whole number above 0",
        f'{file}:9: sed: unknown key; did you mean "seed"?',
    ]


def test_the_path_of_a_file_is_shown_as_it_was_given(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    file.write_text("name: x\nmodel: transformer\nseed: x\n")
    assert problems("banking.yaml")[0].startswith("banking.yaml:3: seed: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"[1]", "is not a mapping of keys"),
        ("name: café".encode("latin-1"), "is not UTF-8 at byte 9"),
    ],
)
def test_files_that_are_no_config_are_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_bytes(content)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}: {message}")


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    assert problems(tmp_path) == [f"{tmp_path}: is a folder, not a config file"]


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(file: Path) -> None:
    plain = load_config(file)
    file.write_bytes(b"\xef\xbb\xbf" + FILE.replace("\n", "\r\n").encode())
    assert load_config(file) == plain


def test_configs_are_equal_whatever_file_they_came_from(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("# a comment\n" + FILE)
    assert load_config(other) == load_config(file)


class TestOverrides:
    def test_values_are_strict_yaml(self, file: Path) -> None:
        config = load_config(
            file,
            ["train.learning_rate=1e-3", "name=010", "export=[state_dict]", "train.max_steps=null"],
        )
        assert (config.train.learning_rate, config.name) == (1e-3, "010")
        assert config.export[0].name == "state_dict"

    def test_a_dotted_key_makes_a_string_component_a_mapping(self) -> None:
        config = load_config(MINIMAL, ["model.layers=4"])
        assert (config.model.name, config.model.options) == ("transformer", {"layers": 4})

    @pytest.mark.parametrize(
        "overrides",
        [
            ["model=transformer", "model.layers=4"],
            ["model.layers=4", "model.name=transformer"],
            ["model={name: transformer, layers: 4}"],
            ["model={layers: 4}", "model=transformer"],
        ],
    )
    def test_another_component_drops_the_files_options_and_no_override(
        self, file: Path, overrides: list[str]
    ) -> None:
        config = load_config(file, overrides)
        assert (config.model.name, config.model.options) == ("transformer", {"layers": 4})

    def test_keys_of_the_frame_stay_when_the_component_changes(self, file: Path) -> None:
        config = load_config(file, ["data=sample", "tokenizer.name=char"])
        assert config.data.train == str(file.parent / "data/train.csv")
        assert config.data.options == {}
        assert (config.tokenizer.max_length, config.tokenizer.options) == (64, {})

    def test_naming_the_same_component_again_keeps_its_options(self, file: Path) -> None:
        assert load_config(file, ["model=bert"]) == load_config(file)
        assert load_config(file, ["data.delimiter=,"]).data.options["delimiter"] == ","
        assert load_config(file, ["data.name=files"]).data.options == {"encoding": "auto"}

    def test_a_mapping_for_a_section_sets_its_keys_and_leaves_the_others(self, file: Path) -> None:
        config = load_config(file, ["train={batch_size: 8}"])
        assert (config.train.batch_size, config.train.epochs) == (8, 5)

    def test_mappings_below_a_section_are_values(self, file: Path) -> None:
        config = load_config(file, ["task.class_weights={a: 2}"])
        assert load_config(file, ["task.class_weights.a=2"]) == config
        assert config.task.options["class_weights"] == {"a": 2}

    def test_the_same_override_twice_is_no_clash(self, file: Path) -> None:
        assert load_config(file, ["seed=1", "seed=1"]).seed == 1

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (["seed=1", "seed=2"], "override seed=2: seed: clashes with override seed=1"),
            (["task.x=1", "task.x.y=1"], "override task.x.y=1: task.x.y: clashes with"),
            (["=1"], "override =1: is not KEY=VALUE"),
            (["seed"], "override seed: is not KEY=VALUE"),
            (["train..epochs=1"], "override train..epochs=1: is not KEY=VALUE"),
            (["export=[a"], "override export=[a: export: is not YAML"),
            (["task=3"], "override task=3: task: 3 is not a name or a mapping"),
            (
                ["train.weight_decay=.inf"],
                "override train.weight_decay=.inf: train.weight_decay: .inf is not",
            ),
            (["train=fast"], 'override train=fast: train: "fast" is not a mapping'),
        ],
    )
    def test_what_cannot_be_applied_is_named(
        self, file: Path, overrides: list[str], message: str
    ) -> None:
        assert any(problem.startswith(message) for problem in problems(file, *overrides))

    def test_problems_of_overrides_and_file_come_together(self, file: Path) -> None:
        file.write_text(FILE + "seed: -3\n")
        found = problems(file, "train.epochs=x")
        assert len(found) == 2
        assert any(text.startswith("override train.epochs=x: train.epochs: ") for text in found)

    def test_what_is_wrong_in_a_list_has_the_address_of_who_gave_it(self, file: Path) -> None:
        file.write_text(FILE + "observers:\n  - progress\n")
        (found,) = problems(file, "observers=[3]")
        assert found.startswith("override observers=[3]: observers[0]: ")


def test_a_dumped_config_is_read_back_equal(file: Path, tmp_path: Path) -> None:
    config = load_config(file, ["train.max_grad_norm=.inf", "data.test=null", "seed=7"])
    copy = tmp_path / "elsewhere" / "config.yaml"
    copy.parent.mkdir()
    copy.write_text(dump_config(config), encoding="utf-8")
    assert load_config(copy) == config


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10) | st.sampled_from(
    ["no", "010", "1", "1.5", "null", "~", ".inf", "- a", "a: b", "a #b", "12:30", "true"]
)
OPTIONS = st.dictionaries(
    TEXT.filter(lambda key: key != "name"),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXT
    | st.lists(TEXT, max_size=2)
    | st.dictionaries(TEXT, st.floats(allow_nan=False), max_size=2),
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    name=st.text("abc013.-_ é中", min_size=1).filter(lambda name: name[0] != "."),
    seed=st.integers(0, 2**63 - 1),
    rate=st.none() | st.floats(1e-12, 1e3),
    options=OPTIONS,
)
def test_every_config_survives_dumping(
    tmp_path: Path, name: str, seed: int, rate: float | None, options: dict[str, Any]
) -> None:
    config = load_config(
        {
            "name": name,
            "seed": seed,
            "model": {**options, "name": "m"},
            "train": {"learning_rate": rate},
        }
    )
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8", newline="")
    again = load_config(path)
    assert again == config
    assert isinstance(again, Config)
    assert os.fspath(path) == again.origin.file


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text("ab:-[]{}&*!|>'\"%#\n ,?1.~=é@`\t\\", max_size=30))
def test_whatever_is_written_only_a_config_error_comes_of_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    for source, overrides in [(path, []), (MINIMAL, [f"train.epochs={text}", text])]:
        with suppress(ConfigError):
            load_config(source, overrides)


@pytest.mark.parametrize("source", [None, 5, [], {"a"}])
def test_what_is_neither_a_file_nor_a_mapping_is_refused(source: object) -> None:
    (problem,) = problems(source)
    assert problem.startswith("a config is a file or a mapping, not ")


def test_a_file_too_large_for_a_config_is_refused_before_it_is_parsed(file: Path) -> None:
    file.write_text("# \xfc\n" * (1 << 18))
    assert problems(file) == [f"{file}: is larger than 1 MiB, so it is no config"]
    assert problems("/dev/zero") == ["/dev/zero: is larger than 1 MiB, so it is no config"]


def test_problems_come_in_the_order_of_their_lines(file: Path) -> None:
    file.write_text(
        "zzz: 1\nname: x\nmodel: transformer\ntrain: {epochs: x}\nseed: no\ndevice: 3\n"
    )
    lines = [problem.split(":")[1] for problem in problems(file)]
    assert lines == ["1", "4", "5", "6"]


def test_line_breaks_of_windows_are_line_breaks(file: Path) -> None:
    file.write_bytes(FILE.replace("\n", "\r\n").encode("utf-8-sig"))
    assert load_config(file).name == "banking"


def test_options_of_components_are_checked_though_the_frame_is_wrong_too():
    wrong = {
        "name": "x",
        "task": {"name": "sequence", "targt": "class"},
        "data": {"trian": "x", "train": 5},
        "model": {"name": "transformer", "layer": 3},
        "train": {"epochs": "ten"},
        "export": [5],
    }
    with pytest.raises(ConfigError) as caught:
        load_config(wrong)
    found = {problem.key for problem in caught.value.problems}
    assert found == {
        "task.targt",
        "data.trian",
        "data.train",
        "model.layer",
        "train.epochs",
        "export[0]",
    }
