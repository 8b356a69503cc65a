"""The command line: light to start, honest exit codes, one readable message."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from textwrap import dedent

import pytest

import nlpkit
from nlpkit.builtin import nlpkit_commands
from nlpkit.cli.main import main
from nlpkit.plugin.host import Host

HEAVY = {"torch", "transformers", "ray", "numpy", "pyarrow", "pydantic", "rich", "tokenizers"}

PLUGIN = """
    import click, nlpkit, nlpkit.errors
    from nlpkit.errors import ConfigError, Problem

    @nlpkit.hookimpl
    def nlpkit_commands():
        for name in ("answer", "refuse", "collapse", "crash", "interrupt", "leave", "numbers"):
            yield nlpkit.CommandRecord(name=name, target=f"commands_plugin:{name}", summary=name)
        yield nlpkit.CommandRecord(name="untrue", target="commands_plugin:PLAIN")

    PLAIN = 3

    def command(function):
        return click.command()(click.pass_obj(function))

    @command
    def answer(terminal):
        terminal.say("42")

    @command
    def refuse(terminal):
        first = Problem(address="run.yaml:3", key="train.epoch", message="unknown")
        raise ConfigError([first, Problem(message="no GPU", severity="warning")])

    @command
    def collapse(terminal):
        raise nlpkit.RunError("the run\\nfailed")

    @command
    def crash(terminal):
        raise KeyError("a bug")

    @command
    def interrupt(terminal):
        raise KeyboardInterrupt

    @command
    def leave(terminal):
        click.get_current_context().exit(7)

    @command
    def numbers(terminal):
        for number in range(100_000):
            terminal.say(str(number))
"""


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A distribution with commands that end in every way."""
    (tmp_path / "commands_plugin.py").write_text(dedent(PLUGIN))
    info = tmp_path / "commands-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: commands\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nlpkit]\ncommands = commands_plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield tmp_path
    sys.modules.pop("commands_plugin", None)


@pytest.mark.parametrize(
    ("name", "code", "stdout", "stderr"),
    [
        ("answer", 0, "42\n", ""),
        (
            "refuse",
            2,
            "",
            "error: run.yaml:3: train.epoch: unknown\nwarning: no GPU\n",
        ),
        ("collapse", 1, "", "error: the run\nfailed\n"),
        ("interrupt", 130, "", "\n"),
        ("leave", 7, "", ""),
        (
            "untrue",
            2,
            "",
            'error: command "untrue": commands_plugin:PLAIN is no click command\n',
        ),
    ],
)
@pytest.mark.usefixtures("commands")
def test_each_end_has_its_exit_code_and_its_message(capsys, name, code, stdout, stderr):
    assert main([name]) == code
    assert capsys.readouterr() == (stdout, stderr)


@pytest.mark.parametrize("arguments", [["train", "x.yaml"], ["init", "here"], ["doctor"], ["demo"]])
def test_a_working_folder_that_was_removed_is_one_sentence(
    arguments, tmp_path, monkeypatch, capsys
):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said == "error: the working folder was removed; change to one that is there\n"
    with pytest.raises(nlpkit.InputError, match="the working folder was removed"):
        nlpkit.load_config({"name": "x", "model": "transformer"})
    with pytest.raises(nlpkit.InputError, match="the working folder was removed"):
        nlpkit.load("/a/run")
    with pytest.raises(nlpkit.InputError, match="the working folder was removed"):
        nlpkit.load_config("/a/config.yaml")
    for name in ("evaluate", "export"):
        monkeypatch.delitem(vars(nlpkit), name, raising=False)
        with pytest.raises(nlpkit.InputError, match="the working folder was removed"):
            getattr(nlpkit, name)


