"""The distribution is nlpkit-sdk: `nlpkit` on PyPI is a stranger's package."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BARE_NAME = re.compile(r"""install\s+(?:-\S+\s+)*['"]?nlpkit(?![-_\w])""")
TEXTS = {".md", ".py", ".toml", ".yaml", ".yml", ".txt", ".cfg", ".ipynb", ".sh", ""}
GENERATED = {".venv", ".venv-floor", ".git", ".hypothesis", "build", "dist", "runs", "__pycache__"}


def texts() -> list[Path]:
    return [
        path
        for path in REPOSITORY.rglob("*")
        if path.suffix in TEXTS
        and not GENERATED & set(path.relative_to(REPOSITORY).parts)
        and not any(part.endswith("_cache") for part in path.parts)
        and path.is_file()
    ]


def test_the_pattern_knows_the_bare_name_from_the_distribution():
    assert BARE_NAME.search("pip install -U 'nlp" + "kit[train]'")
    assert not BARE_NAME.search("pip install -U 'nlpkit-sdk[train]'")
    assert not BARE_NAME.search("pip install -e tests/third_party/nlpkit_echo")


def test_no_text_tells_people_to_install_the_strangers_package():
    found = texts()
    assert REPOSITORY / "README.md" in found
    assert not [
        str(path.relative_to(REPOSITORY))
        for path in found
        if BARE_NAME.search(path.read_text("utf-8"))
    ]


def test_no_module_is_a_drawer_for_everything():
    drawers = {"utils", "util", "common", "helpers", "misc"}
    modules = [
        path for folder in ("nlpkit", "plugins") for path in (REPOSITORY / folder).rglob("*")
    ]
    assert not [path for path in modules if path.stem in drawers]
