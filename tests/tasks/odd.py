"""Tiny runs of `clm` and `mlm`, and what is asked of them: for odd inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

import nlpkit
from nlpkit.cli.main import main
from nlpkit.config.resolve import build
from nlpkit.config.schema import Component
from nlpkit.errors import ConfigError, DataError, InputError
from nlpkit.plugin.host import Host
from tests.tasks.language import WORDS, texts

LENGTH = 24
LONG = " ".join(WORDS * 10)
ROWS = [{"text": text} for text in [*texts(40), "the [SEP] cat", "a mat, Éa! 我们"]]
HELD = [{"text": text} for text in texts(8, seed=8)]


def config(task: Any, **changes: Any) -> dict[str, Any]:
    name = task if isinstance(task, str) else task["name"]
    positions = "rotary" if name == "clm" else "sinusoidal"
    sizes = {"layers": 1, "hidden": 16, "heads": 2, "positions": positions}
    return {
        "name": "odd",
        "task": task,
        "tokenizer": {"max_length": LENGTH},
        "model": {"name": "transformer", **sizes},
        "train": {"max_steps": 5, "batch_size": 8, "learning_rate": 0.02},
        "loader": {"workers": 0},
        "device": "cpu",
        "observers": [],
        **changes,
    }


def trained(task: Any, folder: Path, rows: Any = ROWS, held: Any = HELD, **changes: Any) -> Any:
    data = {"train": rows, "validation": held}
    return nlpkit.train(config(task, **changes), data=data, out=folder)


def loaded(run: nlpkit.Run) -> Any:
    return nlpkit.load(run, device="cpu")


@dataclass
class Odd:
    """Trained runs and their models by task, and a folder of one's own."""

    runs: Mapping[str, nlpkit.Run]
    models: Mapping[str, Any]
    folder: Path

    def said(self, task: str, text: Any, **generate: Any) -> Any:
        """The prediction of a text, or the error that it is."""
        try:
            (found,) = self.models[task].predict([text], generate=generate or None)
        except InputError as error:
            return str(error)
        return found

    def lines(self, task: str, content: str, *options: str) -> list[dict[str, Any]]:
        """What the command writes of a file of texts."""
        given, output = self.folder / "in.txt", self.folder / "out.jsonl"
        given.write_text(content, "utf-8")
        output.unlink(missing_ok=True)
        asked = ["predict", str(self.runs[task].path), "--input", str(given), *options]
        assert main([*asked, "--output", str(output)]) == 0
        return [json.loads(line) for line in output.read_text("utf-8").splitlines()]

    def tokenizer(self, *special: str, words: Sequence[str] = WORDS) -> dict[str, Any]:
        """A pretrained one of words, none of which is added to them as a special token."""
        folder = self.folder / f"tokenizer{len([*self.folder.iterdir()])}"
        folder.mkdir()
        known = {word: id for id, word in enumerate(["[UNK]", *special, *words])}
        tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.save(str(folder / "tokenizer.json"))
        return {"name": "pretrained", "pretrained": str(folder), "max_length": LENGTH}

    def problems(
        self, task: Any, severity: str = "error", rows: Any = ROWS, **changes: Any
    ) -> list[str]:
        found = nlpkit.check(config(task, **changes), data={"train": rows, "validation": HELD})
        return [str(each) for each in found if each.severity == severity]

    def refused(self, task: Any, **changes: Any) -> str:
        """The one error of check, which training says too, before it begins."""
        (error,) = self.problems(task, **changes)
        with pytest.raises(ConfigError) as caught:
            trained(task, self.folder / "run", **changes)
        assert str(caught.value) == error
        return error

    def rows(self, name: str, content: bytes) -> list[Any]:
        """The texts of a file that can be trained on."""
        assert self.read(name, content, validation=None) == []
        source = build(Component(name="files"), "source", Host.discover())
        return [each.values["text"] for each in source.rows(str(self.folder / name))]

    def read(self, name: str, content: bytes, **data: Any) -> list[str]:
        """The errors of check for a file of texts; training says the first."""
        (self.folder / name).write_bytes(content)
        settings = config("clm", data={"train": str(self.folder / name), **data})
        errors = [str(each) for each in nlpkit.check(settings) if each.severity == "error"]
        if errors:
            with pytest.raises(DataError) as caught:
                nlpkit.train(settings, out=self.folder / "run")
            assert str(caught.value).partition(" (")[0] in errors[0]
        return [each.replace(f"{self.folder}/", "") for each in errors]
