"""Law 11: what leaves is read by transformers alone, and what comes in is taken whole.

A folder of transformers with a trained head comes in, a run goes on with it at a rate that moves no
weight, and what the run writes as `huggingface` is that folder again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

import nlpkit
from nlpkit_data.config import SubwordConfig
from nlpkit_data.tokenizers import wordpiece
from tests.bert.conftest import KINDS, saved
from tests.bundle.bundles import LABELS, NUMBERS, PAIRS, ROWS, TEXTS

LONGEST = 16
SPANS = [
    {"text": text, "tags": [{"start": 0, "end": 2, "label": "who" if at % 2 else "what"}]}
    for at, text in enumerate(TEXTS)
]
NAMES = {
    "class": ("lost", "arrival", "balance"),
    "pairs": ("lost", "arrival", "balance"),
    "multilabel": ("lost", "any", "balance", "arrival"),
    "regression": (),
    "token": ("B-who", "O", "I-what", "I-who", "B-what"),
    "mlm": (),
}
"""What a folder's labels are called, in an order that is not the task's."""
CASES = {
    "class": (ROWS, {"name": "sequence"}),
    "pairs": (PAIRS, {"name": "sequence", "text": ["first", "second"]}),
    "multilabel": (LABELS, {"name": "sequence", "target": "multilabel"}),
    "regression": (NUMBERS, {"name": "sequence", "target": "regression"}),
    "token": (SPANS, {"name": "token", "label": "tags"}),
    "mlm": (ROWS, {"name": "mlm"}),
}
HEADS = {"token": "TokenClassification", "mlm": "MaskedLM"}
FAST = (("class", "modernbert"),)  # bert/test_heads.py has one of each other task
ASKED = [" ".join((TEXTS * 2)[at % 8 : at % 8 + 1 + at // 8 % 3]) for at in range(200)]
ALONE = """
import json, sys
sys.modules["nlpkit"] = None
from transformers import pipeline
asked, settings = json.load(sys.stdin)
told = []
for folder in sys.argv[2:]:
    pipe = pipeline(sys.argv[1], folder)
    told.append([pipe(each, **settings) for each in asked])
