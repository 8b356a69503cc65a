"""The frame of a config: what the core itself reads. `resolve` checks the options of components.

A `Config` is always plain data: `Component.options` holds a component's own options as they were
written, or, once resolved, completed. `ComponentConfig` is the base of what checks them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotation
from dataclasses import dataclass, field, replace
from pathlib import Path  # noqa: TC003 - as above
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from nlpkit import secrets
from nlpkit.environment import working_folder
from nlpkit.errors import InputError, Problem

KeyPath = tuple[str | int, ...]
"""Where a value stands in a config: keys of mappings, positions in lists."""

BY_NAME = "put the whole of it into an environment variable, and write {env: NAME} here"
"""The remedy where a config holds a secret."""
IN_CLEAR = f"is a secret, which no config holds; {BY_NAME}"


@dataclass(frozen=True)
class Origin:
    """Where a config came from. All origins are equal, so that configs compare by their values.

    Attributes:
        file: The config file as it was named, or "" for a mapping; or another address.
        base: The folder that relative locations count from.
        addresses: `file:line` or `override key=value`, by path.
    """

    file: str = field(default="", compare=False)
    base: Path = field(default_factory=working_folder, compare=False)
    addresses: Mapping[KeyPath, str] = field(default_factory=dict, compare=False)

    def address(self, path: KeyPath) -> str:
        """The address of a value, or of the nearest mapping around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.addresses:
                return self.addresses[path[:end]]
        return self.file

    def problem(self, path: KeyPath, message: str, remedy: str = "") -> Problem:
        """A problem with the value at `path`."""
        address = self.address(path)
        if message == IN_CLEAR and address.startswith("override "):  # which says the secret
            address = address.partition("=")[0] + "=…"
        return Problem(address=address, key=dotted(path), message=message, remedy=remedy)

    def placed(self, problem: Problem, path: KeyPath = ()) -> Problem:
        """A problem with the value of its key, or where it names none, with that at `path`."""
        path = tuple(problem.key.split(".")) if problem.key else path
        placed = self.problem(path, problem.message, problem.remedy)
        return replace(placed, severity=problem.severity)

    def warning(self, path: KeyPath, message: str, remedy: str = "") -> Problem:
        """A problem with the value at `path` that stops no run."""
        return replace(self.problem(path, message, remedy), severity="warning")


def dotted(path: KeyPath) -> str:
    """A path as people write it: `train.epochs`, `observers[1].every`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


class Frame(BaseModel):
    """Base of the frame's own sections: frozen, strict, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ComponentConfig(Frame):
    """Base of a component's options: frozen, strict, and unknown keys are errors."""

    model_config = ConfigDict(
        validate_default=True,  # a default Location counts from the config's folder too
        ser_json_inf_nan="constants",
    )


def _located(value: str, info: ValidationInfo) -> str:
    base = (info.context or {}).get("base")
    if base is None or "://" in value or os.path.isabs(value):
        return value
    return os.path.normpath(os.path.join(base, os.path.expanduser(value)))


def _located_if_there(value: str, info: ValidationInfo) -> str:
    located = _located(value, info)
    return located if value.startswith((".", "~")) or os.path.exists(located) else value


_PATH = Field(min_length=1, json_schema_extra={"format": "path"})

DEVICE = r"^(auto|cpu|mps|cuda(:\d+)?)$"

Location = Annotated[str, _PATH, AfterValidator(_located)]
"""A path or fsspec URL; a relative path counts from the config file's folder."""


