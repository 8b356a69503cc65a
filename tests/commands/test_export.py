from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import nlpkit
from nlpkit.cli.main import main
from tests.bundle.bundles import make_run

if TYPE_CHECKING:
    from pathlib import Path


def test_command_says_where_the_files_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = make_run(tmp_path / "cards"), tmp_path / "out"
    capsys.readouterr()
    assert main(["export", str(run), "state_dict", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(out / "model.pth"),
        str(out / "model.safetensors"),
    ]


def test_options_that_the_format_does_not_have_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "cards")
    capsys.readouterr()
    assert main(["export", str(run), "state_dict", "quantize=int8"]) == 2
    assert "takes no options; remove quantize" in capsys.readouterr().err
    assert main(["export", str(run), "state_dict", "quantize"]) == 2
    assert "is not KEY=VALUE" in capsys.readouterr().err
    assert main(["export", str(run), "state_dict", "name=x"]) == 2
    assert "takes no options; remove name" in capsys.readouterr().err
    assert main(["export", str(run), "state_dict", "trust_plugins=true"]) == 2
    assert "trust_plugins: a format has no such option" in capsys.readouterr().err
    with pytest.raises(nlpkit.InputError, match="takes no options; remove name"):
        nlpkit.export(run, "state_dict", name="x")


def test_nothing_is_announced_before_run_and_format_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "cards")
    capsys.readouterr()
    for given in ([str(tmp_path / "no"), "onnx"], [str(run), "onx"], [str(run), "onnx", "a=1"]):
        assert main(["export", *given]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert "written, then compared" not in said
    assert main(["export", str(run), "state_dict", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.startswith("state_dict: written, then compared with the model")


@pytest.mark.parametrize("name", ["../..", "/tmp", "state_dct"])
def test_an_unknown_format_is_named_and_is_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run = make_run(tmp_path / "cards")
    capsys.readouterr()
    assert main(["export", str(run), name]) == 2
    assert f'no exporter is called "{name}"' in capsys.readouterr().err
