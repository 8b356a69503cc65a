"""The metrics of a trained model on rows that it has not seen."""

from __future__ import annotations

import json
import os
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from nlpkit.bundle.fields import check_count
from nlpkit.bundle.forms import check_output, fields_of, form_of, kept_of
from nlpkit.bundle.load import data_of, load
from nlpkit.cli.render import Terminal
from nlpkit.config.resolve import build, build_objective
from nlpkit.config.schema import Component
from nlpkit.contracts import Codec
from nlpkit.data.encode import in_pieces
from nlpkit.data.loader import Loading, evaluation_batches
from nlpkit.data.rows import BadRows, check_columns, remarks, scan, write_rows
from nlpkit.data.store import StoreWriter, TokenStore
from nlpkit.errors import DataError, InputError
from nlpkit.files import replacing
from nlpkit.nn import StepModule
from nlpkit.training import evaluation
from nlpkit.training.predictions import put_in_order, recorded, said

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nlpkit.bundle.forms import Form
    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Row, Source
    from nlpkit.data.rows import Rows
    from nlpkit.engine.torch import TorchEngine
    from nlpkit.training.predictions import Record

_FILES = Component(name="files")


def evaluate(
    run: str | os.PathLike[str],
    data: Any,
    *,
    output: str | Path | None = None,
    encoding: str = "utf-8",
    keep: Sequence[str] = (),
    generate: Mapping[str, Any] | None = None,
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
        output: A .jsonl, .csv or .tsv file that gets a line for each row, in their order: its
            address, target, prediction and score.
        encoding: Of a csv or tsv: "utf-8", or "utf-8-sig", which Excel wants.
        keep: Columns of the data that a line has too, before those.
        generate: As `Model.predict` has it, of a task whose metrics see what it writes.
        device: "auto", "cpu", "mps", "cuda" or "cuda:1".
        precision: "fp32", or "auto": what training would take on the device.
        batch_size: Rows that go through the model together.
        trust_plugins: Whether plugins that a bundle brings are executed.
        terminal: Where progress is shown.

    Raises:
        BundleError: There is no whole bundle.
        DataError: A row cannot be used, or there are none.
        InputError: `output` cannot be written, or nothing can be generated so.
    """
    file = None if output is None else Path(os.path.expanduser(output))
    _check_output(file, data, encoding, keep)
    check_count("batch_size", batch_size)
    model = load(
        run, device=device, precision=precision, trust_plugins=trust_plugins, backend="torch"
    )
    model.codec.settings(generate or {})  # what is wrong with them is said before any row is read
    if file and in_pieces(model.codec):
        raise InputError(f'{file}: task "{model.bundle.task.name}" predicts nothing of such rows')
    with TemporaryDirectory() as folder:
        form = form_of(file, partial(_columns, model), encoding, keep=keep)
        rows, store = _encoded(model, data, Path(folder), terminal or Terminal(), keep)
        lines = Path(folder, "predictions")
        unrecorded = partial(said, model.codec, model.engine, generate=generate)
        with recorded(lines, model.codec, model.engine, store, generate=generate) as record:
            values = _values(model, store, batch_size, record if file else unrecorded)
        if file:
            put_in_order(lines, ranks=1, rows=len(store))
            _write(lines, file, form, rows if keep else repeat(None), keep)
    return values


def _columns(model: Model) -> list[str]:
    """The names of a line's fields, as `recorded` gives them."""
    target = ["target"] if type(model.codec).gold is not Codec.gold else []
    return ["address", *target, "prediction", *fields_of(model)[1:]]


def _write(
    lines: Path, file: Path, form: Form, rows: Iterable[Row | None], keep: Sequence[str]
) -> None:
    """Writes lines of predictions as `file` has them, each behind what is kept of its row."""
    with replacing(file) as whole, lines.open("rb") as said, whole.open("wb") as written:
        written.write(form.head)
        for line, row in zip(said, rows, strict=False):
            kept = kept_of(row.values, keep) if row else {}
            written.write(form.record({**kept, **json.loads(line)}))


def _values(model: Model, store: TokenStore, batch_size: int, record: Record) -> dict[str, float]:
    engine = cast("TorchEngine", model.engine)
    objective = build_objective(model.bundle.task, model.host, model.bundle.schema)
    batches = partial(evaluation_batches, store, model.codec, batch_size, Loading())
    found = evaluation.evaluate(
        StepModule(engine.model, objective, model.bundle.head).to(engine.device),
        batches(),
        model.codec.metrics(),
        strategy=build(Component(name="single"), "strategy", model.host, engine.device),
        precision=engine.precision,
        record=record,
        predicted=batches(),
    )
    return cast("evaluation.Evaluation", found).values  # never None, for nothing stops it


def _check_output(path: Path | None, data: Any, encoding: str, keep: Sequence[str]) -> None:
    """Raises InputError where the output cannot be one."""
    check_output(path, encoding)
    if path is None and keep:
        raise InputError("keep=NAMES is for an output=FILE")
    if path and isinstance(data, str | Path) and path.exists() and Path(data).exists():
        if path.samefile(data):
            raise InputError(f"{path}: is the data; name another output=FILE")


def _encoded(
    model: Model, data: Any, folder: Path, terminal: Terminal, keep: Sequence[str]
) -> tuple[Rows, TokenStore]:
    """Rows in memory become a file; a location is read by the run's source, else by `files`."""
    described, location = _FILES, str(folder / "rows.jsonl")
    if isinstance(data, str | Path):
        described, location = data_of(model.bundle) or _FILES, str(data)
    else:
        columns = model.task.reads
        write_rows(data, Path(location), "data", columns=columns and [*columns, *keep])
    source: Source = build(described, "source", model.host)
    bad = BadRows("error")
    rows, _ = scan(source, location, model.task, bad)
    for row in islice(rows, 1):
        check_columns(row, keep, row.address, "choose with keep=NAMES")
    for remark in remarks(source):
        terminal.note(f"warning: {remark}")
    with StoreWriter(folder / "store") as writer:
        with terminal.bar("tokenizing", len(rows), "rows") as bar:
            model.encoder.write(rows, "evaluate", writer, bad, bar)
    if bad.count:
        problems = "\n".join(each["problem"] for each in bad.summary()[:10])
        rows_ = "1 bad row" if bad.count == 1 else f"{bad.count:,} bad rows"
        remedy = "an evaluation takes none: correct or remove them"
        if not writer.count:
            remedy = "none is good: an evaluation compares with targets, nlpkit predict needs none"
        raise DataError("", problem=f"{problems}\n{rows_}; {remedy}")
    if not writer.count:
        raise DataError(location, problem="has no rows")
    return rows, TokenStore.open(folder / "store")
