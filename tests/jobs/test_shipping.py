"""Code that the nodes do not have trains there all the same; and what cannot travel is refused."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.jobs.cluster import cluster
from tests.jobs.runs import submit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.jobs.cluster import Cluster

REPOSITORY = Path(__file__).parents[2]
ECHO = REPOSITORY / "tests" / "third_party" / "nlpkit_echo"
BAG = REPOSITORY / "examples" / "single_file_plugin"


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`nlpkit_echo` as a distribution of this process only."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    source = shutil.copytree(ECHO, tmp_path / "source")  # pip builds in it
    options = ["--no-build-isolation", "--target", str(tmp_path / "installed"), str(source)]
    subprocess.run([*command, *options], check=True)
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "nlpkit_echo"]:
        del sys.modules[name]


@pytest.mark.usefixtures("echo")
def test_a_plugin_and_a_single_file_that_the_nodes_do_not_have_train_there(
    pool: Cluster, config: Path, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    components = ("task=echo_length", "tokenizer=echo_words", "model=echo_sum")
    echo = submit(config, pool, storage, *components, "observers=[echo_ledger]")
    assert "sends 2 files" not in capsys.readouterr().err  # more than config and order
    bag = config.with_name("bag.yaml")
    bag.write_text((BAG / "bag.yaml").read_text())
    config.with_name("my_model.py").write_text((BAG / "my_model.py").read_text())
    single = submit(bag, pool, storage, "strategy.name=ddp", "strategy.devices=1", "train.epochs=1")
    for job in (echo, single):
        assert job.wait(240) == "succeeded", job.logs()
    assert (storage / echo.id / "ledger.txt").exists()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A Python with everything that this one has, but nlpkit."""
    venv.create(tmp_path / "bare", symlinks=True)
    for name in ("purelib", "platlib"):
        here = Path(sysconfig.get_path(name))
        there = Path(sysconfig.get_path(name, vars={"base": str(tmp_path / "bare")}))
        for path in here.iterdir():
            if "nlpkit" not in path.name and not (there / path.name).exists():
                (there / path.name).symlink_to(path)
    return tmp_path / "bare" / "bin" / "python"


@pytest.mark.slow
def test_nlpkit_travels_to_nodes_that_have_none(
    bare: Path, config: Path, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [bare, "-I", "-c", "import nlpkit"]
    lacks = subprocess.run(command, check=False, capture_output=True)
    assert b"No module named 'nlpkit'" in lacks.stderr
    with cluster(1, python=bare) as away:
        job = submit(config, away, storage)
        assert job.wait(240) == "succeeded", job.logs()
    assert "sends 2 files" not in capsys.readouterr().err
    assert (storage / job.id / "bundle" / "model.safetensors").exists()
