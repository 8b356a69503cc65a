"""What a cluster sends is unpacked into its folder only, also where Python has no filters."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from nlpkit.errors import RunError
from nlpkit_ray.job import unpack


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def packed(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarFile:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for each, type_ in (("run/config.yaml", tarfile.REGTYPE), (name, kind)):
            member = tarfile.TarInfo(each)
            member.type, member.linkname = type_, "/etc/hostname"
            member.size = 4 if type_ == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"text"))
    return tarfile.open(fileobj=io.BytesIO(buffer.getvalue()))


def test_files_are_written(folder):
    unpack(packed("run/bundle/weights"), str(folder))
    assert (folder / "run" / "bundle" / "weights").read_bytes() == b"text"
    assert (folder / "run" / "config.yaml").read_bytes() == b"text"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../outside", tarfile.REGTYPE),
        ("/tmp/outside", tarfile.REGTYPE),
        ("run/link", tarfile.SYMTYPE),
        ("run/link", tarfile.LNKTYPE),
    ],
)
def test_anything_else_is_refused_before_a_file_is_written(name, kind, folder):
    with pytest.raises(RunError, match="is no file of a run"):
        unpack(packed(name, kind), str(folder))
    assert [path.name for path in folder.parent.rglob("*")] == ["folder"]
