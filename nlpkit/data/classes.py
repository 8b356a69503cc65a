"""Classes by their names: the library datasets numbers them, and its features say what they mean.

Features are taken as the library stores them, plain JSON: in a dataset, and in a parquet file that
it wrote. So it need not be installed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nlpkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Names = dict[str, "Sequence[str]"]
"""By column, what its numbers mean."""


def of_dataset(rows: Any) -> Names:
    """The classes of a datasets.Dataset, or of its pyarrow Table; of other rows nothing."""
    if hasattr(rows, "to_batches"):
        return of_metadata(rows.schema.metadata)
    features: Any = getattr(rows, "features", None)
    return _classes(features.to_dict()) if hasattr(features, "to_dict") else {}


def of_metadata(metadata: Mapping[bytes, bytes] | None) -> Names:
    """The classes that the metadata of a parquet file name."""
    try:
        return _classes(json.loads((metadata or {})[b"huggingface"])["info"]["features"])
    except (ValueError, KeyError, TypeError, AttributeError):  # somebody else's
        return {}


def named(values: dict[str, Any], names: Names, address: str) -> dict[str, Any]:
    """Plain values in which the number of a class is its name, and -1, which stands for none, null.

    A number that no class has is a DataError in its place.
    """
    for column in names.keys() & values.keys():
        try:
            values[column] = _named(values[column], names[column])
        except IndexError:
            problem = f"is no class: there are {len(names[column])}, from 0"
            value = values[column]
            values[column] = DataError(address, column=column, value=value, problem=problem)
    return values


def _classes(features: Mapping[str, Any]) -> Names:
    found = {column: _names(feature) for column, feature in features.items()}
    return {column: names for column, names in found.items() if names}


def _names(feature: Any) -> Sequence[str] | None:
    """The names of a class, or of lists of classes."""
    if isinstance(feature, list):  # as lists were written once
        return _names(feature[0])
    if not isinstance(feature, dict):
        return None
    return (
        feature["names"] if feature.get("_type") == "ClassLabel" else _names(feature.get("feature"))
    )


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    if value == -1 or not isinstance(value, int):
        return None if value == -1 else value
    if value < 0:
        raise IndexError
    return names[value]