@pytest.mark.usefixtures("commands")
def test_a_bug_keeps_its_traceback():
    run = subprocess.run(
        [sys.executable, "-c", "import sys; from nlpkit.cli.main import main; main(['crash'])"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 1
    assert "Traceback" in run.stderr
    assert "KeyError: 'a bug'" in run.stderr


def test_a_name_that_the_locale_lacks_is_one_sentence(tmp_path):
    program = "import sys; from nlpkit.cli.main import main; sys.exit(main())"
    (tmp_path / "c.yaml").write_text("name: ünï\nmodel: transformer\ndata: sample\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", program, "train", "c.yaml"],
        cwd=tmp_path,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch(
        r"error: .*runs/.*: this locale has no .*; set PYTHONUTF8=1, or a.*\n", done.stderr
    )


@pytest.mark.usefixtures("commands")
def test_a_reader_that_leaves_early_causes_no_noise():
    program = (
        f"{sys.executable} -c 'import sys; from nlpkit.cli.main import main; sys.exit(main())'"
    )
    run = subprocess.run(
        ["bash", "-c", f"{program} numbers | head -n 1"], capture_output=True, text=True, check=True
    )

    assert (run.stdout, run.stderr) == ("0\n", "")


@pytest.mark.usefixtures("commands")
def test_help_lists_every_command_with_its_summary(capsys):
    assert main(["--help"]) == 0

    text = capsys.readouterr().out
    for record in nlpkit_commands():
        assert f"  {record.name} " in text
        assert record.summary in text
    assert "  answer " in text


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(option, capsys):
    assert main([option]) == 0
    assert capsys.readouterr().out == "nlpkit 0.2.0\n"


@pytest.mark.usefixtures("commands")
def test_commands_stand_in_groups_each_with_an_example_that_its_own_help_has_too(capsys):
    assert main(["--help"]) == 0
    groups: dict[str, list[str]] = {}
    for line in capsys.readouterr().out.splitlines():
        if line.endswith(":"):
            groups[line.rstrip(":")] = lines = []
        elif line:
            lines.append(line.strip()) if groups else None
    assert list(groups) == ["Options", "Begin", "Train", "Use", "Look", "On a cluster", "More"]
    assert "nlpkit train config.yaml train.epochs=5" in groups["Train"]
    for entry in Host.discover().entries("command"):
        record = entry.record
        if entry.origin.distribution == "nlpkit-sdk":
            assert record.example.startswith(f"nlpkit {record.name}")
            assert record.example in groups[record.group]
    assert main(["train", "--help"]) == 0
    assert "Example:\n    nlpkit train config.yaml train.epochs=5\n" in capsys.readouterr().out


def test_an_unknown_command_gets_a_guess(capsys):
    assert main(["trian"]) == 2
    assert 'no command is called "trian"; did you mean "train"?' in capsys.readouterr().err


def test_an_unknown_option_is_the_users_fault(capsys):
    assert main(["plugins", "--jsn"]) == 2
    assert "No such option '--jsn'" in capsys.readouterr().err.replace(": --jsn", " '--jsn'")


def test_broken_plugins_are_an_error_where_they_are_asked_to_be(commands, capsys, monkeypatch):
    (commands / "commands_plugin.py").write_text("1 / 0")
    monkeypatch.setenv("NLPKIT_STRICT_PLUGINS", "1")

    assert main(["--help"]) == 2
    assert "plugin commands (commands 1.0): ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["plugins", "--json"]])
def test_starting_imports_nothing_heavy(arguments):
    program = (
        "import sys; from nlpkit.cli.main import main; "
        f"code = main({arguments}); print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert HEAVY.isdisjoint(run.stderr.split())


def test_plugins_shows_every_component_with_its_distribution(capsys):
    assert main(["plugins"]) == 0

    lines = [line.split()[:5] for line in capsys.readouterr().out.splitlines()]
    assert ["model", "transformer", "transformer", "nlpkit-sdk", "0.2.0"] in lines


def test_plugins_as_json(capsys):
    assert main(["plugins", "--json"]) == 0

    listing = json.loads(capsys.readouterr().out)
    names = {"kind", "name", "summary", "plugin", "distribution", "version", "error"}
    assert all(set(each) == names for each in listing)
    assert {"transformer", "files", "progress"} <= {each["name"] for each in listing}


@pytest.mark.usefixtures("commands")
def test_plugins_verify_names_what_cannot_be_imported(commands, capsys):
    plugin = commands / "commands_plugin.py"
    plugin.write_text(plugin.read_text().replace("commands_plugin:PLAIN", "commands_plugin:GONE"))

    assert main(["plugins", "--verify"]) == 2
    error = capsys.readouterr().err
    assert 'commands (commands 1.0): command "untrue": commands_plugin has no GONE' in error


def test_plugins_verify_names_what_makes_every_start_slow(commands, capsys, monkeypatch):
    (commands / "tensorflow.py").write_text("import time; time.sleep(0.3)")
    plugin = commands / "commands_plugin.py"
    plugin.write_text("import tensorflow" + plugin.read_text().replace("PLAIN", "answer"))

    assert main(["plugins", "--json", "--verify"]) == 0

    out, err = capsys.readouterr()
    assert json.loads(out)
    (line,) = (each for each in err.splitlines() if each.startswith("warning: "))
    assert re.fullmatch(
        r"warning: plugin commands \(commands 1.0\): its import takes 0\.[3-9]\d s at every start "
        r"\(tensorflow\); import that in the functions that need it",
        line,
    )


def test_plugins_shows_broken_ones_too(commands, capsys):
    (commands / "commands_plugin.py").write_text("1 / 0")

    assert main(["plugins"]) == 0
    assert "broken plugin commands (commands 1.0): ZeroDivisionError" in capsys.readouterr().err


def test_all_built_in_components_can_be_imported(capsys):
    assert main(["plugins", "--verify"]) == 0
    assert "components can be imported" in capsys.readouterr().err


@pytest.mark.slow
def test_help_and_plugins_take_less_than_twice_what_their_two_libraries_take():
    import statistics
    import time

    libraries = [sys.executable, "-c", "import click, pydantic.main"]  # a machine may be slow
    nlpkit = os.path.join(os.path.dirname(sys.executable), "nlpkit")
    for arguments in (["--help"], ["plugins"]):
        ratios = []
        for _ in range(10):
            seconds = []
            for command in (libraries, [nlpkit, *arguments]):
                started = time.perf_counter()
                subprocess.run(command, capture_output=True, check=True)
                seconds.append(time.perf_counter() - started)
            ratios.append(seconds[1] / seconds[0])
        assert statistics.median(ratios) < 2
