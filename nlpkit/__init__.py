"""Train Transformer NLP models exactly: one config, plugins for the rest.

Names are imported on first use (PEP 562), so that `import nlpkit` costs milliseconds and no torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from nlpkit.errors import (
    BundleError,
    CheckpointError,
    ConfigError,
    DataError,
    InputError,
    Interrupted,
    NlpkitError,
    NonFiniteError,
    PluginError,
    Problem,
    RunError,
)
from nlpkit.plugin.records import (
    CommandRecord,
    ExporterRecord,
    LauncherRecord,
    ModelRecord,
    ObserverRecord,
    SourceRecord,
    StrategyRecord,
    TaskRecord,
    TokenizerRecord,
)
from nlpkit.plugin.spec import hookimpl
from nlpkit.version import __version__ as __version__

if TYPE_CHECKING:
    from nlpkit import contracts, testing
    from nlpkit.bundle.export import export
    from nlpkit.bundle.load import load
    from nlpkit.checking.config import check
    from nlpkit.config.load import load_config
    from nlpkit.config.schema import ComponentConfig, FolderOrId, Location, Secret
    from nlpkit.plugin.host import plugins
    from nlpkit.run.evaluate import evaluate
    from nlpkit.run.train import Run, submit, train

_SILENT = {
    "ORT_DISABLE_TELEMETRY": "1",  # read when onnxruntime is imported, and never again
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""What keeps libraries from reporting to their makers, in this process and its children."""

for _name, _value in _SILENT.items():
    os.environ[_name] = os.environ.get(_name) or _value  # empty says nothing

_LAZY = {
    "nlpkit.bundle.export": ("export",),
    "nlpkit.bundle.load": ("load",),
    "nlpkit.checking.config": ("check",),
    "nlpkit.config.load": ("load_config",),
    "nlpkit.config.schema": ("ComponentConfig", "FolderOrId", "Location", "Secret"),
    "nlpkit.plugin.host": ("plugins",),
    "nlpkit.run.evaluate": ("evaluate",),
    "nlpkit.run.train": ("Run", "submit", "train"),
}
"""Names by the module that has them."""

__all__ = [
    "BundleError",
    "CheckpointError",
    "CommandRecord",
    "ComponentConfig",
    "ConfigError",
    "DataError",
    "ExporterRecord",
    "FolderOrId",
    "InputError",
    "Interrupted",
    "LauncherRecord",
    "Location",
    "ModelRecord",
    "NlpkitError",
    "NonFiniteError",
    "ObserverRecord",
    "PluginError",
    "Problem",
    "Run",
    "RunError",
    "Secret",
    "SourceRecord",
    "StrategyRecord",
    "TaskRecord",
    "TokenizerRecord",
    "check",
    "contracts",
    "evaluate",
    "export",
    "hookimpl",
    "load",
    "load_config",
    "plugins",
    "submit",
    "testing",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in ("contracts", "testing"):
        return importlib.import_module(f"nlpkit.{name}")
    if name in ("evaluate", "export"):  # which import torch, and that ends the process there
        importlib.import_module("nlpkit.environment").working_folder()
    for module, names in _LAZY.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(module), name)
            return value
    raise AttributeError(f"module 'nlpkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
