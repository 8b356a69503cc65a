"""What is read of a model's local folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nlpkit.errors import ConfigError
from nlpkit.pretrained import Pretrained


def read(folder: Path, *names: str, weights: bool = True) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    found = Pretrained(str(folder), "model.pretrained").read_files(weights=weights)
    return [path.relative_to(folder).as_posix() for path in found]


def index(folder: Path, name: str, parts: list[str]) -> None:
    mapping = {f"layer.{number}": part for number, part in enumerate(parts)}
    (folder / name).write_text(json.dumps({"weight_map": mapping}))


def test_of_several_kinds_of_weights_the_first_is_read(tmp_path):
    others = ("model.fp16.safetensors", "pytorch_model.bin", "tf_model.h5", "onnx/config.json")
    named = ("config.json", "model.safetensors", "spm.model", "vocab.txt")
    assert read(tmp_path, *others, *named, ".cache/a.json", ".a.json") == sorted(named)
    assert read(tmp_path, weights=False) == ["config.json", "spm.model", "vocab.txt"]


def test_of_weights_in_parts_those_that_the_index_names_are_read(tmp_path):
    parts = ["model-1-of-2.safetensors", "model-2-of-2.safetensors"]
    index(tmp_path, "model.safetensors.index.json", [*parts, parts[0]])
    assert read(tmp_path, *parts, "model-old.safetensors", "pytorch_model.bin") == (
        [*parts, "model.safetensors.index.json"]
    )
    (tmp_path / parts[1]).unlink()
    with pytest.raises(ConfigError, match=f"has no {parts[1]}"):
        read(tmp_path)


def test_a_folder_without_such_weights_is_read_whole_but_for_what_is_hidden(tmp_path):
    assert read(tmp_path, ".git/HEAD", "a/weights.npz", "config.json", "words.bin") == (
        ["a/weights.npz", "config.json", "words.bin"]
    )
