"""Options of the task `sequence`."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from nlpkit.config.schema import ComponentConfig

Pair = Annotated[tuple[str, str], Field(strict=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]


class SequenceConfig(ComponentConfig):
    """One label, several labels or a number for each text or pair of texts."""

    text: str | Pair = Field("text", description="A column, or a list of two for sentence pairs.")
    label: str | Names = Field(
        "label",
        description="The column of the target; or a list of columns, one for each label, that hold "
        "0 or 1.",
    )
    target: Literal["class", "multilabel", "regression"] = Field(
        "class",
        description="class: one label; multilabel: a JSON list, or text separated by commas; "
        "regression: a number.",
    )
    labels: Names | None = Field(
        None, description="The labels by place, where the column holds lists of 0 and 1."
    )
    class_weights: Literal["none", "balanced"] | dict[str, float] = Field(
        "none",
        description="balanced: rows ÷ (labels × rows of the label); or {label: weight}, where "
        "labels that are not named weigh 1. For target class.",
    )
    weight: str | None = Field(None, description="A column of row weights, 0 or more.")
    label_smoothing: float = Field(
        0.0, description="The share of each target that is spread over all labels; target class."
    )
    long_text: Literal["truncate", "window"] = Field(
        "truncate",
        description="What becomes of a text that is longer than tokenizer.max_length. truncate: "
        "its end is cut off; window: it is read in overlapping windows, whose logits are averaged.",
    )

    @field_validator("text", mode="before")
    @classmethod
    def _one_column_or_two(cls, value: Any) -> Any:
        columns = [value] if isinstance(value, str) else value
        if not isinstance(columns, list | tuple) or not all(
            isinstance(column, str) and column for column in columns
        ):
            raise ValueError("must be a column, or a list of two columns for sentence pairs")
        if not isinstance(value, str) and len(set(columns)) != 2:
            raise ValueError(f"a pair needs two different columns, not {', '.join(columns)}")
        return value

    @field_validator("label", "labels", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any, info: ValidationInfo) -> Any:
        names = [value] if isinstance(value, str) and info.field_name == "label" else value
        if names is None and info.field_name == "labels":
            return value
        if not isinstance(names, list | tuple) or not names:
            kinds = {"label": "a column, or a list of columns", "labels": "a list of labels"}
            raise ValueError(f"must be {kinds[str(info.field_name)]}")
        if not all(isinstance(name, str) and name.strip() for name in names):
            raise ValueError("must hold text alone; put numbers into quotes")
        if len(set(names)) < len(names):
            raise ValueError(f"names one twice: {', '.join(names)}")
        return value

    @field_validator("target")
    @classmethod
    def _one_number(cls, value: str, info: ValidationInfo) -> str:
        if value == "regression" and not isinstance(info.data.get("label", ""), str):
            raise ValueError("regression takes one column, not a list; name it in label")
        return value

    @field_validator("labels")
    @classmethod
    def _labels_of_places(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and not isinstance(info.data.get("label", ""), str):
            raise ValueError("the columns that label names are the labels; remove it")
        if value is not None and info.data.get("target") == "regression":
            raise ValueError("regression has no labels; remove it")
        return value

    @field_validator("class_weights", mode="before")
    @classmethod
    def _known_weights(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, dict):
            for label, weight in value.items():
                number = isinstance(weight, int | float) and not isinstance(weight, bool)
                if not (number and math.isfinite(weight) and weight >= 0):
                    raise ValueError(f'the weight of "{label}" must be a number ≥ 0, not {weight}')
        elif value not in ("none", "balanced"):
            raise ValueError("must be none, balanced or a mapping {label: weight}")
        return _only_for_classes(
            value, "none", info, 'put weights into a column and name it in "weight"'
        )

    @field_validator("label_smoothing")
    @classmethod
    def _smooths_classes(cls, value: float, info: ValidationInfo) -> float:
        if not 0 <= value < 1:
            raise ValueError(f"must be at least 0 and below 1, not {value}")
        _only_for_classes(value, 0, info, "remove it")
        return value

    @field_validator("long_text")
    @classmethod
    def _windows_of_one_text(cls, value: str, info: ValidationInfo) -> str:
        if value == "window" and not isinstance(info.data.get("text", ""), str):
            raise ValueError("window works with one text column, not with a pair; name one in text")
        return value


def _only_for_classes(value: Any, default: Any, info: ValidationInfo, remedy: str) -> Any:
    target = info.data.get("target", "class")
    if value != default and target != "class":
        raise ValueError(f"works with target: class only, not with {target}; {remedy}")
    return value
