"""What a component implements. This page is all that a plugin author has to read.

A plugin yields records (`nlpkit.ModelRecord` and its siblings); a record's `target` is called as
its docstring says and gives an object with one of the shapes below. Nothing here needs torch.

Texts go in as `Row`s, become `Example`s once, and come out as padded `Batch`es [batch, tokens].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tokenizers import Encoding
    from torch import Tensor, device, nn

    from nlpkit.errors import DataError
    from nlpkit.events import CheckpointSaved, Evaluated, RunEnded, RunStarted, StepEnded

Schema = Mapping[str, Any]
"""What a task learned from the training rows (labels, counts): plain JSON."""
Example = Mapping[str, Any]
"""One encoded row: 1-D arrays and scalars, the same in each row; `input_ids` gives its length."""
TextInput = str | tuple[str, str] | list[str]
"""What a tokenizer is given for one row: a text, a pair of texts, or a list of words."""

WINDOWS = "windows"
"""A windowed task's key: the windows' lengths in an example, their number in a batch's inputs."""
MOST_WINDOWS = 32
"""Windows of one row, at most, so that no text fills the memory; what comes after them is cut."""


@dataclass(frozen=True)
class Row:
    """One row of a source: its values by column, and where it stands (`data/train.csv:1042`).

    A value that is neither text nor a number, nor what becomes one, is a DataError that says so:
    whoever needs it raises it.
    """

    values: Mapping[str, Any]
    address: str


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples that go through the model together; the core sets `ids` and `weight`.

    Attributes:
        inputs: What models take, by name: padded arrays of shape [batch, tokens]; those of a
            windowed task have a row for each window, and `windows` says whose it is.
        targets: What the objective takes, by name; empty in prediction.
        count: The denominator of the loss: the sum of what each sample counts (law 1).
        weight: 1, or 0 for the stand-in of a rank without samples.
    """

    inputs: Mapping[str, Any]
    targets: Mapping[str, Any]
    count: float
    ids: Any = field(default_factory=lambda: np.zeros(0, np.int64))
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """What a model's head gives: [batch, size] for a sequence, [batch, tokens, size] for tokens."""

    size: int
    level: Literal["sequence", "token"] = "sequence"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a model has to know of its tokenizer: how many ids, and the longest input in tokens."""

    size: int
    max_length: int


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What a model's `resolve(options)` found out before anything heavy is loaded.

    Attributes:
        options: The options, completed so that `build(..., weights=False)` needs no other file.
        learning_rate: The default of `train.learning_rate`.
        max_length: The longest input that the model can take, in tokens; None without a limit.
        vocabulary: How many ids of a tokenizer it knows; None: as many as there are.
    """

    options: Any
    learning_rate: float
    max_length: int | None = None
    vocabulary: int | None = None


class Prediction(SimpleNamespace):
    """What a task says of one text, such as `Prediction(label="refund", score=0.98)`."""

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))

    def row(self) -> dict[str, Any]:
        """The fields that a line of a file gets: those that are no mappings."""
        return {name: value for name, value in vars(self).items() if not isinstance(value, Mapping)}


class Source(Protocol):
    """Reads one location; splitting and bad rows are the core's work.

    It may have an attribute `remarks`, a list of Problems: what it found odd so far in what it
    read, each once. They are shown as warnings.
    """

    def default(self, split: str) -> str | None:
        """The location of "train" or "test" where the config names none, or None."""

    def rows(self, location: str) -> Iterator[Row | DataError]:
        """The rows of one location, always in the same order; for a broken row its error.

        Raises DataError where nothing can be read at all.
        """

    def fingerprint(self, location: str) -> str:
        """A hash that changes whenever the rows do."""


class Metric(Protocol):
    """A measure whose `state` (a float64 vector) adds up over batches and ranks."""

    better: Mapping[str, Literal["higher", "lower"]]
    """The values that it gives, in order, and which way is better."""

    @property
    def state(self) -> np.ndarray:
        """The vector; of a long one that is mostly 0, [n, 2]: places, and what stands there.

        States of the second form add up by standing one after the other, so a place may come twice.
        """

    def update(self, output: np.ndarray, batch: Batch) -> None:
        """Adds a batch: `output` is what the objective's `output` gave."""

    def compute(self, state: np.ndarray) -> dict[str, float]:
        """The values named in `better`, from a summed state."""

    def details(self, state: np.ndarray) -> dict[str, Any]:
        """What a report shows beside the values (a confusion matrix): JSON, {} for nothing."""