json.dump(told, sys.stdout, default=float)
"""


def brought(folder: Path, case: str, kind: str) -> Path:
    """A folder of transformers with a head for the case, and a tokenizer."""
    labels = NAMES[case] or ("LABEL_0",)
    settings = {"vocab_size": 150, "pad_token_id": 0, "max_position_embeddings": 128}
    if case != "mlm":
        settings["id2label"] = dict(enumerate(labels))
        problems = {"multilabel": "multi_label_classification", "regression": "regression"}
        settings["problem_type"] = problems.get(case, "single_label_classification")
        settings["label2id"] = {label: number for number, label in enumerate(labels)}
    saved(folder, kind, head=HEADS.get(case, "SequenceClassification"), **settings)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    trained = wordpiece(SubwordConfig(vocab_size=150), [*TEXTS, *"abcdefghijklmnopqrstuvwxyz"])
    types = ["token_type_ids"] if kind in ("bert", "electra") else []
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=trained,
        model_max_length=LONGEST,
        model_input_names=["input_ids", "attention_mask", *types],
        **names,
    ).save_pretrained(folder)
    return folder


def gone_on_with(folder: Path, case: str, out: Path) -> nlpkit.Run:
    """A run that begins with the folder and moves no weight."""
    rows, task = CASES[case]
    data = folder.with_suffix(".jsonl")
    data.write_text("".join(json.dumps(row) + "\n" for row in rows * 2), "utf-8")
    config = {
        "name": case,
        "task": task,
        "data": {"train": str(data), "validation": str(data)},
        "model": {"name": "bert", "pretrained": str(folder)},
        "tokenizer": {"max_length": LONGEST},
        "train": {"max_steps": 1, "batch_size": 4, "learning_rate": 1e-30},
        "loader": {"workers": 0},
        "device": "cpu",
        "precision": "fp32",
        "observers": [],
    }
    return nlpkit.train(config, out=out)


def piped(pipeline: str, asked: list, *folders: Path, **settings: object) -> list:
    """What a process without nlpkit gets out of transformers' pipeline, by folder."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, pipeline, *map(str, folders)],
        input=json.dumps([asked, settings]),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("case", "kind", "pipes"),
    [
        *((*each, False) for each in FAST),
        *(
            pytest.param(case, kind, True, marks=pytest.mark.slow)
            for case in CASES
            for kind in KINDS
        ),
    ],
)
def test_a_folder_that_comes_in_goes_out_as_it_was(tmp_path, case, kind, pipes):
    folder = brought(tmp_path / "folder", case, kind)
    run = gone_on_with(folder, case, tmp_path / "run")
    steps = [line["step"] for line in run.history if line["split"] == "validation"]
    assert steps == [0, 1]
    made = nlpkit.export(run, "huggingface")
    assert made.parity["difference"] <= 1e-6  # logits are below 1
    assert not [path for path in made.path.rglob("*") if path.suffix in (".py", ".bin", ".pt")]

    came, went = (load_file(path / "model.safetensors") for path in (folder, made.path))
    own = sorted(NAMES[case])
    if case == "token":  # its tags are O, then B and I of each type
        own = sorted(own, key=lambda tag: (tag != "O", tag[2:], tag))
    places = [NAMES[case].index(name) for name in own]
    last = {name for name in came if len(came[name]) == len(own) and name.startswith("classifier.")}
    assert came.keys() == went.keys()
    assert len(last) == (2 if own else 0)
    for name, tensor in came.items():
        assert torch.equal(went[name], tensor[places] if name in last else tensor), name
    said = json.loads((made.path / "config.json").read_bytes())
    if own:
        assert [said["id2label"][str(place)] for place in range(len(own))] == own
    assert "auto_map" not in said
    if not pipes:
        return

    asked, settings = ASKED, {"truncation": True, "top_k": None}
    if case == "pairs":
        asked = [{"text": text, "text_pair": ASKED[-1 - at]} for at, text in enumerate(ASKED)]
    elif case == "token":
        settings = {"ignore_labels": []}  # O too
    elif case == "mlm":
        asked, settings = [f"{each} [MASK]" for each in ASKED], {}
    before, after = piped(
        {"token": "token-classification", "mlm": "fill-mask"}.get(case, "text-classification"),
        asked,
        *(folder, made.path),
        **settings,
    )
    assert len(before) == 200
    for one, other in zip(before, after, strict=True):
        assert len(one) == len(other) > 0
        for these, those in zip(*map(in_order, (one, other)), strict=True):
            assert these["score"] == pytest.approx(those["score"], abs=1e-6)
            assert {**these, "score": 0} == {**those, "score": 0}
    if case == "class":
        found = [max(scores, key=lambda each: each["score"]) for scores in after]
        own = nlpkit.load(run).predict(asked)
        assert [each.label for each in own] == [each["label"] for each in found]
        scores = [each["score"] for each in found]
        assert [each.score for each in own] == pytest.approx(scores, abs=1e-6)


def in_order(said: list) -> list:
    """What a pipeline says of a text, in an order that no rounding changes."""
    return sorted(said, key=lambda each: json.dumps({**each, "score": 0}))


@pytest.mark.slow
def test_what_trainer_trained_is_as_right_before_the_first_step(tmp_path):
    pytest.importorskip("accelerate", reason="Trainer needs accelerate")
    folder = brought(tmp_path / "begun", "class", "bert")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = [
        {**tokenizer(row["text"], truncation=True), "labels": NAMES["class"].index(row["label"])}
        for row in ROWS
    ]
    settings = transformers.TrainingArguments(
        output_dir=tmp_path / "trainer",
        learning_rate=3e-3,
        max_steps=40,
        per_device_train_batch_size=4,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
    )
    trainer = transformers.Trainer(
        model=model,
        args=settings,
        train_dataset=rows,
        eval_dataset=rows * 2,
        processing_class=tokenizer,
        compute_metrics=lambda found: {
            "accuracy": (found.predictions.argmax(-1) == found.label_ids).mean()
        },
    )
    trainer.train()
    theirs = trainer.evaluate()
    trainer.save_model(tmp_path / "trained")
    run = gone_on_with(tmp_path / "trained", "class", tmp_path / "run")
    first = next(line for line in run.history if line["split"] == "validation")
    assert (first["step"], first["accuracy"]) == (0, theirs["eval_accuracy"])
    assert first["loss"] == pytest.approx(theirs["eval_loss"], abs=1e-6)
    assert first["accuracy"] > 0.4
