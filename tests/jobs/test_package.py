"""What travels: the code that a config needs, told from other code by its content."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import nlpkit
from nlpkit.checking.config import examine
from nlpkit.errors import InputError
from nlpkit.plugin.host import Host
from nlpkit_ray.contents import fingerprint
from nlpkit_ray.package import LIMIT, Package, distributions_of, unpack

INFO = "few-1.dist-info"


def installed(folder: Path, value: int, *, editable: bool = False) -> Path:
    """A folder of distributions with `few`, as pip leaves it; its code is elsewhere if editable."""
    code = folder.with_name(f"{folder.name}-source") if editable else folder
    files = {
        f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: few\nVersion: 1\n",
        f"{INFO}/entry_points.txt": "[nlpkit]\nfew = few\n",
    }
    sources = {"few/__init__.py": f"VALUE = {value}\n", "few/data.txt": "a"}
    files |= {"few.pth": f"{code}\n"} if editable else sources
    for base, each in ((folder, files), (code, sources)):
        for name, text in each.items():
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).write_text(text)
    lines = [f"{name},sha256={_digest(text)},{len(text)}" for name, text in files.items()]
    (folder / INFO / "RECORD").write_text("\n".join([*lines, f"{INFO}/RECORD,,"]))
    return folder


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def seen_from(folder: Path) -> dict[str, str]:
    """What a Python that has this folder of distributions says of `few`."""
    code = (
        f"import json, site, sys\nsys.path.insert(0, {str(folder)!r})\n"
        f"site.addsitedir({str(folder)!r})\nfrom nlpkit_ray.contents import fingerprint\n"
        "print(json.dumps(fingerprint('few')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(run.stdout)
    return found


def test_the_same_code_has_one_fingerprint_installed_edited_and_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = seen_from(installed(tmp_path / "first", 1))
    assert found["version"] == "1"
    assert seen_from(installed(tmp_path / "second", 1)) == found
    assert seen_from(installed(tmp_path / "third", 1, editable=True)) == found
    assert seen_from(installed(tmp_path / "other", 2))["sha256"] != found["sha256"]
    edited = installed(tmp_path / "third", 2, editable=True)
    assert seen_from(edited)["sha256"] != found["sha256"]
    monkeypatch.syspath_prepend(tmp_path / "first")
    unpack("few", tmp_path / "travels")
    assert seen_from(tmp_path / "travels") == found


@pytest.mark.slow
def test_an_unpacked_distribution_keeps_its_entry_points(tmp_path: Path) -> None:
    """nlpkit itself, editable here or not."""
    unpack("nlpkit-sdk", tmp_path)
    assert (tmp_path / "nlpkit" / "__init__.py").is_file()
    assert (tmp_path / "nlpkit_ray" / "driver.py").is_file()
    assert not list(tmp_path.rglob("*.pyc"))
    (info,) = tmp_path.glob("nlpkit_sdk-*.dist-info")
    text = (info / "entry_points.txt").read_text()
    for point in entry_points(group="nlpkit", name="ray"):
        assert f"{point.name} = {point.value}" in text


def test_what_is_not_installed_has_no_fingerprint() -> None:
    assert fingerprint("no-such-distribution") is None


def test_a_package_over_the_limit_names_its_ten_largest_files(tmp_path: Path) -> None:
    for number in range(12):
        with (tmp_path / f"{number:02}.bin").open("wb") as file:
            file.truncate((number + 1) * (2 << 20))
    with pytest.raises(InputError) as raised:
        Package(tmp_path).check()
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("12 files, 163.6 MB: at most 105 MB can travel")
    assert [line.split()[-1] for line in lines[1:]] == [f"{n:02}.bin" for n in range(11, 1, -1)]
    (tmp_path / "11.bin").unlink()
    for number in range(6, 11):
        (tmp_path / f"{number:02}.bin").unlink()
    assert Package(tmp_path).size <= LIMIT
    Package(tmp_path).check()


def test_the_distributions_of_a_config_are_those_of_its_components() -> None:
    host = Host.discover()
    config = examine(
        nlpkit.load_config({"name": "a", "data": "sample", "model": "transformer"}), host
    ).config
    assert config is not None
    assert distributions_of(config, host) == ["nlpkit-sdk"]
    named = config.model_copy(update={"plugins": ("pytest",)})
    assert distributions_of(named, host) == ["nlpkit-sdk", "pytest"]
    nowhere = config.model_copy(update={"plugins": ("no_such.module",)})
    with pytest.raises(InputError, match=r"no_such.module belongs to no installed distribution"):
        distributions_of(nowhere, host)
