from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nlpkit.cli.render import Terminal
from nlpkit.config.load import load_config
from nlpkit.config.resolve import resolve
from nlpkit.data.prepare import Prepared, prepare
from nlpkit.data.store import StoreWriter, TokenStore
from nlpkit.plugin.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

LABELS = ["refund", "delivery", "invoice"]


class NotingTerminal(Terminal):
    """A terminal that also keeps what it noted."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
        super().note(text)


@dataclass
class Shop:
    """A folder with training rows, and what prepares them."""

    folder: Path
    data: dict[str, Any]
    terminal: NotingTerminal = field(default_factory=NotingTerminal)

    def prepare(self, *overrides: str, data: dict[str, Any] | None = None) -> Prepared:
        host = Host.discover()
        config = {
            "name": "shop",
            "task": "sequence",
            "model": {"name": "transformer"},
            "data": {**self.data, **(data or {})},
        }
        resolved = resolve(load_config(config, overrides), host)
        return prepare(resolved, host, self.terminal)


def write_csv(path: Path, rows: list[tuple[str, str]]) -> Path:
    lines = [f'"{text}",{label}\n' for text, label in rows]
    path.write_text("text,label\n" + "".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(tmp_path)
    texts = [f"question number {number} about my order" for number in range(60)]
    rows = [(text, LABELS[number % 3]) for number, text in enumerate(texts)]
    write_csv(tmp_path / "train.csv", rows)
    return Shop(tmp_path, {"name": "files", "train": str(tmp_path / "train.csv")})


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[[list[int]], TokenStore]:
    """Makes a store of examples with these numbers of tokens."""

    def make(lengths: list[int]) -> TokenStore:
        path = tmp_path / f"store-{len(list(tmp_path.iterdir()))}"
        with StoreWriter(path, location="train.csv") as writer:
            for number, length in enumerate(lengths):
                example = {
                    "input_ids": np.arange(number, number + length, dtype=np.int32),
                    "label": np.int64(number % 3),
                }
                writer.append(example, f"train.csv:{number + 2}", [(length,)])
        return TokenStore.open(path, location="train.csv")

    return make
