from __future__ import annotations

from typing import Any

import pytest
import torch

from nlpkit.checking.config import check

ROWS = "text,label\n" + "".join(f"word {number},{'ab'[number % 2]}\n" for number in range(10))


@pytest.fixture
def problems(tmp_path, monkeypatch) -> Any:
    """What `check` finds in a config file with these lines, each with its severity."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").write_text(ROWS)

    def found(*lines: str) -> list[tuple[str, str]]:
        data = "data: {train: train.csv, validation: null}"
        text = "\n".join(["name: x", "model: transformer", data, *lines])
        (tmp_path / "c.yaml").write_text(text + "\n")
        return [(each.severity, str(each)) for each in check("c.yaml")]

    return found


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch) -> None:
    """Whatever this machine has."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def four_gpus(monkeypatch) -> None:
    """A machine that has them, as far as a check looks."""
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)


def test_amp_is_16_bits(problems):
    assert problems("strategy: amp", "precision: auto") == []
    assert problems("strategy: amp", "precision: fp32") == [
        ("error", 'c.yaml:5: precision: strategy "amp" does not take fp32; it takes bf16, fp16')
    ]


@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.parametrize("strategy", ["single", "amp", "ddp"])
def test_fp16_without_a_gpu_is_found_at_its_line(problems, device, strategy):
    assert problems(f"strategy: {strategy}", f"device: {device}", "precision: fp16") == [
        (
            "error",
            "c.yaml:6: precision: fp16 is for CUDA devices, not for a CPU; "
            "set precision: auto, or bf16",
        )
    ]


def test_data_parallel_without_gpus_is_found_at_its_line(problems):
    message = "data_parallel is for 2 GPUs and more, not for 0; use strategy: single"
    assert problems("strategy: data_parallel") == [("error", f"c.yaml:4: strategy: {message}")]


def test_ddp_on_a_cpu_is_fine(problems):
    assert problems("strategy: ddp") == []
    assert problems("strategy: {name: ddp, devices: 3}", "device: cpu") == []


@pytest.mark.usefixtures("four_gpus")
class TestFourGpus:
    @pytest.mark.parametrize(
        ("lines", "idle"),
        [
            (["strategy: single"], 3),
            (["strategy: amp", "device: cuda"], 3),
            (["strategy: {name: ddp, devices: 3}"], 1),
        ],
    )
    def test_gpus_that_stay_idle_are_a_warning(self, problems, lines, idle):
        message = f"{idle} of 4 GPUs stay idle; strategy: ddp uses them"
        assert problems(*lines) == [("warning", f"c.yaml:4: strategy: {message}")]

    @pytest.mark.parametrize("lines", [["strategy: ddp"], ["device: cuda:1"], ["device: cpu"]])
    def test_gpus_that_are_used_or_left_out_by_name_are_not(self, problems, lines):
        assert problems(*lines) == []

    def test_data_parallel_says_that_ddp_is_the_better_choice(self, problems):
        [(severity, message)] = problems("strategy: data_parallel")
        assert severity == "warning"
        assert message.startswith("c.yaml:4: strategy: data_parallel copies the weights")
        assert "strategy: ddp is faster" in message

    @pytest.mark.parametrize("strategy", ["ddp", "data_parallel"])
    def test_more_devices_than_there_are_is_an_error_at_its_line(self, problems, strategy):
        [(severity, message)] = problems("strategy:", f"  name: {strategy}", "  devices: 5")
        assert severity == "error"
        assert message.startswith("c.yaml:6: strategy.devices: 5 ")
