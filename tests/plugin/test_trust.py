"""Trust in plugins: by content and by name, of this user, and never by place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nlpkit.plugin.trust import remember, trusted

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text("x = 1\n")
    return path


def test_a_file_is_trusted_by_its_content_wherever_it_lies(plugin: Path) -> None:
    assert not trusted(plugin)
    remember([plugin])
    copy = plugin.with_name("copy.py")
    copy.write_bytes(plugin.read_bytes())
    assert trusted(copy)
    copy.write_text("x = 2\n")
    assert not trusted(copy)


def test_a_module_is_trusted_by_its_name(tmp_path: Path) -> None:
    remember(["my_package.plugin"])
    assert trusted("my_package.plugin")
    assert not trusted("my_package")
    (tmp_path / "same.py").write_text("my_package.plugin")
    assert not trusted(tmp_path / "same.py")


def test_what_is_remembered_is_a_private_folder_of_empty_files(
    plugin: Path, tmp_path: Path
) -> None:
    remember([plugin, "a.b"])
    folder = tmp_path / "cache" / "trusted"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_size for path in folder.iterdir()] == [0, 0]


def test_where_nothing_can_be_written_nothing_is_trusted(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLPKIT_CACHE", str(plugin / "below-a-file"))
    remember([plugin])
    assert not trusted(plugin)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives away")
@pytest.mark.parametrize("name", ["", "*"])
def test_what_somebody_else_wrote_into_a_shared_cache_counts_nothing(
    plugin: Path, tmp_path: Path, name: str
) -> None:
    remember([plugin])
    folder = tmp_path / "cache" / "trusted"
    for path in folder.glob(name) if name else [folder]:
        os.chown(path, 12345, -1)
    assert not trusted(plugin)
