"""What a cluster sends is unpacked into its folder only, whatever it sends."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from nlpkit.errors import RunError
from nlpkit_ray.job import unpack

FILE, LINK = tarfile.REGTYPE, tarfile.SYMTYPE
LONG, STEPS = "d" * 247, "abcdefghijklmnop"
CHAIN = f"{'/'.join(STEPS)}/{'l' * 254}"
# A short path of links that is too long once it is resolved: tarfile's filter gives up there, and
# so the last file lands beside the folder, where CPython is older than June 2025.
OVERFLOW = [
    *(("/".join([LONG] * (n + 1)), tarfile.DIRTYPE, "") for n in range(len(STEPS))),
    *(("/".join([*[LONG] * n, step]), LINK, LONG) for n, step in enumerate(STEPS)),
    (CHAIN, LINK, "../" * len(STEPS)),
    ("escape", LINK, f"{CHAIN}/../.."),
    ("mine", tarfile.LNKTYPE, "escape/mine"),
    ("mine", FILE, ""),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def packed(folder: Path, *members: tuple[str, bytes, str]) -> Path:
    """A tar beside a folder: `config.yaml` of a run, and members with type and target of a link."""
    path = folder.with_name("sent.tar")
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, type_, target in (("run/config.yaml", FILE, ""), *members):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = type_, target
            member.size = 4 if type_ == FILE else 0
            if target == "sparse":
                member.pax_headers = {"GNU.sparse.map": "0,4", "GNU.sparse.size": "4"}
            tar.addfile(member, io.BytesIO(b"text"))
    return path


def test_files_are_written(folder):
    unpack(packed(folder, ("run/logs", tarfile.DIRTYPE, ""), ("run/a/b:1", FILE, "")), folder)
    assert (folder / "run" / "a" / "b:1").read_bytes() == b"text"
    assert (folder / "run" / "config.yaml").read_bytes() == b"text"
    assert (folder / "run" / "logs").is_dir()


@pytest.mark.parametrize(
    "members",
    [
        [("../outside", FILE, "")],
        [("run/../../outside", FILE, "")],
        [("/tmp/outside", FILE, "")],
        [("C:/outside", FILE, "")],
        [("run\\outside", FILE, "")],
        [("run/..", tarfile.DIRTYPE, "")],
        [(".", FILE, "")],
        [("run/link", LINK, "/etc/hostname")],
        [("run/link", tarfile.LNKTYPE, "run/config.yaml")],
        [("run/pipe", tarfile.FIFOTYPE, "")],
        [("run/disk", tarfile.BLKTYPE, "")],
        [("run/holes", FILE, "sparse")],
        [("out", LINK, ".."), ("out/outside", FILE, "")],
        OVERFLOW,
        [("run/config.yaml", FILE, "")],
        [("run//config.yaml", FILE, "")],
        [("run/config.yaml/a", FILE, "")],
    ],
)
def test_anything_else_is_refused_before_a_file_is_written(members, folder):
    with pytest.raises(RunError, match="nothing of it was fetched"):
        unpack(packed(folder, *members), folder)
    assert {path.name for path in folder.parent.rglob("*")} == {"folder", "sent.tar"}


@pytest.mark.parametrize("damage", [b"", b"no tar at all" * 99])
def test_what_is_no_tar_is_said_to_be_damaged(damage, folder):
    path = folder.with_name("sent.tar")
    path.write_bytes(damage)
    with pytest.raises(RunError, match="damaged: .*; fetch it once more"):
        unpack(path, folder)
