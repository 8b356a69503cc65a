from __future__ import annotations

import importlib
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a throw-away distribution with one plugin: `install("echo", "its source")`."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)

    def install(name: str, source: str, *, version: str = "1.0", requires: str = "") -> Path:
        module = f"{name}_plugin"
        path = folder / f"{module}.py"
        path.write_text(dedent(source))
        info = folder / f"{name}_dist-{version}.dist-info"
        info.mkdir()
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        info.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: {version}\n{needs}"
        )
        info.joinpath("entry_points.txt").write_text(f"[nlpkit]\n{name} = {module}\n")
        importlib.invalidate_caches()
        return path

    yield install
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def fresh_modules(tmp_path):
    """Forgets the modules that a test loaded from its own folder."""
    yield
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


MODEL = """
    import nlpkit

    @nlpkit.hookimpl
    def nlpkit_models():
        yield nlpkit.ModelRecord(name="{name}", target="{target}")
"""


@pytest.fixture
def model_source():
    """Source of a plugin that gives one model."""
    return lambda name, target="json:loads": MODEL.format(name=name, target=target)
