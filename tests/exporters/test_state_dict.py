from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

import nlpkit
from nlpkit.bundle.predict import load
from tests.bundle.bundles import make_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "cards")


def test_both_files_hold_the_models_weights_and_are_read_without_pickle(run: Path) -> None:
    artifact = nlpkit.export(run, "state_dict")
    assert artifact.path == run / "bundle" / "state_dict"
    expected = load(run, device="cpu").engine.model.state_dict()  # type: ignore[attr-defined]
    pth = torch.load(artifact.path / "model.pth", weights_only=True)
    tensors = load_file(artifact.path / "model.safetensors")
    assert sorted(pth) == sorted(tensors) == sorted(expected)
    for name, tensor in expected.items():
        assert torch.equal(pth[name], tensor)
        assert torch.equal(tensors[name], tensor)


def test_manifest_names_the_exporter_and_hashes_each_file(run: Path, tmp_path: Path) -> None:
    artifact = nlpkit.export(run / "bundle", "state_dict", out=tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "export.json").read_text())
    assert manifest["exporter"]["name"] == "state_dict"
    assert manifest["exporter"]["distribution"] == "nlpkit-sdk"
    assert sorted(manifest["files"]) == sorted(path.name for path in artifact.files)
    assert all(path.is_file() for path in artifact.files)


def test_exporting_again_replaces_the_export_and_the_bundle_stays_whole(run: Path) -> None:
    first = nlpkit.export(run, "state_dict")
    before = [path.read_bytes() for path in first.files]
    (first.path / "stale").touch()
    again = nlpkit.export(run, "state_dict")
    assert [path.read_bytes() for path in again.files] == before
    assert not (again.path / "stale").exists()
    assert load(run).predict(["money"])


def test_a_folder_with_other_things_in_it_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(nlpkit.InputError, match="holds something that is no export"):
        nlpkit.export(run, "state_dict", out=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_filled(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert nlpkit.export(run, "state_dict", out=tmp_path / "empty").path == tmp_path / "empty"


def test_unknown_formats_and_options_are_errors_that_leave_nothing(run: Path) -> None:
    with pytest.raises(nlpkit.PluginError, match='did you mean "state_dict"'):
        nlpkit.export(run, "statedict")
    with pytest.raises(nlpkit.InputError, match="takes no options; remove quantize"):
        nlpkit.export(run, "state_dict", quantize="int8")
    assert not (run / "bundle" / "state_dict").exists()
