"""Two ranks from a notebook's cell, and its stop button."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from tests.launch.plays import wait_for
from tests.training.test_trainer import ROWS, config

pytestmark = pytest.mark.slow


@pytest.fixture
def kernel(tmp_path):
    manager, client = start_new_kernel(cwd=str(tmp_path))
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def cell(epochs: int) -> str:
    settings = config(
        strategy={"name": "ddp", "devices": 2}, train={"epochs": epochs}, observers=["progress"]
    )
    return f"""
import nlpkit
run = nlpkit.train({settings!r}, data={{"train": {ROWS!r}}}, out="run")
run.result["steps"]
"""


def finished(client, message: str) -> tuple[dict, str]:
    """The reply to a cell, and what it showed."""
    reply = client.get_shell_msg(timeout=120)
    while reply["parent_header"]["msg_id"] != message:  # of the kernel's start
        reply = client.get_shell_msg(timeout=120)
    shown = ""
    while True:
        output = client.get_iopub_msg(timeout=60)
        content = output["content"]
        shown += content.get("text", "") or content.get("data", {}).get("text/plain", "")
        if (
            content.get("execution_state") == "idle"
            and output["parent_header"]["msg_id"] == message
        ):
            return reply["content"], shown


def test_a_cell_trains_on_two_ranks_and_shows_what_the_first_one_says(kernel):
    _, client = kernel
    reply, shown = finished(client, client.execute(cell(epochs=2)))
    assert reply["status"] == "ok", "\n".join(reply["traceback"])
    assert shown.endswith("16")
    assert shown.count("16/16 steps") == 1


def test_the_stop_button_saves_and_the_kernel_lives(kernel, tmp_path):
    manager, client = kernel
    message = client.execute(cell(epochs=5000))
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 5, 60)
    manager.interrupt_kernel()
    reply, _ = finished(client, message)
    assert reply["ename"] == "Interrupted"
    step = json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert [path.name for path in Path(tmp_path, "run", "checkpoints").glob(f"step-*{step}")]

    ask = "import sys; (sys.last_value.run.path.name, sys.last_value.signal)"
    reply, shown = finished(client, client.execute(ask))
    assert reply["status"] == "ok"
    assert shown == "('run', 2)"
