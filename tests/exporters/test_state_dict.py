from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

import nlpkit
from tests.exporters.exports import Exported, run_of

if TYPE_CHECKING:
    from pathlib import Path


def test_both_files_hold_the_models_weights_and_are_read_without_pickle(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "transformer learned pre")
    exported = Exported(run, "state_dict", tmp_path / "out")
    expected = exported.model.state_dict()
    pth = torch.load(exported.artifact.path / "model.pth", weights_only=True)
    tensors = load_file(exported.artifact.path / "model.safetensors")
    assert sorted(pth) == sorted(tensors) == sorted(expected)
    for name, tensor in expected.items():
        assert torch.equal(pth[name], tensor)
        assert torch.equal(tensors[name], tensor)


def test_exporting_again_gives_the_same_bytes(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "transformer learned pre")
    files = [Exported(run, "state_dict", tmp_path / out).artifact.files for out in ("a", "b")]
    for first, second in zip(*files, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_opening_executes_no_code_that_was_not_trained_with_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path / "run", "a stranger's")
    Exported(run, "state_dict", tmp_path / "out")
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "another user"))
    with pytest.raises(nlpkit.BundleError, match=r"not trained with here.*my_model\.py"):
        nlpkit.load(tmp_path / "out")


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "transformer learned pre")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(nlpkit.InputError, match="holds something that is no export"):
        nlpkit.export(run, "state_dict", out=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_unknown_formats_and_options_are_errors_that_leave_nothing(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "transformer learned pre")
    with pytest.raises(nlpkit.PluginError, match='did you mean "state_dict"'):
        nlpkit.export(run, "statedict")
    with pytest.raises(nlpkit.InputError, match="takes no options; remove quantize"):
        nlpkit.export(run, "state_dict", quantize="int8")
    assert not (run / "bundle" / "state_dict").exists()
