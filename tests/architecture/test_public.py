"""The public names: other programs are written against them."""

from __future__ import annotations

from pathlib import Path

import nlpkit

NAMES = [
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


def test_the_public_names_are_these():
    assert nlpkit.__all__ == NAMES


def test_every_public_name_is_there_and_documented():
    for name in NAMES:
        assert getattr(nlpkit, name).__doc__, name
        assert name in dir(nlpkit)


def test_no_module_of_the_core_has_the_name_of_something_else_that_is_public():
    modules = {path.stem for path in Path(nlpkit.__path__[0]).iterdir()}
    assert modules & {*NAMES} == {"contracts", "testing"}  # which are modules to everybody
