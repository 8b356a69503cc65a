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

from nlpkit.errors import InputError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor, device, nn

    from nlpkit.errors import DataError
    from nlpkit.events import CheckpointSaved, Evaluated, RunEnded, RunStarted, StepEnded

Schema = Mapping[str, Any]
"""What a task learned from the training rows: plain JSON."""
Example = Mapping[str, Any]
"""One encoded row: 1-D arrays and scalars, the same in each row of a use."""
TextInput = str | tuple[str, str] | list[str]
"""What a tokenizer is given for one part of a row: a text, a pair of texts, or a list of words."""
Axes = Sequence[str | int]
"""The axes of an array: "rows", "tokens" and others of any size by name, fixed ones by size."""
Arrays = Mapping[str, np.ndarray]
Use = Literal["train", "evaluate", "predict"]
"""What examples are for: predicted rows have no targets, and trained ones no `Batch.about`."""


@dataclass(frozen=True)
class Row:
    """One row of a source: its values by column, and where it stands (`data/train.csv:1042`).

    A value that is neither text nor a number, nor what becomes one, is a DataError that says so:
    whoever needs it raises it.
    """

    values: Mapping[str, Any]
    address: str


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Of a text that is too long one end is kept."""

    keep: Literal["start", "end"] = "start"


@dataclass(frozen=True, kw_only=True)
class Windows:
    """A text that is too long comes in overlapping windows: rows of the inputs, and one sample.

    Attributes:
        most: How many a text has at most, so that none fills the memory; what follows is cut off.
        overlap: Tokens that a window shares with the one before; None: a quarter of its length.
    """

    most: int | None = 32
    overlap: int | None = None


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """A text of any length is encoded whole, and `Codec.samples` makes its pieces: nothing is lost.

    What looks like a special token in it is text, and the tokenizer puts none round it (the part
    has special=False). In prediction, where a row is one sample, an end of it is cut off as usual.

    Attributes:
        keep: The end that is kept then.
        roles: Special tokens that stand for themselves then, by role: ("mask",).
    """

    keep: Literal["start", "end"] = "end"
    roles: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Part:
    """How a part of a row is tokenized.

    Attributes:
        max_length: Tokens of it, or of a window, at most; None: as many as the model takes.
        long: What becomes of a text that is longer.
        special: Whether the tokenizer's own special tokens are put round it.
        needs: "ids" where `encode` looks at ids and type ids alone: encodings of single texts may
            lack tokens, words and offsets then, which saves a fifth of the tokenizer's time.
    """

    max_length: int | None = None
    long: Cut | Windows | Pieces = Cut()
    special: bool = True
    needs: Literal["ids", "words"] = "words"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples that go through the model together; the core sets `ids` and `weight`.

    Attributes:
        inputs: What models take, by name: padded arrays, of shape [rows, tokens] mostly.
        targets: What the objective takes, by name, by samples or by rows; empty in prediction.
        count: The denominator of the loss: the sum of what each sample counts (law 1).
        rows: How many rows of the inputs each sample has, int64 [samples]; None: one each.
        about: What `decode`, `gold` and metrics ask beside, by name: an array for each sample. It
            stays on the host, and no model sees it.
        weight: 1, or 0 for the stand-in of a rank without samples.
    """

    inputs: Mapping[str, Any]
    targets: Mapping[str, Any]
    count: float
    rows: Any = None
    about: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)
    ids: Any = field(default_factory=lambda: np.zeros(0, np.int64))
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """What a model's head gives.

    Attributes:
        size: Values for each place; where they are words the vocabulary's size.
        level: "sequence": [rows, size]; "token": [rows, tokens, size]; "next", the token that
            follows each, and "target", that of a text written by a source: the same; "vocabulary",
            the tokens at the places that the input `over` names: [rows, places, size].
        over: The input whose rows and tokens (or places) these are.
        labels: What the values are scores of, in order, where that has names.
        kind: Of the labels of a place one holds, or any number; or the value is a number itself.
    """

    size: int
    level: Literal["sequence", "token", "vocabulary", "next", "target"] = "sequence"
    over: str = "input_ids"
    labels: Sequence[str] = field(default=(), compare=False)
    kind: Literal["class", "multilabel", "regression"] = field(default="class", compare=False)

    def shape(self, inputs: Mapping[str, Any]) -> tuple[int, ...]:
        """The shape of what a head gives for these inputs."""
        return (*inputs[self.over].shape[: self.depth], self.size)

    def axes(self, inputs: Mapping[str, Axes]) -> Axes:
        """The axes of what a head gives, for inputs of these."""
        return (*inputs[self.over][: self.depth], self.size)

    @property
    def depth(self) -> int:
        """How many axes the output shares with the input."""
        return 1 if self.level == "sequence" else 2


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What is to be known of a tokenizer.

    Attributes:
        size: How many ids it has.
        max_length: The longest input, in tokens.
        special: The ids of special tokens by role (pad, unk, mask, bos, eos, sep, cls), where it
            has such a one. Two roles may share an id: what is padding only a mask says.
        tokenizer: The `tokenizers.Tokenizer`, for the way back; a model may be built without.
    """

    size: int
    max_length: int
    special: Mapping[str, int] = field(default_factory=dict)
    tokenizer: Any = field(default=None, compare=False, repr=False)

    def text(self, ids: Sequence[int]) -> str:
        """What ids stand for, without special tokens."""
        return str(self.tokenizer.decode(list(ids)))

    def token(self, id: int) -> str:
        """A token as the tokenizer has it: `##ing`, `Ġthe`; "" for an id that none has."""
        return self.tokenizer.id_to_token(id) or ""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What a model's `resolve(options)` found out before anything heavy is loaded.

    Attributes:
        options: The options, completed so that `build(..., weights=False)` needs no other file.
        learning_rate: The default of `train.learning_rate`.
        max_length: The longest input that the model can take, in tokens; None without a limit.
        vocabulary: How many ids of a tokenizer it knows; None: as many as there are.
        tokenizer: The tokenizer.json whose tokens it knows, while that is there; None: any.
    """

    options: Any
    learning_rate: float
    max_length: int | None = None
    vocabulary: int | None = None
    tokenizer: Path | None = None


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

    def update(self, output: Any, batch: Batch) -> None:
        """Adds a batch: `output` is the array that the objective's `output` gave.

        To a metric whose attribute `of` is "predictions" they are what it gets, a list.
        """

    def compute(self, state: np.ndarray) -> dict[str, float]:
        """The values named in `better`, from a summed state."""

    def details(self, state: np.ndarray) -> dict[str, Any]:
        """What a report shows beside the values (a confusion matrix): JSON, {} for nothing."""


