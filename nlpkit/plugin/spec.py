"""Every hook that a plugin can implement: one for each kind of component.

A hook is called once a process, before anything heavy is imported, and yields records, which are
only strings. A plugin is a module (or any object) whose hookimpls are marked with
`nlpkit.hookimpl`; a distribution names it in the entry-point group `nlpkit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

import pluggy

from nlpkit.plugin.records import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nlpkit.plugin import records

GROUP = "nlpkit"
"""The entry-point group that plugins are found by."""

F = TypeVar("F")
_spec = pluggy.HookspecMarker("nlpkit")
_impl = pluggy.HookimplMarker("nlpkit")


@overload
def hookimpl(function: F) -> F: ...
@overload
def hookimpl(*, optionalhook: bool) -> Callable[[F], F]: ...
def hookimpl(function: Any = None, *, optionalhook: bool = False) -> Any:
    """Marks a function as the implementation of the hook of the same name.

    An `optionalhook` is left out by an nlpkit that does not know it.
    """
    return _impl(function, optionalhook=optionalhook)


@_spec
def nlpkit_sources() -> Iterable[records.SourceRecord]:  # type: ignore[empty-body]
    """Sources of rows that a config can name under `data`. Example::

    @nlpkit.hookimpl
    def nlpkit_sources():
        yield nlpkit.SourceRecord(name="warehouse", target="my_rows:build", config="my_rows:Rows")
    """


@_spec
def nlpkit_tokenizers() -> Iterable[records.TokenizerRecord]:  # type: ignore[empty-body]
    """Tokenizers that a config can name under `tokenizer`. Example::

    @nlpkit.hookimpl
    def nlpkit_tokenizers():
        yield nlpkit.TokenizerRecord(name="bytes", target="my_bytes:build", trained=False)
    """


@_spec
def nlpkit_tasks() -> Iterable[records.TaskRecord]:  # type: ignore[empty-body]
    """Tasks that a config can name under `task`. Example::

    @nlpkit.hookimpl
    def nlpkit_tasks():
        yield nlpkit.TaskRecord(
            name="ranking", target="my_task.task:build", objective="my_task.objective:build"
        )
    """


@_spec
def nlpkit_models() -> Iterable[records.ModelRecord]:  # type: ignore[empty-body]
    """Models that a config can name under `model`. Example::

    @nlpkit.hookimpl
    def nlpkit_models():
        yield nlpkit.ModelRecord(
            name="bag",
            target="my_bag.model:build",
            config="my_bag.config:BagConfig",
            summary="Averaged embeddings",
        )
    """


@_spec
def nlpkit_strategies() -> Iterable[records.StrategyRecord]:  # type: ignore[empty-body]
    """Strategies that a config can name under `strategy`. Example::

    @nlpkit.hookimpl
    def nlpkit_strategies():
        yield nlpkit.StrategyRecord(name="my_ddp", target="my_ddp:build", precisions=("bf16",))
    """


@_spec
def nlpkit_exporters() -> Iterable[records.ExporterRecord]:  # type: ignore[empty-body]
    """Export formats. Example::

    @nlpkit.hookimpl
    def nlpkit_exporters():
        yield nlpkit.ExporterRecord(name="npz", target="my_npz:build", summary="NumPy archives")
    """


@_spec
def nlpkit_launchers() -> Iterable[records.LauncherRecord]:  # type: ignore[empty-body]
    """Launchers that a config can name under `launch`. Example::

    @nlpkit.hookimpl
    def nlpkit_launchers():
        yield nlpkit.LauncherRecord(name="batch", target="my_batch:build")
    """


@_spec
def nlpkit_observers() -> Iterable[records.ObserverRecord]:  # type: ignore[empty-body]
    """Observers that a config can list under `observers`. Example::

    @nlpkit.hookimpl
    def nlpkit_observers():
        yield nlpkit.ObserverRecord(name="ledger", target="my_ledger:build")
    """


@_spec
def nlpkit_commands() -> Iterable[records.CommandRecord]:  # type: ignore[empty-body]
    """Commands of the command line. Example::

    @nlpkit.hookimpl
    def nlpkit_commands():
        yield nlpkit.CommandRecord(name="tidy", target="my_tidy:command", summary="Remove old runs")
    """


HOOKS = {f"nlpkit_{kind}s".replace("ys", "ies"): kind for kind in KINDS}
"""Hook names, and the kind of the records that each yields."""
