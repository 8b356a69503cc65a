"""What a shell completes: run folders, formats, the dotted keys of a config."""

from __future__ import annotations

import pytest
from click.shell_completion import ShellComplete

from nlpkit.cli.main import CommandGroup, main
from nlpkit.plugin.host import Host


def completed(*arguments):
    *before, begun = arguments
    group = CommandGroup(Host.discover())
    complete = ShellComplete(group, {}, "nlpkit", "_NLPKIT_COMPLETE")
    return [(each.type, each.value) for each in complete.get_completions(before, begun)]


def test_commands_are_completed():
    assert completed("pre") == [("plain", "predict")]


@pytest.mark.parametrize("command", ["predict", "evaluate", "export", "serve"])
def test_finished_runs_are_completed_and_else_folders(tmp_path, monkeypatch, command):
    monkeypatch.setenv("NLPKIT_RUNS", str(tmp_path))
    for name in ("cards", "cats", "unfinished"):
        (tmp_path / name / "bundle").mkdir(parents=True)
    for name in ("cards", "cats"):
        (tmp_path / name / "bundle" / "nlpkit.json").touch()
    runs = [("plain", str(tmp_path / name)) for name in ("cards", "cats")]
    assert completed(command, f"{tmp_path}/") == runs
    assert completed(command, f"{tmp_path}/car") == runs[:1]
    assert completed(command, "./out") == [("dir", "./out")]


def test_formats_are_completed():
    assert completed("export", "runs/x", "torch") == [
        ("plain", "torchscript"),
        ("plain", "torch_export"),
    ]


@pytest.mark.parametrize("command", ["check", "train", "submit"])
def test_dotted_keys_are_completed_with_the_options_of_every_component(command):
    values = {value for _, value in completed(command, "config.yaml", "")}
    assert {"train.epochs=", "model.layers=", "launch.storage=", "seed=", "model="} <= values
    assert not {"train=", "plugins.name=", "loader="} & values
    assert completed(command, "config.yaml", "train.epo") == [("plain", "train.epochs=")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model.name=tr"], ["model.name=transformer"]),
        (["model.name", "="], ["bert", "transformer"]),  # as bash splits it
        (["model.name", "=", "tr"], ["transformer"]),
        (["task.target", "=", "re"], ["regression"]),
        (["train.epochs", "="], []),
        (["train.epochs="], []),
    ],
)
def test_behind_a_key_its_values_are_completed(words, expected):
    assert [value for _, value in completed("train", "config.yaml", *words)] == expected


def test_bash_sets_no_blank_behind_a_key(monkeypatch, capsys):
    monkeypatch.setenv("_NLPKIT_COMPLETE", "bash_source")
    with pytest.raises(SystemExit):
        main([])
    assert "[[ $value == *= ]] && compopt -o nospace" in capsys.readouterr().out
