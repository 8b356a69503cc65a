"""The source `huggingface`: a folder that save_to_disk wrote, or that load_dataset reads.

Nothing is fetched: a dataset of the hub is downloaded first.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets

from nlpkit.contracts import Row
from nlpkit.data import classes
from nlpkit.data.rows import plain
from nlpkit.environment import cache_folder
from nlpkit.errors import DataError, closest, shorten
from nlpkit_data.files import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nlpkit_data.config import HuggingfaceConfig

_DOWNLOAD = "hf download NAME --repo-type dataset --local-dir FOLDER brings one from the hub"


class Huggingface:
    """Implements `nlpkit.contracts.Source`; a location is a folder, `data/imdb#train` a split."""

    def __init__(self, options: HuggingfaceConfig) -> None:
        self._options = options

    def default(self, split: str) -> str | None:
        """None: a folder has to be named."""
        return None

    def rows(self, location: str) -> Iterator[Row | DataError]:
        """The rows of a split, counted from 1; a class is given by its name.

        Raises:
            DataError: There is no such dataset or split, or it has several and none is named.
        """
        folder, split = _parts(location)
        address, number = shown(location), 0
        try:
            dataset = _chosen(self._splits(folder), split, address)
            names = classes.of_dataset(dataset)
            for name, feature in (dataset.features or {}).items():
                if getattr(feature, "decode", False):  # pictures and sounds are no text
                    dataset = dataset.cast_column(name, type(feature)(decode=False))
            for number, values in enumerate(dataset, 1):
                here = f"{address}:{number}"
                yield Row(classes.named(plain(values, here), names, here), here)
        except DataError:
            raise
        except Exception as error:  # the library has many kinds, and gives on those of others
            here = f"{address}:{number + 1}" if number else address
            problem = f"cannot be read as a dataset ({shorten(str(error), 200)})"
            remedy = "load_dataset has to read the folder, or save_to_disk to have written it"
            raise DataError(here, problem=problem, remedy=remedy) from None

    def fingerprint(self, location: str) -> str:
        """A hash of the split's name, and of the folder's files: their names and contents."""
        folder, split = _parts(location)
        digest = hashlib.sha256(f"{split}\n".encode())
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not any(part.startswith((".", "cache-")) for part in name.parts):
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(os.fsencode(name) + f"\0{content}\n".encode())
        return digest.hexdigest()

    def _splits(self, folder: Path) -> Mapping[str, Any]:
        """The splits by name; a dataset that has none is one without a name."""
        if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
            found = datasets.load_from_disk(folder)
            return found if isinstance(found, datasets.DatasetDict) else {"": found}
        found = datasets.load_dataset(
            str(folder.absolute()),
            self._options.subset,
            streaming=True,  # else it would write a copy
            cache_dir=str(cache_folder() / "datasets"),
        )
        return dict(found)


def _parts(location: str) -> tuple[Path, str]:
    """The folder and the name of the split, "" for none. Raises DataError for no folder."""
    whole = Path(os.path.expanduser(location))
    folder, _, split = ("", "", "") if whole.is_dir() else location.rpartition("#")
    path = Path(os.path.expanduser(folder)) if folder else whole
    if not path.is_dir():
        near = [each.name for each in path.parent.glob("*/")]
        guess = closest(path.name, near)
        problem = "there is no such folder"
        raise DataError(shown(location), problem=problem, suggestion=guess, remedy=_DOWNLOAD)
    return path, split


def _chosen(splits: Mapping[str, Any], split: str, address: str) -> Any:
    if not split and len(splits) == 1:
        return next(iter(splits.values()))
    if split in splits:
        return splits[split]
    names = ", ".join(filter(None, splits)) or "none"
    if not split:
        remedy = f"name one: {address}#{next(iter(splits))}"
        raise DataError(address, problem=f"has the splits {names}", remedy=remedy)
    guess = closest(split, splits)
    problem, remedy = f'has no split "{split}"', f"its splits: {names}"
    raise DataError(address, problem=problem, suggestion=guess, remedy=remedy)
