"""A model in other processes: pickled, in a pool of processes, after a fork."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import nlpkit
from nlpkit.bundle.predict import Model
from tests.bundle.bundles import TEXTS, make_run

FORKED = """
import os, signal, sys, torch, nlpkit
from nlpkit.environment import threads_per_rank

def labels(model):
    return [each.label for each in model.predict(texts)]

texts = ["my card has not arrived yet, and where is all of my money"] * 640
run = sys.argv[1]
torch.set_num_threads(2)
models = [nlpkit.load(run, backend=backend) for backend in ("torch", "onnx")]
expected = [labels(model) for model in models]
torch.ones(400, 400) @ torch.ones(400, 400)
child = os.fork()
if child:
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
signal.alarm(20)  # what waits for ever ends
assert [labels(model) for model in models] == expected
assert labels(nlpkit.load(run)) == expected[0]
assert threads_per_rank(1) == torch.get_num_threads() == 1
models = None  # an engine that was not left behind would wait for its threads here
"""


@pytest.fixture
def run(_exported: Path) -> Path:
    return _exported


def scores(model: Model) -> list[float]:
    return [each.score for each in model.predict(TEXTS)]


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_a_model_is_pickled_as_a_few_bytes_and_comes_back_the_same(run: Path, backend: str) -> None:
    model = nlpkit.load(run, backend=backend, device="cpu")
    pickled = pickle.dumps(model)
    assert len(pickled) < 1000
    for other in (pickle.loads(pickled), copy.copy(model), copy.deepcopy(model)):
        assert type(other.engine) is type(model.engine)
        assert scores(other) == scores(model)


def test_a_pickled_model_is_found_from_another_working_folder(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(run.parent)
    pickled = pickle.dumps(nlpkit.load(run.name))
    monkeypatch.chdir(tmp_path)
    assert scores(pickle.loads(pickled)) == scores(nlpkit.load(run))


def test_a_pickled_model_is_never_another_one(run: Path, tmp_path: Path) -> None:
    place = shutil.copytree(run, tmp_path / "cards")
    pickled = pickle.dumps(nlpkit.load(place))
    shutil.rmtree(place)
    with pytest.raises(nlpkit.BundleError, match="there is no such folder"):
        pickle.loads(pickled)
    make_run(place, [{"text": text, "label": text[:1]} for text in TEXTS])
    with pytest.raises(nlpkit.BundleError, match="holds another model than the one that was pick"):
        pickle.loads(pickled)


def test_a_pool_of_processes_takes_a_model(run: Path) -> None:
    model = nlpkit.load(run, backend="onnx")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(scores, model).result(timeout=60) == scores(model)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_computes_after_a_fork_and_ends(run: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(run)],
        env={key: value for key, value in environment.items() if key != "TOKENIZERS_PARALLELISM"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