class Task:
    """Says what a row means before it is tokenized: which columns are read, and what they teach.

    Attributes:
        columns: The columns that prediction fills, by part: {"text": ("text",)}; a pair is one part
            of two columns, and texts that are encoded apart are two parts.
        reads: All columns that it reads, None: any. Of rows in memory no other ones are stored.
        words: Whether a text may also be given as a list of its words.
        longest: The characters of a text at most, with its targets; more are an open quote mostly.
    """

    columns: Mapping[str, Sequence[str]]
    reads: Sequence[str] | None = None
    words: bool = False
    longest: int = 2_000_000

    def texts(self, row: Row, *, targets: bool) -> Mapping[str, TextInput]:
        """The texts of a row by part; with targets also the parts that prediction lacks.

        Raises:
            DataError: One is missing or empty.
        """
        raise NotImplementedError

    def stratum(self, row: Row) -> str:
        """The group that a split keeps in proportion, or "". Raises DataError for a bad target."""
        return ""

    def fit(self, rows: Iterable[Row]) -> Schema:
        """What the training split teaches before training: labels, counts. Plain JSON."""
        raise NotImplementedError

    def codec(self, schema: Schema, vocabulary: Vocabulary) -> Codec:
        """What encodes rows and decodes outputs, once schema and tokenizer are known."""
        raise NotImplementedError


