"""What a run asks of this machine: each question alone."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from nlpkit.checking import machine
from nlpkit.checking.config import start_problems
from nlpkit.config.load import load_config
from nlpkit.config.resolve import resolve
from nlpkit.config.schema import Config
from nlpkit.plugin.host import Host
from nlpkit_bert.resolve import REQUIRED

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture(scope="module")
def host() -> Host:
    return Host.discover()


def config(host: Host, **changes: Any) -> Config:
    base = {"name": "x", "model": "transformer", "device": "cpu", "data": {"train": "train.csv"}}
    return resolve(load_config({**base, **changes}), host)


def absent(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked, *rest: None if asked == name else find(asked)
    )


def test_a_run_on_a_cpu_asks_for_nothing(host):
    assert machine.machine_problems(config(host), host) == []


def test_a_device_that_is_not_here_is_an_error_at_its_key(host):
    (problem,) = machine.machine_problems(config(host, device="cuda:63"), host)
    assert (problem.key, problem.severity) == ("device", "error")
    assert "cuda:63 is not there" in problem.message
    assert problem.remedy


def test_another_machines_devices_are_not_asked_for(host):
    away = config(host, device="cuda:63", launch="ray")
    assert machine.trains_elsewhere(away, host)
    assert start_problems(away, host) == []
    assert start_problems(config(host, device="cuda:63"), host)
    assert not machine.trains_elsewhere(config(host), host)


def test_torch_that_is_missing_is_a_warning_for_a_check_needs_none(host, monkeypatch):
    absent(monkeypatch, "torch")
    (problem,) = machine.machine_problems(config(host), host)
    assert (problem.severity, problem.remedy) == ("warning", "pip install 'nlpkit-sdk[train]'")
    assert start_problems(config(host, launch="ray"), host) == []


def test_a_secret_is_named_by_its_key_and_its_variable(host, monkeypatch):
    given = config(host, data={"train": {"env": "PLACE_OF_ROWS"}})
    monkeypatch.setenv("PLACE_OF_ROWS", "train.csv")
    assert [*machine.secret_problems(given, host)] == []
    monkeypatch.delenv("PLACE_OF_ROWS")
    (problem,) = machine.secret_problems(given, host)
    assert problem.key == "data.train"
    assert "PLACE_OF_ROWS" in problem.message


def test_a_folder_that_cannot_be_written_to_is_named_with_its_variable(tmp_path, monkeypatch):
    assert [*machine.folder_problems()] == []
    assert not [*tmp_path.iterdir()]  # nothing is made on the way
    (tmp_path / "file").touch()
    monkeypatch.setenv("NLPKIT_RUNS", str(tmp_path / "file" / "runs"))
    (problem,) = machine.folder_problems()
    assert problem.address == str(tmp_path / "file" / "runs")
    assert problem.remedy == "set NLPKIT_RUNS to a folder that can be written to"


def test_an_export_whose_package_is_missing_is_said_here_and_not_of_another_machine(
    host, monkeypatch
):
    absent(monkeypatch, "onnxruntime")
    (problem,) = machine.export_problems(config(host, export=["state_dict", "onnx"]), host)
    assert (problem.key, problem.severity) == ("export[1]", "error")
    assert problem.remedy == "pip install 'nlpkit-sdk[onnx]'"
    assert [*machine.export_problems(config(host, export=["onnx"], launch="ray"), host)] == []


def test_an_export_reads_rows_again_so_a_signed_location_is_an_error_with_one(host):
    signed = {"train": "https://host/a.csv?signature=1"}
    assert [*machine.export_problems(config(host, data=signed), host)] == []
    (problem,) = machine.export_problems(config(host, data=signed, export=["state_dict"]), host)
    assert problem.key == "data.train"
    assert "its query is not stored with the run" in problem.message


@pytest.fixture
def pretrained(tmp_path: Path) -> str:
    """A folder with weights of 20 MB."""
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(
        json.dumps({**dict.fromkeys(REQUIRED, 4), "model_type": "bert"})
    )
    with (tmp_path / "bert" / "model.safetensors").open("wb") as file:
        file.truncate(20_000_000)
    return str(tmp_path / "bert")


def test_room_is_added_up_where_tokens_and_checkpoints_share_a_disk(host, monkeypatch):
    monkeypatch.setattr(machine, "_bytes_of_weights", lambda _: 20_000_000)
    needed = 4 * 3 * 20_000_000 + 20_000_000  # keep 2, the best, the one that is written
    given = config(host, checkpoint={"keep": 2})

    def short_of(free: int) -> list[str]:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
        found = [*machine.disk_problems(given, tokens=10_000_000)]
        assert {problem.severity for problem in found} <= {"warning"}
        return [problem.message for problem in found]

    assert short_of(needed + 10_000_000) == []
    (runs,) = short_of(needed + 9_999_999)
    assert runs.endswith("and 4 checkpoints of 0.1 GB and the model take 0.3 GB")
    tokens, _ = short_of(9_999_999)
    assert tokens.endswith("and the tokens take 0.0 GB")


def test_only_a_models_own_folder_says_how_large_it_is(host, pretrained):
    model = config(host, model={"name": "bert", "pretrained": pretrained})
    assert machine._bytes_of_weights(model) == 20_000_000
    assert machine._bytes_of_weights(config(host)) == 0
