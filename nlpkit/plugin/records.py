"""What a plugin yields: frozen records of import strings (`module:name`), so listing costs nothing.

Every field has a default but `name` and `target`, so that new fields break no plugin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Record:
    """A component that a config or a command line can name.

    Attributes:
        name: What the config says.
        target: Import string of what builds the component; each kind of record says how.
        config: Import string of a `nlpkit.ComponentConfig`, or "" where there are no options.
        summary: One line for listings.
        extra: The extra of nlpkit-sdk that brings what the target imports, such as "train".
    """

    kind: ClassVar[str] = ""

    name: str
    target: str
    config: str = ""
    summary: str = ""
    extra: str = ""


@dataclass(frozen=True, kw_only=True)
class SourceRecord(Record):
    """Reads rows; `target(options)` gives a `contracts.Source`."""

    kind: ClassVar[str] = "source"


@dataclass(frozen=True, kw_only=True)
class TokenizerRecord(Record):
    """Makes a tokenizer; `target(options, texts)` gives a `tokenizers.Tokenizer`.

    Attributes:
        trained: Whether it learns from the training texts; otherwise `texts` is None.
        check: Import string, or ""; `check(options)` gives the `nlpkit.Problem`s of what it reads,
            for `nlpkit check` and before training.
        roles: Import string, or ""; `roles(options)` gives its special tokens (or their ids) by
            role, as `contracts.Vocabulary` has them, where a tokenizer.json would not tell.
    """

    kind: ClassVar[str] = "tokenizer"

    trained: bool = True
    check: str = ""
    roles: str = ""


@dataclass(frozen=True, kw_only=True)
class TaskRecord(Record):
    """Says what is learned; `target(options)` gives a `contracts.Task`, without torch.

    Attributes:
        objective: Import string; `objective(options, schema)` gives a `contracts.Objective`.
        writes: Whether it writes text, so that tokens have to give it back: its tokenizer is `bpe`
            by default, and whichever it is keeps capitals by default.
    """

    kind: ClassVar[str] = "task"

    objective: str = ""
    writes: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelRecord(Record):
    """Builds a network; `target(options, head, vocabulary, *, weights)` gives an `nn.Module`.

    Attributes:
        resolve: Import string, without torch; `resolve(options)` gives a `contracts.Resolution`.
        check: Import string, or "", without torch; as that of a tokenizer.
        levels: The levels of `contracts.HeadSpec` that it can give.
        documents: Whether it heeds `document_ids` and `position_ids`, so that the documents which
            share a packed row do not see each other.
    """

    kind: ClassVar[str] = "model"

    resolve: str = ""
    check: str = ""
    levels: tuple[str, ...] = ("sequence", "token")
    documents: bool = False


@dataclass(frozen=True, kw_only=True)
class StrategyRecord(Record):
    """Spreads a step over devices; `target(options, device)` gives a `contracts.Strategy`.

    Attributes:
        precisions: The precisions that it accepts.
        ranks: Whether each device gets a process of its own, in one process group; the option
            `devices` then says how many.
    """

    kind: ClassVar[str] = "strategy"

    precisions: tuple[str, ...] = ("fp32", "bf16", "fp16")
    ranks: bool = False


@dataclass(frozen=True, kw_only=True)
class ExporterRecord(Record):
    """Writes a trained model for elsewhere; `target(options)` gives a `contracts.Exporter`.

    Attributes:
        needs: Modules that writing imports: a run that names the exporter looks for them before it
            trains. What only opens an export should not need them.
        inert: Whether opening an export executes no code of it, whoever wrote it (a pickle does).
            Others are opened where they were written, or with trust_plugins.
        one_graph: Whether it writes no models of several graphs, which tasks with a source have.
    """

    kind: ClassVar[str] = "exporter"

    needs: tuple[str, ...] = ()
    inert: bool = False
    one_graph: bool = False


@dataclass(frozen=True, kw_only=True)
class LauncherRecord(Record):
    """Starts a run's processes; `target(options)` gives a `contracts.Launcher`.

    Attributes:
        remote: Whether they run on other machines, so that the devices of this one do not matter.
    """

    kind: ClassVar[str] = "launcher"

    remote: bool = False


@dataclass(frozen=True, kw_only=True)
class ObserverRecord(Record):
    """Watches a run; `target(options, terminal)` gives a `contracts.Observer`."""

    kind: ClassVar[str] = "observer"


@dataclass(frozen=True, kw_only=True)
class CommandRecord(Record):
    """A command of the command line; `target` is a click command, imported when it is called.

    Attributes:
        group: The heading of `nlpkit --help` that it stands under.
        example: A line that one would type.
    """

    kind: ClassVar[str] = "command"

    group: str = "More"
    example: str = ""


KINDS = {record.kind: record for record in Record.__subclasses__()}
