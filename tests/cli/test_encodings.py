"""No command fails where stdout is not UTF-8, and JSON is JSON there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

import nlpkit
from nlpkit.cli.main import main
from nlpkit.cli.render import Terminal
from nlpkit.plugin.host import Host
from tests.training.test_trainer import config

ENTRIES = Host.discover().entries("command")
CLOSED = ["--address", "http://127.0.0.1:1"]
COMMANDS: dict[str, tuple[list[str], int]] = {
    "demo": ([], 0),
    "init": (["läufe→"], 0),
    "check": (["run/config.yaml"], 0),
    "train": (["run/config.yaml"], 0),
    "runs": ([], 0),
    "evaluate": (["run", "rows.jsonl"], 0),
    "predict": (["run", "die Karte → 日本", "--top-k", "2"], 0),
    "export": (["run", "→"], 2),
    "plugins": ([], 0),
    "schema": ([], 0),
    "doctor": ([], 0),
    "serve": (["run", "--host", "→"], 2),
    "submit": (["run/config.yaml", *CLOSED], 2),
    "jobs": (CLOSED, 2),
    "status": (["→", *CLOSED], 2),
    "logs": (["→", *CLOSED], 2),
    "stop": (["→", *CLOSED], 2),
    "fetch": (["→", *CLOSED], 2),
    "pool": (CLOSED, 2),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of a name that few encodings have, with a run on such labels."""
    folder = tmp_path_factory.mktemp("läufe→日本")
    rows = [
        {"text": f"{text} {number}", "label": label}
        for number in range(12)
        for text, label in (("wo ist die Karte", "é→日本"), ("das Geld zurück", "кошки"))
    ]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        data = {"train": str(folder / "rows.jsonl"), "validation": 0.2}
        nlpkit.train(config(data=data, train={"max_steps": 2}), out=folder / "run")
    return folder


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("name", sorted(COMMANDS.keys() & {e.record.name for e in ENTRIES}))
def test_every_command_works_where_stdout_is_not_utf8(place, monkeypatch, name, encoding):
    arguments, code = COMMANDS[name]
    monkeypatch.chdir(place)
    monkeypatch.setenv("NLPKIT_CACHE", str(place / "cache"))
    for module in ("demo", "train"):
        run = nlpkit.Run(place / "run")
        monkeypatch.setattr(f"nlpkit.commands.{module}.train", lambda *_, run=run, **__: run)
    monkeypatch.setattr("nlpkit_doctor.machine._torch", lambda: (None, "läuft → nicht"))
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    found = main([name, *([arguments[0] + encoding] if name == "init" else arguments)])
    monkeypatch.undo()
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)
    assert found == (1 if name == "doctor" else code), err
    assert out or err
    if name in ("predict", "schema"):
        assert [json.loads(out)] if name == "schema" else list(map(json.loads, out.splitlines()))
    if name == "train":
        assert "\n  nlpkit predict run" in out
        assert "----" in out


def test_every_command_has_its_line_above():
    assert {entry.record.name for entry in ENTRIES} <= COMMANDS.keys()


def test_json_of_a_stream_that_lacks_its_letters_is_the_same_value(monkeypatch):
    value = {"label": "é → 日本 😀", "path": "bad\udcff"}
    for encoding in ("ascii", "cp1252", "latin-1", "utf-8"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="nlpkit.spell")
        monkeypatch.setattr(sys, "stdout", stream)
        Terminal().json(value)
        stream.flush()
        written = stream.buffer.getvalue().decode(encoding)
        assert json.loads(written) == value
        assert ("é" in written) == (encoding == "utf-8")


def test_a_process_of_its_own_ends_well_where_stdout_is_ascii(place):
    program = "import sys; from nlpkit.cli.main import main; sys.exit(main())"
    arguments = ["train", "run/config.yaml", "--out", "run", "--resume"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=place,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"\n  nlpkit predict run" in done.stdout.decode("ascii").encode()
