"""A run is finished when all that its config exports is there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nlpkit
from nlpkit.bundle.export import export_found
from nlpkit.bundle.format import describe_export, read_bundle, seal
from nlpkit.bundle.load import host_of
from nlpkit.cli.main import main
from nlpkit.config.schema import Component
from nlpkit.files import seal_of, write_json
from tests.training.test_trainer import ROWS, config

if TYPE_CHECKING:
    from collections.abc import Sequence

FRAGILE = """
import os, signal
from pathlib import Path

import nlpkit
from nlpkit.contracts import Exporter, Observer


class Options(nlpkit.ComponentConfig):
    signal: int = 0
    mark: str = ""


class Fragile(Exporter):
    def __init__(self, options):
        self.options = options

    def export(self, graphs, out):
        (out / "half").write_text("written")
        mark = Path(self.options.mark)
        if self.options.signal and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), self.options.signal)
        raise OSError("the disk is full")


class Stopper(Observer):
    def __init__(self, options, terminal):
        pass

    def evaluated(self, event):
        if event.split == "test":
            os.kill(os.getpid(), signal.SIGTERM)


@nlpkit.hookimpl
def nlpkit_exporters():
    yield nlpkit.ExporterRecord(name="fragile", target="fragile:Fragile", config="fragile:Options")


@nlpkit.hookimpl
def nlpkit_observers():
    yield nlpkit.ObserverRecord(name="stopper", target="fragile:Stopper")
"""
DATA = {"train": ROWS, "test": ROWS[:8], "validation": ROWS[:8]}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a trained run in it, of which one export has failed."""
    folder = tmp_path_factory.mktemp("failed")
    (folder / "fragile.py").write_text(FRAGILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        with pytest.raises(nlpkit.RunError, match="not exported; resume=True tries again"):
            train(folder / "run", folder, ["fragile"])
    return folder


@pytest.fixture
def folder(failed: Path, tmp_path: Path) -> Path:
    """The same, of a test's own."""
    return shutil.copytree(failed, tmp_path / "failed")


def train(out: Path, folder: Path, exports: Sequence[Any], **changes: Any) -> nlpkit.Run:
    plugins = [str(folder / "fragile.py")]
    settings = config(plugins=plugins, export=list(exports), train={"max_steps": 1}, **changes)
    return nlpkit.train(settings, data=DATA, out=out, resume=out.exists())


def outcome(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run" / "result.json").read_text())["exports"]


def test_an_export_that_failed_is_tried_again_on_resume_and_its_failure_said(folder: Path) -> None:
    with pytest.raises(nlpkit.RunError, match="fragile: OSError: the disk is full"):
        train(folder / "run", folder, ["fragile"])
    assert "disk is full" in outcome(folder)["fragile"]["error"]
    train(folder / "run", folder, [])  # it is not asked for any more


@pytest.mark.usefixtures("_asked_here")
def test_what_is_missing_is_written_on_resume_and_what_is_there_is_left(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = folder / "run" / "bundle" / ".state_dict.dead"
    dead.mkdir()
    (dead / "half").write_text("written")
    run = train(folder / "run", folder, ["state_dict"])
    assert "is trained; writes its exports: state_dict" in capsys.readouterr().err
    assert run.result["exports"]["state_dict"]["agreement"] == 1.0
    assert not list(run.bundle.glob(".*"))
    made = (run.bundle / "state_dict" / "nlpkit.json").stat()
    train(folder / "run", folder, ["state_dict"])
    assert "is finished; there is nothing to resume" in capsys.readouterr().err
    assert (run.bundle / "state_dict" / "nlpkit.json").stat() == made


def test_an_export_counts_with_its_weights_and_options_and_while_it_is_whole(folder: Path) -> None:
    bundle = read_bundle(folder / "run")
    host = host_of(bundle, trust_plugins=True)
    out, exporter = bundle.path / "fragile", Component(name="fragile", signal=2)
    out.mkdir()
    assert not export_found(folder / "run", exporter)
    describe_export(bundle, out, exporter, host)
    write_json(out / "parity.json", {"difference": 0.0, "agreement": 1.0, "passed": True})
    assert not export_found(folder / "run", exporter)  # unfinished
    seal(out)
    expected = {"difference": 0.0, "agreement": 1.0}
    assert export_found(folder / "run", exporter) == expected
    assert export_found(folder / "run", Component(name="fragile", signal=2, mark="")) == expected
    assert not export_found(folder / "run", Component(name="fragile", signal=3))
    assert not export_found(folder / "run", Component(name="fragile", signal=2, other=1))
    described = json.loads((out / "nlpkit.json").read_text())
    described["export"]["weights"] = "0" * 64
    write_json(out / "nlpkit.json", {**described, "seal": seal_of(described)})
    assert not export_found(folder / "run", exporter)


def test_a_signal_before_the_exports_is_an_interruption_that_can_be_resumed(
    failed: Path, tmp_path: Path
) -> None:
    with pytest.raises(nlpkit.Interrupted, match="ended by SIGTERM, and saved") as caught:
        train(tmp_path / "run", failed, ["fragile"], observers=["stopper"])
    assert caught.value.signal == signal.SIGTERM
    assert outcome(tmp_path) == {}
    with pytest.raises(nlpkit.RunError, match="the disk is full"):
        train(tmp_path / "run", failed, ["fragile"])


def test_an_export_that_a_signal_broke_is_not_a_failed_one(folder: Path) -> None:
    exporter = {"name": "fragile", "signal": signal.SIGTERM, "mark": str(folder / "mark")}
    with pytest.raises(nlpkit.Interrupted):
        train(folder / "run", folder, [exporter])
    with pytest.raises(nlpkit.RunError, match="the disk is full"):
        train(folder / "run", folder, [exporter])


@pytest.mark.slow
def test_a_run_that_was_killed_over_its_exports_writes_them_on_resume(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    exporter = {"name": "fragile", "signal": signal.SIGKILL, "mark": str(folder / "mark")}
    settings = config(
        plugins=[str(folder / "fragile.py")],
        export=[exporter, "state_dict"],
        train={"max_steps": 1},
    )
    settings["data"] = {"train": str(tmp_path / "rows.jsonl")}
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    line = ["train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")]
    nlpkit_command = Path(sys.executable).with_name("nlpkit")
    killed = subprocess.run([nlpkit_command, *line], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list((tmp_path / "run" / "bundle").glob(".fragile.*"))
    assert main([*line, "--resume", "export=[state_dict, fragile]"]) == 1
    assert outcome(tmp_path)["state_dict"]["agreement"] == 1.0
    assert not list((tmp_path / "run" / "bundle").glob(".*"))
    assert main([*line, "--resume", "export=[state_dict]"]) == 0
