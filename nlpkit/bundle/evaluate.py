"""The metrics of a trained model on rows that it has not seen."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from nlpkit.bundle.load import data_of, load
from nlpkit.bundle.predict import check_batch_size
from nlpkit.cli.render import Terminal
from nlpkit.config.resolve import build, build_objective
from nlpkit.config.schema import Component
from nlpkit.data.encode import Encoder
from nlpkit.data.loader import evaluation_batches
from nlpkit.data.rows import BadRows, remarks, scan, write_rows
from nlpkit.data.store import StoreWriter, TokenStore
from nlpkit.errors import DataError, InputError
from nlpkit.files import replacing
from nlpkit.nn import StepModule
from nlpkit.training import evaluation
from nlpkit.training.predictions import put_in_order, recorded

if TYPE_CHECKING:
    from nlpkit.bundle.predict import Model
    from nlpkit.bundle.torch_engine import TorchEngine
    from nlpkit.contracts import Source
    from nlpkit.training.predictions import Record

_FILES = Component(name="files")


def evaluate(
    run: str | os.PathLike[str],
    data: Any,
    *,
    output: str | Path | None = None,
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int = 64,
    trust_plugins: bool = False,
    terminal: Terminal | None = None,
) -> dict[str, float]:
    """The loss and the metrics of a trained model on other rows.

    Args:
        run: A Run, a run folder or a bundle.
        data: A location that the run's source reads (a file or URL), or rows in memory: a list of
            mappings, a pandas DataFrame or a datasets.Dataset.
        output: A .jsonl file that gets a line for each row, in their order: its address, target,
            prediction and score.
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: "fp32", or "auto": what training would take on the device.
        batch_size: Rows that go through the model together.
        trust_plugins: Whether plugins that a bundle brings are executed.
        terminal: Where progress is shown.

    Raises:
        BundleError: There is no whole bundle.
        DataError: A row cannot be used, or there are none.
        InputError: `output` cannot be written.
    """
    file = None if output is None else _checked(Path(os.path.expanduser(output)), data)
    check_batch_size(batch_size)
    model = load(
        run, device=device, precision=precision, trust_plugins=trust_plugins, backend="torch"
    )
    with TemporaryDirectory() as folder:
        source, location = _source(model, data, Path(folder))
        store = _encoded(model, source, location, Path(folder), terminal or Terminal())
        lines = Path(folder, "predictions")
        with recorded(lines, model.task, model.bundle.schema, store) as record:
            values = _values(model, store, batch_size, record if file else None)
        if file:
            put_in_order(lines, ranks=1, rows=len(store))
            with replacing(file) as partial:
                shutil.copyfile(lines, partial)
    return values


def _values(
    model: Model, store: TokenStore, batch_size: int, record: Record | None
) -> dict[str, float]:
    engine, schema = cast("TorchEngine", model.engine), model.bundle.schema
    objective = build_objective(model.bundle.task, model.host, schema)
    found = evaluation.evaluate(
        StepModule(engine.model, objective, model.bundle.head).to(engine.device),
        evaluation_batches(
            store,
            model.task,
            batch_size=batch_size,
            rank=0,
            size=1,
            workers=0,
            prefetch=1,
            pin_memory=False,
        ),
        model.task.metrics(schema),
        strategy=build(Component(name="single"), "strategy", model.host, engine.device),
        precision=engine.precision,
        record=record,
    )
    return cast("evaluation.Evaluation", found).values  # never None, for nothing stops it


def _checked(path: Path, data: Any) -> Path:
    """The file of the output. Raises InputError where it cannot be one."""
    if path.suffix != ".jsonl":
        raise InputError(f"{path}: output=FILE must end in .jsonl")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise InputError(f"{path}: {what}; name a file in a folder that is there")
    if isinstance(data, str | Path) and path.exists() and Path(data).exists():
        if path.samefile(data):
            raise InputError(f"{path}: is the data; name another output=FILE")
    return path


def _source(model: Model, data: Any, folder: Path) -> tuple[Source, str]:
    """Rows in memory become a file; a location is read by the run's source, else by `files`."""
    if not isinstance(data, str | Path):
        location = folder / "rows.jsonl"
        write_rows(data, location, "data", columns=getattr(model.task, "columns", None))
        return build(_FILES, "source", model.host), str(location)
    return build(data_of(model.bundle) or _FILES, "source", model.host), str(data)


def _encoded(
    model: Model, source: Source, location: str, folder: Path, terminal: Terminal
) -> TokenStore:
    bad = BadRows("error")
    rows, _ = scan(source, location, model.task, bad)
    for remark in remarks(source):
        terminal.note(f"warning: {remark}")
    encoder = Encoder(task=model.task, tokenizer=model.tokenizer, schema=model.bundle.schema)
    with StoreWriter(folder / "store") as writer:
        with terminal.bar("tokenizing", len(rows), "rows") as bar:
            encoder.write(rows, writer, bad, bar)
    if bad.count:
        problems = "\n".join(each["problem"] for each in bad.summary()[:10])
        rows_ = "1 bad row" if bad.count == 1 else f"{bad.count:,} bad rows"
        remedy = "an evaluation takes none: correct or remove them"
        if not writer.count:
            remedy = "none is good: an evaluation compares with targets, nlpkit predict needs none"
        raise DataError("", problem=f"{problems}\n{rows_}; {remedy}")
    if not writer.count:
        raise DataError(location, problem="has no rows")
    return TokenStore.open(folder / "store")
