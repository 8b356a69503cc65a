from __future__ import annotations

import csv
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from nlpkit.cli.main import main
from nlpkit.config.load import dump_config, load_config
from tests.docs.pages import GUIDE, README, blocks, titled

TINY = ["train.max_steps=6", "train.epochs=1", "train.log_every=2", "loader.workers=0"]
SMALL = ["model=transformer", "model.layers=1", "model.hidden=16", "model.heads=2"]


def small_config(text: str, folder: Path) -> None:
    """Writes a config of the documentation as intents.yaml, with a small model and few steps."""
    (folder / "documented.yaml").write_text(text, "utf-8")
    config = load_config(folder / "documented.yaml", [*TINY, *SMALL])
    (folder / "intents.yaml").write_text(dump_config(config), "utf-8")


def some_rows(split: str, each: int, folder: Path) -> None:
    """A csv file with some rows of the bundled sample for each label."""
    bundled = files("nlpkit_data") / "sample" / f"{split}.csv"
    taken: Counter[str] = Counter()
    with (
        bundled.open(encoding="utf-8", newline="") as source,
        (folder / "data" / f"{split}.csv").open("w", encoding="utf-8", newline="") as target,
    ):
        writer = csv.DictWriter(target, ["text", "label", "intent", "message"])
        writer.writeheader()
        for row in csv.DictReader(source):
            taken[row["label"]] += 1
            if taken[row["label"]] <= each:
                writer.writerow({**row, "intent": row["label"], "message": row["text"]})


def _project(text: str, folder: Path) -> Path:
    (folder / "data").mkdir()
    some_rows("train", 12, folder)
    some_rows("test", 3, folder)
    small_config(text, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        assert main(["train", str(folder / "intents.yaml"), "--out", f"{folder}/runs/intents"]) == 0
    return folder


@pytest.fixture(scope="session")
def readme_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the README has it: data/, intents.yaml, and the run runs/intents."""
    return _project(titled(README)["intents.yaml"], tmp_path_factory.mktemp("readme"))


@pytest.fixture(scope="session")
def guide_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the guide has it: data/, intents.yaml, new.csv, and the run runs/intents."""
    folder = _project(blocks(GUIDE, "yaml")[0].text, tmp_path_factory.mktemp("guide"))
    (folder / "new.csv").write_text('message\nwhere is my parcel?\n\n""\nrefund me\n', "utf-8")
    return folder


@pytest.fixture(autouse=True)
def _as_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go where they go without the variable, and small models take one thread."""
    monkeypatch.delenv("NLPKIT_RUNS")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def in_readme(readme_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`readme_project` as the working folder."""
    monkeypatch.chdir(readme_project)
    return readme_project


@pytest.fixture
def in_guide(guide_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`guide_project` as the working folder."""
    monkeypatch.chdir(guide_project)
    return guide_project
