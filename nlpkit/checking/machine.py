"""What a run needs of this machine: packages, devices, and room on the disk."""

from __future__ import annotations

import importlib.util
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

from nlpkit.config.resolve import build, secrets_of
from nlpkit.config.schema import BY_NAME
from nlpkit.environment import cache_folder, runs_folder
from nlpkit.errors import InputError, NlpkitError, Problem
from nlpkit.plugin.imports import quietly
from nlpkit.pretrained import Pretrained
from nlpkit.secrets import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlpkit.config.schema import Config
    from nlpkit.contracts import Strategy
    from nlpkit.plugin.host import Host
    from nlpkit.plugin.records import ExporterRecord, LauncherRecord, StrategyRecord

_STATES = 3  # a checkpoint holds the weights and AdamW's two moments


def machine_problems(config: Config, host: Host) -> list[Problem]:
    """What a resolved config asks for that this machine has not, and GPUs that stay idle."""
    if importlib.util.find_spec("torch") is None:
        message = "torch is not installed here, and training needs it"
        remedy = "pip install 'nlpkit-sdk[train]'"
        return [Problem(message=message, remedy=remedy, severity="warning")]
    if not _asks_for_devices(config):
        return []
    try:
        return [*_devices(config, host)]
    except InputError as error:
        return [*map(config.origin.placed, error.problems)]


def secret_problems(config: Config, host: Host) -> Iterator[Problem]:
    """Secrets of a resolved config whose environment variable is not set here."""
    for path, secret in secrets_of(config, host):
        try:
            secret.value()
        except InputError as error:
            yield config.origin.problem(path, str(error))


def folder_problems() -> Iterator[Problem]:
    """Folders that a run here would write to, and cannot."""
    for folder, variable in ((cache_folder(), "NLPKIT_CACHE"), (runs_folder(), "NLPKIT_RUNS")):
        place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        try:
            TemporaryDirectory(dir=place, prefix=".nlpkit-").cleanup()
        except OSError as error:
            remedy = f"set {variable} to a folder that can be written to"
            yield Problem(address=str(folder), message=str(error.strerror), remedy=remedy)


def export_problems(config: Config, host: Host) -> Iterator[Problem]:
    """Why a format of `export` could not be written, before a run has trained for nothing."""
    problem = config.origin.problem
    for place, component in enumerate(config.export):
        record = cast("ExporterRecord", host.entry("exporter", component.name).record)
        if missing := [name for name in record.needs if importlib.util.find_spec(name) is None]:
            for module in () if trains_elsewhere(config, host) else missing:
                message = f"{component.name} needs {module}, which is not installed"
                remedy = f"pip install 'nlpkit-sdk[{record.extra}]'"
                yield problem(("export", place), message, remedy)
            continue
        try:
            exporter = build(component, "exporter", host)
            with quietly(f'exporter "{component.name}"', NlpkitError):
                refusals = list(exporter.check(config))
        except InputError as error:
            refusals = [str(error)]
        for message in refusals:
            yield problem(("export", place), message)
    split = "train" if isinstance(config.data.validation, float | None) else "validation"
    location = getattr(config.data, split)
    if config.export and isinstance(location, str) and shown(location) != location:
        message = "its query is not stored with the run, and an export reads the rows again"
        yield problem(("data", split), message, BY_NAME)


def _asks_for_devices(config: Config) -> bool:
    """Whether it is worth the seconds of importing torch."""
    open_ended = config.precision == "fp16" or shutil.which("nvidia-smi") is not None
    return (
        config.strategy.name != "single"
        or config.device not in ("auto", "cpu")
        or (config.device == "auto" and open_ended)
    )


def _devices(config: Config, host: Host) -> Iterator[Problem]:
    """What is wrong with devices and precision here, and which GPUs stay idle."""
    import torch

    from nlpkit.engine.precision import resolve_device, resolve_precision
    from nlpkit.training.ranks import ranks_of

    warning = partial(config.origin.warning, ("strategy",))
    device = resolve_device(config.device)
    record = cast("StrategyRecord", host.entry("strategy", config.strategy.name).record)
    resolve_precision(config.precision, device, record.precisions)
    used = ranks_of(config, host)
    if not used:
        strategy: Strategy = build(config.strategy, "strategy", host, device)
        used = strategy.replicas
        yield from map(warning, getattr(strategy, "notes", ()))
    found = torch.cuda.device_count()
    if device.type == "cuda" and device.index is None and used < found:
        yield warning(f"{found - used} of {found} GPUs stay idle", "strategy: ddp uses them")


def trains_elsewhere(config: Config, host: Host) -> bool:
    """Whether the launcher takes the run to other machines, which are not looked at here."""
    return cast("LauncherRecord", host.entry("launcher", config.launch.name).record).remote


def disk_problems(config: Config, *, tokens: int) -> Iterator[Problem]:
    """Where a run would write more than there is room for.

    Args:
        config: The resolved config.
        tokens: How many bytes its token store takes.
    """
    needs = [(cache_folder(), tokens, "the tokens", "NLPKIT_CACHE")]
    if weights := _bytes_of_weights(config):
        kept = config.checkpoint.keep + 2  # the best one, and the one that is being written
        size = kept * _STATES * weights + weights
        what = f"{kept} checkpoints of {_gigabytes(_STATES * weights)} and the model"
        needs.append((runs_folder(), size, what, "NLPKIT_RUNS"))
    written: Counter[int] = Counter()
    for folder, size, what, variable in needs:
        place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
        disk = place.stat().st_dev
        written[disk] += size
        if (free := shutil.disk_usage(place).free) < written[disk]:
            yield Problem(
                address=str(folder),
                message=f"{_gigabytes(free)} are free, and {what} take {_gigabytes(size)}",
                remedy=f"make room, or set {variable} to a folder on another disk",
                severity="warning",
            )


def _bytes_of_weights(config: Config) -> int:
    """Of a pretrained model in a local folder; 0 where the size is not known yet."""
    pretrained = config.model.options.get("pretrained")
    if not isinstance(pretrained, str) or not Path(pretrained).is_dir():
        return 0
    found = Pretrained(pretrained, "model.pretrained").read_files(weights=True)
    kinds = (".bin", ".safetensors")
    return sum(path.stat().st_size for path in found if path.suffix in kinds)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