class Codec:
    """The other half of a task: from rows and their tokens to batches, and back. Numpy only.

    Attributes:
        head: The head that a model needs.
        parts: How each part of `Task.texts` is tokenized.
        inputs: The axes of each input that `collate` gives; in prediction it may leave some to
            `predict`. Packed rows have `document_ids` and `position_ids` [rows, tokens] beside.
        pack: Whether consecutive samples for training are joined while they fit into one input.
        labels: How many training rows each label has; {} for a task without labels.
        ranked: The field of a prediction that `top_k` takes: values by label. "" for none.
    """

    head: HeadSpec
    parts: Mapping[str, Part] = {"text": Part()}
    inputs: Mapping[str, Axes] = {
        "input_ids": ("rows", "tokens"),
        "attention_mask": ("rows", "tokens"),
    }
    pack: bool = False
    labels: Mapping[str, int] = {}
    ranked: str = ""

    def __init__(self, schema: Schema, vocabulary: Vocabulary) -> None:
        self.schema, self.vocabulary = schema, vocabulary

    def encode(self, row: Row, encodings: Mapping[str, Any], use: Use) -> Example:
        """A row and its tokens as arrays.

        Args:
            row: The row.
            encodings: A `tokenizers.Encoding` by part; a list of them for a part in windows.
            use: Predicted rows have no targets.

        Raises:
            DataError: The row cannot be used.
        """
        raise NotImplementedError

    def samples(self, example: Example, use: Use) -> Iterable[Example]:
        """What a row becomes in training and evaluation: with a part in `Pieces` several samples.

        Nothing is predicted of rows in an evaluation then.
        """
        return [example]

    def joined(self, examples: Sequence[Example]) -> Example:
        """Samples, or a single one, in one row of the inputs, where none sees another: `pack`."""
        raise NotImplementedError

    def lengths(self, example: Example) -> Sequence[tuple[int, ...]]:
        """For each row of the inputs that an example becomes: its tokens, by part."""
        return [(len(example["input_ids"]),)]

    def collate(self, examples: Sequence[Example], seeds: Sequence[int]) -> Batch:
        """Pads examples; whatever is random in it depends on a sample's own seed only."""
        raise NotImplementedError

    def metrics(self) -> Sequence[Metric]:
        """Fresh metrics; the first value of the first one is the default of `eval.monitor`."""
        return []

    def settings(self, generate: Mapping[str, Any]) -> Any:
        """What `predict` and `refusal` get, of what is asked for the texts that a task writes.

        Raises:
            InputError: It cannot be had.
        """
        if generate:
            raise InputError("generate: the task writes no texts")
        return {}

    def refusal(self, example: Example, settings: Any) -> str:
        """Why a row cannot be predicted with such settings; "" where it can."""
        return ""

    def predict(self, engine: Engine, batch: Batch, settings: Any) -> Arrays:
        """What `decode` needs of a batch: the outputs of the model, run once."""
        return engine.run(batch.inputs)

    def decode(self, outputs: Arrays, batch: Batch) -> list[Prediction]:
        """What `predict` gave as predictions, one a sample: {"logits": float32} of most models."""
        raise NotImplementedError

    def writing(
        self, engine: Engine, batch: Batch, settings: Any, stopped: Callable[[int], bool]
    ) -> Iterator[tuple[int, Callable[[], str], Prediction | None]]:
        """`predict` and `decode` of a task that writes texts, told token by token.

        Gives, whenever a text has grown: its row, what gives the part of it that is sure, and at
        its end the prediction. Where `stopped`, asked after each token, says so, a row ends.
        """
        raise InputError("stream: the task writes no texts")

    def gold(self, batch: Batch) -> list[Prediction] | None:
        """What the targets of each sample say, as a prediction would; None for a task without.

        Files of predictions have its first field as `target`.
        """
        return None

    def faultless(self, example: Example) -> Prediction | None:
        """What a model without fault would write of an evaluated row: what its target's tokens
        give back. None for others, and for a task that writes nothing."""
        return None

    def remarks(self, row: Row, encodings: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        """What `nlpkit check` should warn of in a row that can be used: what it has, and a remedy.

        Rows with the same remark are counted: `("have no words", "…")` is said as "3 of 80 rows
        have no words". Nothing is cut off the encodings.
        """
        return ()


class Engine(Protocol):
    """Runs a network, whichever library does it."""

    graphs: Mapping[str, GraphSpec]
    """What can be run."""

    def run(self, inputs: Arrays, graph: str = "model") -> dict[str, np.ndarray]:
        """The outputs of a graph by name; floats as float32. It takes what it needs of `inputs`."""


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """What a graph takes and gives: the axes of its arrays, by name and in order.

    Names that begin with `past_` are what an earlier run gave as `present_`; their axis "past" is 0
    at first, and an axis "present" is "past" and "tokens" together.
    """

    inputs: Mapping[str, Axes]
    outputs: Mapping[str, Axes]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph of a model; one that has several gives them by name from its method `graphs()`.

    Attributes:
        module: Takes the inputs by place, and gives the outputs: a tensor, or a tuple of them.
        spec: Their names and axes.
        sample: Arrays by name to trace it with; the core makes them where a model gives none.
    """

    module: nn.Module
    spec: GraphSpec
    sample: Arrays = field(default_factory=dict)


class Objective(Protocol):
    """The loss: a SUM over the batch, never a mean; the core divides by the global count."""

    def total(self, logits: Tensor, targets: Mapping[str, Tensor], rows: Tensor | None) -> Tensor:
        """The summed loss, a scalar; `rows` is `Batch.rows`."""

    def output(self, logits: Tensor, targets: Mapping[str, Tensor], rows: Tensor | None) -> Tensor:
        """What leaves the device in evaluation, for metrics: usually the logits themselves."""


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


class Exporter:
    """Writes a trained model for use elsewhere; the core's gate then judges what it wrote."""

    def check(self, config: Any) -> Sequence[str]:
        """Why it could not write the model of such a run, by its resolved config: sentences."""
        return ()

    def export(self, graphs: Mapping[str, Graph], out: Path) -> Artifact:
        """Writes into the folder `out`.

        `out` has nlpkit.json (task, labels, model) and the tokenizer already. The modules are in
        evaluation mode, on the CPU, in float32.
        """
        raise NotImplementedError

    def open(self, path: Path) -> Mapping[str, Callable[[Arrays], Any]]:
        """Loads what `export` wrote into `path`: functions by the names of the graphs.

        Each takes inputs by name, and gives the outputs in their order: an array, or several. It is
        called in a process that knows nothing but the folder.
        """
        raise NotImplementedError


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


def pad(arrays: Sequence[np.ndarray], value: int = 0) -> np.ndarray:
    """1-D arrays as one [batch, longest] array, filled up with `value` on the right."""
    padded = np.full((len(arrays), max(map(len, arrays))), value, dtype=arrays[0].dtype)
    for row, array in enumerate(arrays):
        padded[row, : len(array)] = array
    return padded
