"""`strategy: ddp` through `nlpkit.train`: real ranks, and what becomes of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import nlpkit
from nlpkit.config.load import load_config
from nlpkit.config.resolve import resolve
from nlpkit.plugin.host import Host
from nlpkit.training.ranks import build_strategy, ranks_of
from tests.launch.plays import alive
from tests.training.test_trainer import ROWS, config

WAYWARD = str(Path(__file__).with_name("wayward.py"))


def train(out, fate, **changes):
    model = {"name": "wayward", "fate": fate}
    settings = config(strategy={"name": "ddp", "devices": 2}, plugins=[WAYWARD], **changes)
    return nlpkit.train({**settings, "model": model}, data={"train": ROWS}, out=out)


def left(cache: Path) -> list[int]:
    """The ranks that met their fate and are still there."""
    pids = [int(path.name.removeprefix("met-")) for path in cache.glob("met-*")]
    assert pids
    return [pid for pid in pids if alive(pid)]


@pytest.mark.slow
def test_a_single_file_plugin_trains_on_two_ranks_as_on_one(tmp_path):
    one = nlpkit.train(config(), data={"train": ROWS}, out=tmp_path / "one")
    two = train(tmp_path / "two", {})
    losses, norms = (
        [[line[key] for line in run.history] for run in (one, two)] for key in ("loss", "grad_norm")
    )
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert norms[1][:5] == pytest.approx(norms[0][:5], rel=1e-4)
    assert two.result["steps"] == 16
    assert nlpkit.load(two.path, trust_plugins=True).predict(["where is my parcel"])


@pytest.mark.slow
def test_a_rank_that_raises_is_named_with_its_step(tmp_path):
    started = time.monotonic()
    with pytest.raises(nlpkit.PluginError, match=r"^rank 1, step 3: .*wayward.py:\d+.*at fault"):
        train(tmp_path / "run", {"1": "raise"})
    assert time.monotonic() - started < 30
    assert not left(tmp_path / "cache")


@pytest.mark.slow
def test_a_killed_rank_is_named_with_its_step_though_the_other_is_stuck(tmp_path):
    started = time.monotonic()
    with pytest.raises(nlpkit.RunError, match=r"^rank 1, step 3: it was killed by signal 9"):
        train(tmp_path / "run", {"1": "kill", "0": "sleep"}, loader={"workers": 2})
    assert time.monotonic() - started < 30
    assert not left(tmp_path / "cache")


@pytest.mark.slow
def test_a_killed_rank_is_named_though_the_other_misses_it_first(tmp_path):
    with pytest.raises(nlpkit.RunError, match=r"^rank 0, step 3: it was killed by signal 9"):
        train(tmp_path / "run", {"0": "kill"})
    assert not left(tmp_path / "cache")


def resolved(**changes):
    host = Host.discover()
    settings = {**config(**changes), "data": {"train": "train.csv"}}
    return resolve(load_config(settings), host), host


@pytest.mark.parametrize(
    ("strategy", "ranks"),
    [
        ("single", 0),
        ("ddp", 1),
        ({"name": "ddp", "devices": "all"}, 1),
        ({"name": "ddp", "devices": 3}, 3),
    ],
)
def test_on_a_cpu_any_number_of_ranks_goes(strategy, ranks):
    assert ranks_of(*resolved(strategy=strategy, device="cpu")) == ranks


@pytest.fixture
def _two_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)


@pytest.mark.usefixtures("_two_gpus")
@pytest.mark.parametrize(("devices", "ranks"), [("all", 2), (1, 1), (2, 2)])
def test_on_gpus_a_rank_has_one_each(devices, ranks):
    for device in ("auto", "cuda"):
        strategy = {"name": "ddp", "devices": devices}
        assert ranks_of(*resolved(strategy=strategy, device=device)) == ranks


@pytest.mark.usefixtures("_two_gpus")
def test_more_ranks_than_gpus_are_refused(tmp_path):
    with pytest.raises(nlpkit.ConfigError, match=r"3 processes need 3 GPUs, and 2 can") as caught:
        ranks_of(*resolved(strategy={"name": "ddp", "devices": 3}))
    assert caught.value.problems[0].key == "strategy.devices"
    assert ranks_of(*resolved(strategy={"name": "ddp", "devices": 3}, device="cpu")) == 3


@pytest.mark.usefixtures("_two_gpus")
def test_ranks_are_refused_one_named_gpu():
    with pytest.raises(nlpkit.ConfigError, match="cuda:1 is one GPU") as caught:
        ranks_of(*resolved(strategy="ddp", device="cuda:1"))
    assert caught.value.problems[0].key == "device"


def test_a_strategy_with_ranks_says_how_to_start_it():
    with pytest.raises(nlpkit.ConfigError, match="`nlpkit train`, or `torchrun"):
        build_strategy(*resolved(strategy="ddp"))