class Secret(Frame):
    """A secret of a config, such as a token: `{env: NAME}`, the environment variable that holds it.

    As an option's type it takes nothing else, and wherever the config goes it stays a name.
    """

    model_config = ConfigDict(
        json_schema_extra={"description": "{env: NAME}, the environment variable that holds it"},
    )

    env: str = Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", description="The name of the variable.")

    @model_validator(mode="wrap")
    @classmethod
    def _is_a_name(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(IN_CLEAR) from None

    def reveal(self) -> str:
        """What the variable holds, for who needs it; no message of nlpkit shows it from then on.

        Raises:
            InputError: It is not set.
        """
        return secrets.kept(self.value())

    def value(self) -> str:
        """What the variable holds, be it a location that messages name. Raises as `reveal`."""
        if value := os.environ.get(self.env):
            return value
        raise InputError(f"the environment variable {self.env} is not set; {self} takes its value")

    def __str__(self) -> str:
        return f"{{env: {self.env}}}"


def revealed(value: str | Secret) -> str:
    """A location as it is used. Raises InputError where a variable, or a part of it, is missing."""
    if isinstance(value, Secret):
        return value.value()
    if value.endswith("?…"):
        remedy = "put the whole URL into an environment variable, and write {env: NAME}"
        raise InputError(
            f"{value}: its query is not stored with a run; {remedy} in its config.yaml"
        )
    return value


FolderOrId = Annotated[str, _PATH, AfterValidator(_located_if_there)]
"""A local folder (which counts from the config file's folder), or a hub id."""


class Component(BaseModel):
    """A named component; the keys that the frame does not know are its own options."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The component's own options, as written or completed."""
        return dict(self.model_extra or {})


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Choice = Annotated[Component, BeforeValidator(_named)]
"""A component, or its name alone."""


class DataConfig(Component):
    """Where the rows come from; further keys are options of the source."""

    name: str = "files"
    train: Location | Secret | None = Field(
        None, description="The training rows: a path or fsspec URL."
    )
    validation: Annotated[float, Field(gt=0, lt=1)] | Location | Secret | None = Field(
        0.1, description="A path, or a fraction split off the training rows."
    )
    test: Location | Secret | None = Field(
        None, description="Rows that the best model is measured on once."
    )
    on_bad_rows: Literal["error", "skip", "quarantine"] = Field(
        "error", description="quarantine: left out, and written to rejected.jsonl."
    )


class TaskConfig(Component):
    """What is learned; further keys are options of the task."""

    name: str = "sequence"


class TokenizerConfig(Component):
    """The tokenizer; further keys are its options. `resolve` finds a name that is not given."""

    name: str = ""
    max_length: Annotated[int, Field(ge=3)] = Field(
        128, description="In tokens, special ones included; longer texts are cut."
    )


_Beta = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(Frame):
    """The loop: every number of steps counts optimizer steps."""

    epochs: PositiveInt = Field(3, description="Times that every row is seen.")
    max_steps: PositiveInt | None = Field(
        None, description="Ends training after so many steps; the schedule counts to there."
    )
    batch_size: PositiveInt = Field(32, description="Samples per optimizer step over all devices.")
    micro_batch_size: PositiveInt | None = Field(
        None, description="Samples per forward pass on one device; null: the device's whole share."
    )
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="null: the model's own."
    )
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.01, description="Of matrices; not of embeddings, biases and norms."
    )
    betas: Annotated[list[_Beta], Field(min_length=2, max_length=2)] = Field(
        [0.9, 0.999], description="AdamW's: how slowly its mean and its square of gradients move."
    )
    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        1e-8, description="AdamW's: what is added to the root of the square."
    )
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="The share of all steps in which the rate rises from 0."
    )
    warmup_steps: NonNegativeInt | None = Field(
        None, description="So many steps instead; null: by warmup_ratio."
    )
    schedule: Literal["linear", "cosine", "constant", "inverse_sqrt"] = Field(
        "linear",
        description="How the rate goes on after it: down to 0, constant, or as 1 / √step.",
    )
    max_grad_norm: PositiveFloat = Field(1.0, description="A longer gradient is shortened to this.")
    nonfinite: Literal["stop", "skip"] = Field(
        "stop", description="What becomes of a step whose loss or gradient is no number."
    )
    log_every: PositiveInt = Field(
        10, description="Steps between the training lines of metrics.jsonl."
    )
    early_stopping: PositiveInt | None = Field(
        None, description="Stop after this many evaluations without improvement."
    )


class EvalConfig(Frame):
    """When validation runs, and which of its values selects the best model."""

    every: Literal["epoch"] | PositiveInt = Field(
        "epoch", description="epoch, or a number of steps; also after the last one."
    )
    batch_size: PositiveInt = Field(
        64, description="Samples that go through the model at once; it changes no number."
    )
    monitor: str | None = Field(None, description="null: the task's first metric.")
    predictions: bool = Field(
        True, description="Whether the run folder gets what was predicted of each held-out row."
    )
    generated_rows: PositiveInt = Field(
        200,
        description="Rows that are written for, in an evaluation during training, where that is "
        "measured; in the last one all are.",
    )


class LoaderConfig(Frame):
    """How batches reach the device."""

    workers: NonNegativeInt = Field(2, description="Processes that make batches; 0: none.")
    pin_memory: Literal["auto"] | bool = Field(
        "auto", description="Page-locked memory; auto: with CUDA."
    )
    prefetch: PositiveInt = Field(2, description="Steps that each worker is ahead.")
    bucketing: bool = Field(
        True, description="Whether texts of like length meet in a batch: less padding."
    )


class CheckpointConfig(Frame):
    """When the state of training is saved, and where copies go."""

    every: Literal["epoch"] | PositiveInt = Field(
        "epoch",
        description="epoch, or a number of steps; also after the best evaluation and at the end.",
    )
    keep: PositiveInt = Field(2, description="How many of the newest stay, besides the best one.")
    backup: Location | Secret | None = Field(
        None, description="A folder or fsspec URL that every checkpoint is copied to."
    )


class Config(Frame):
    """One run. Only `name`, `model` and, mostly, `data.train` have no default."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*$",
            description="a name that can be a folder's: no slash, no dot in front",
        ),
    ]
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = Field(
        13, description="All randomness follows from it."
    )
    plugins: tuple[str, ...] = Field(
        (), description="Plugin files or modules of this config alone."
    )
    device: Annotated[
        str,
        Field(pattern=DEVICE, description="auto, cpu, mps, cuda or cuda:1"),
    ] = "auto"
    task: Annotated[TaskConfig, BeforeValidator(_named)] = TaskConfig()
    data: Annotated[DataConfig, BeforeValidator(_named)] = DataConfig()
    tokenizer: Annotated[TokenizerConfig, BeforeValidator(_named)] = TokenizerConfig()
    model: Choice = Field(description="What is trained.")
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    loader: LoaderConfig = LoaderConfig()
    strategy: Choice = Field(
        Component(name="single"), description="How a step is spread over devices."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="auto: bf16 where the device computes it fast, else fp16 on CUDA, else fp32.",
    )
    checkpoint: CheckpointConfig = CheckpointConfig()
    export: tuple[Choice, ...] = Field(
        (), description="Formats that the model is written in after training."
    )
    observers: tuple[Choice, ...] = Field(
        (Component(name="progress"),), description="What watches the run."
    )
    launch: Choice = Field(Component(name="local"), description="Where the processes run.")

    _origin: Origin = PrivateAttr(default_factory=Origin)

    @property
    def origin(self) -> Origin:
        """Where it came from; errors take their addresses from it."""
        return self._origin

    def with_origin(self, origin: Origin) -> Config:
        """The same config, from `origin`."""
        config = self.model_copy()
        config._origin = origin
        return config