class Task(Protocol):
    """Says what a row means: which text goes in, which target comes out. Numpy only.

    It may have an attribute `columns`: all that it reads. Of rows in memory only those are stored;
    all of them where it does not say.

    It may have an attribute `windowed`. Where that is true, a text that is longer than
    `tokenizer.max_length` is no longer cut off but comes in overlapping windows: an example holds
    the arrays of `windows_of(encoding)` one after the other, and their lengths as `windows` (1-D);
    `collate` gives each window a row of the inputs, sample after sample, and adds to them
    `windows`, int64 [batch], the rows of each sample. The core hands the mean of a sample's logits
    to objective, metrics and `decode`, so that one row stays one sample. For the level "sequence".

    It may have a method `truths(batch, schema)`: what the targets of each row say, as the first
    field of its prediction would say it. Files of predictions have it as `target`.
    """

    text_columns: Sequence[str]
    """The columns that hold the text: prediction fills them."""

    def texts(self, row: Row) -> TextInput:
        """The text of a row. Raises DataError where it is missing or empty."""

    def stratum(self, row: Row) -> str:
        """The group that a split keeps in proportion, or "". Raises DataError for a bad target."""

    def fit_schema(self, rows: Iterable[Row]) -> Schema:
        """What the training split teaches before training: labels, counts. Plain JSON."""

    def encode(
        self, row: Row, encoding: Encoding, schema: Schema, *, targets: bool = True
    ) -> Example:
        """A row and its tokens as arrays; in prediction without `targets`. Raises DataError.

        A task whose attribute `ids_only` is true looks at ids and type ids alone: the encoding of a
        single text may lack tokens, words and offsets, which saves a fifth of the tokenizer's time.
        """

    def collate(self, examples: Sequence[Example], seeds: Sequence[int]) -> Batch:
        """Pads examples; whatever is random in it depends on a sample's own seed only."""

    def head(self, schema: Schema) -> HeadSpec:
        """The head that a model needs for this."""

    def metrics(self, schema: Schema) -> Sequence[Metric]:
        """Fresh metrics; the first value of the first one is the default of `eval.monitor`."""

    def decode(self, output: np.ndarray, batch: Batch, schema: Schema) -> list[Prediction]:
        """Model output (logits of a batch) as predictions, one a row."""


class Objective(Protocol):
    """The loss: a SUM over the batch, never a mean; the core divides by the global count."""

    def total(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """The summed loss, a scalar."""

    def output(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """What leaves the device in evaluation: usually the logits themselves."""


class Strategy(Protocol):
    """How one optimizer step is spread over devices. It starts no process and scales no loss."""

    device: device
    rank: int
    size: int
    """How many processes there are; gradients are averaged over them."""
    replicas: int
    """How many devices this process splits a micro-batch over: 1, but for data parallel."""

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module whose forward and backward keep the replicas together."""

    def window(self, *, last: bool) -> AbstractContextManager[Any]:
        """Surrounds forward and backward of a micro-batch; the last one synchronises gradients."""

    def sum(self, values: np.ndarray) -> np.ndarray:
        """A float64 vector summed over all ranks, in host memory."""

    def broadcast(self, value: Any) -> Any:
        """Rank 0's JSON value, on every rank."""


@dataclass(frozen=True, kw_only=True)
class Approximation:
    """What the gate asks of an export whose numbers are not the model's (rounded weights).

    Attributes:
        min_agreement: The least share of validation texts whose label stays.
        max_drop: The most that the task's first metric may get worse: its value where higher is
            better, a share of it where lower is.
    """

    min_agreement: float = 0.98
    max_drop: float = 0.01


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What an exporter wrote.

    Attributes:
        path: Its folder.
        files: The model's files in it.
        note: A line for whoever exports, or "".
        approximation: None where the numbers are the model's, to 1e-4; else how the gate judges.
        parity: What the gate found; the core fills it in.
    """

    path: Path
    files: Sequence[Path]
    note: str = ""
    approximation: Approximation | None = None
    parity: Mapping[str, Any] = field(default_factory=dict)


class Exporter(Protocol):
    """Writes a trained model for use elsewhere; the core's gate then judges what it wrote.

    It may have a method `check(config)`, which is given the resolved config before anything is
    trained: the sentences that it gives say why it could not write such a run's model, and the run
    is refused with them. Without it, or with none, the run begins.
    """

    def export(
        self,
        model: nn.Module,
        inputs: Sequence[str],
        sample: Mapping[str, np.ndarray],
        out: Path,
    ) -> Artifact:
        """Writes into the folder `out`; `sample` is a batch of two texts, by name.

        `out` has nlpkit.json (task, labels, model) and the tokenizer already. The model is in
        evaluation mode, on the CPU, in float32, and takes `inputs` in this order.
        """

    def open(self, path: Path) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        """Loads what `export` wrote into `path`: a function of inputs by name that gives logits.

        It is called in a process that knows nothing but the folder.
        """


class Launcher(Protocol):
    """Starts the processes of a run; its folder and the token store are all that they need."""

    def launch(self, run_dir: Path, ranks: int, stop: Callable[[], bool]) -> bool:
        """Runs `ranks` processes to the end: true; or, once `stop` says so, saves: false.

        `ranks` is 0 for a strategy that wants no processes of its own, and where the processes run
        on other machines, whose devices only the launcher knows. Raises what the run raised.
        """


class Observer:
    """Watches a run; override what is of interest. It can neither change nor stop training."""

    def run_started(self, event: RunStarted) -> None:
        """Before the first step."""

    def step_ended(self, event: StepEnded) -> None:
        """After each optimizer step."""

    def evaluated(self, event: Evaluated) -> None:
        """After each evaluation."""

    def checkpoint_saved(self, event: CheckpointSaved) -> None:
        """After a checkpoint was written, at the end of the step that training was in then."""

    def run_ended(self, event: RunEnded) -> None:
        """After the last evaluation, or when the run failed."""


def windows_of(encoding: Encoding) -> list[Encoding]:
    """What a windowed task encodes of a text: its first window, and those that follow."""
    return [encoding, *encoding.overflowing][:MOST_WINDOWS]


def pad(arrays: Sequence[np.ndarray], value: int = 0) -> np.ndarray:
    """1-D arrays as one [batch, longest] array, filled up with `value` on the right."""
    padded = np.full((len(arrays), max(map(len, arrays))), value, dtype=arrays[0].dtype)
    for row, array in enumerate(arrays):
        padded[row, : len(array)] = array
    return padded
