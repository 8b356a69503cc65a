"""Makes the runs that a version leaves behind: `python make.py FOLDER`, with that version's nlpkit.

Later versions must load, predict, evaluate and export what is in FOLDER to the numbers in
`expected.json`; tests/kept/test_kept.py has them do so.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

FOLDER = Path(sys.argv[1]).resolve()
WORK = Path("/tmp/nlpkit-kept")  # so that no file has a path of somebody's machine
os.environ |= {"NLPKIT_CACHE": str(WORK / "cache"), "OMP_NUM_THREADS": "1"}

import nlpkit  # noqa: E402

TOPICS = {
    "card": ("my card has not arrived yet", "i lost my card on the train", "the card is broken"),
    "money": ("where is my money", "why was i charged twice", "the transfer failed again"),
    "pin": ("how do i change my pin", "the pin is wrong three times", "i forgot my pin in town"),
}
MORE = ("please", "today", "again", "in paris", "before noon", "for my mother", "at once", "twice")
TEXTS = [(f"{text} {more}", topic) for more in MORE for topic in TOPICS for text in TOPICS[topic]]
LONG = "how do i change the pin before noon at once please " * 3
ASKED = ["my card was lost in paris", "money", LONG]

CLASS = [{"text": text, "label": topic} for text, topic in TEXTS]
SETS = [
    {"text": text, "label": sorted({topic, "urgent"} if "at once" in text else {topic})}
    for text, topic in TEXTS
]
NUMBERS = [{"text": text, "label": len(text) / 10} for text, _ in TEXTS]
PAIRS = [
    {"first": text, "second": TEXTS[at - 7][0], "label": str(topic == TEXTS[at - 7][1])}
    for at, (text, topic) in enumerate(TEXTS)
]
PLUGIN = """
import nlpkit
from torch import nn


class Bag(nn.Module):
    def __init__(self, head, vocabulary):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary.size, head.size)

    def forward(self, input_ids):
        return self.embedding(input_ids)


def build(options, head, vocabulary, *, weights):
    return Bag(head, vocabulary)


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="bag", target="bag:build")
"""

SMALL = {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2, "feed_forward": 32}


def config(name: str, **sections: object) -> dict[str, object]:
    return {
        "name": name,
        "data": {"validation": 0.2},
        "task": {"name": "sequence"},
        "tokenizer": {"name": "wordpiece", "max_length": 16, "vocab_size": 150},
        "model": SMALL,
        "train": {"epochs": 2, "batch_size": 8, "learning_rate": 0.01},
        "precision": "fp32",
        "loader": {"workers": 0},
        **sections,
    }


def main() -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    WORK.mkdir()
    os.chdir(WORK)
    Path("bag.py").write_text(PLUGIN, encoding="utf-8")
    int8 = {"name": "onnx", "quantize": "int8", "min_agreement": 0.0, "max_drop": 1.0}
    runs = {
        "class": (CLASS, {"export": ["onnx", "torchscript", "state_dict"]}),
        "int8": (CLASS, {"export": [int8]}),
        "multilabel": (SETS, {"task": {"name": "sequence", "target": "multilabel"}}),
        "regression": (NUMBERS, {"task": {"name": "sequence", "target": "regression"}}),
        "pair": (
            PAIRS,
            {"task": {"name": "sequence", "text": ["first", "second"]}, "export": ["onnx"]},
        ),
        "windows": (
            CLASS,
            {
                "task": {"name": "sequence", "long_text": "window"},
                "tokenizer": {"name": "wordpiece", "max_length": 8, "vocab_size": 150},
                "export": ["onnx"],
            },
        ),
        "file": (CLASS, {"plugins": ["bag.py"], "model": "bag"}),
    }
    expected = {}
    for name, (rows, sections) in runs.items():
        run = nlpkit.train(
            config(name, **sections), data={"train": rows[9:], "test": rows[:9]}, out=WORK / name
        )
        asked = [(text, ASKED[0]) for text in ASKED] if name == "pair" else ASKED
        places = {"run": run.path} | {each: run.bundle / each for each in run.result["exports"]}
        expected[name] = {
            "asked": asked,
            "predictions": {place: _predicted(path, asked) for place, path in places.items()},
            "metrics": run.metrics,
            "history": run.history,
        }
    _stop_halfway(WORK / "class", WORK / "unfinished")
    for name in (*runs, "unfinished"):
        keep = ("checkpoints",) if name != "unfinished" else ()
        shutil.copytree(WORK / name, FOLDER / name, ignore=shutil.ignore_patterns(*keep))
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (FOLDER / "expected.json").write_text(text + "\n", encoding="utf-8")
    shutil.rmtree(WORK)


def _predicted(place: Path, asked: list[object]) -> list[dict[str, object]]:
    model = nlpkit.load(place, device="cpu", precision="fp32")
    return [vars(each) for each in model.predict(asked)]


def _stop_halfway(run: Path, copy: Path) -> None:
    """Leaves what a run has that was killed after its first epoch."""
    shutil.copytree(
        run, copy, ignore=shutil.ignore_patterns("bundle", "result.json", "predictions")
    )
    first, last = sorted((copy / "checkpoints").glob("step-*"))
    shutil.rmtree(last)
    for name in ("best", "last"):
        (copy / "checkpoints" / name).write_text(first.name + "\n", encoding="utf-8")


main()
