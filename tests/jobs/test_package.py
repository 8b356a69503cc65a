"""What travels: the code that a config needs, told from other code by its content."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import nlpkit
from nlpkit.checks import examine
from nlpkit.errors import InputError
from nlpkit.plugin.host import Host
from nlpkit_ray.contents import fingerprint
from nlpkit_ray.package import LIMIT, Package, distributions_of, unpack

CODE = "VALUE = {value}\n"


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a distribution `few` with a plugin's entry point, and installs it in some way."""
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "cache"))

    def install(value: int, where: str, *options: str) -> Path:
        source = tmp_path / f"source-{where}"
        (source / "few").mkdir(parents=True, exist_ok=True)
        (source / "few" / "__init__.py").write_text(CODE.format(value=value))
        (source / "pyproject.toml").write_text(
            '[project]\nname = "few"\nversion = "1"\n'
            '[project.entry-points.nlpkit]\nfew = "few"\n[tool.setuptools]\npackages = ["few"]\n'
        )
        target = tmp_path / where
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", *options]
        given = ["--no-build-isolation", "--target", str(target), str(source)]
        subprocess.run([*command, *given], check=True, capture_output=True)
        return target

    return install


def seen_from(folder: Path) -> dict[str, str]:
    """What a Python that has this folder on its path says of `few`."""
    code = (
        f"import sys, site; site.addsitedir({str(folder)!r}); sys.path.insert(0, {str(folder)!r})\n"
        "from nlpkit_ray.contents import fingerprint\nprint(fingerprint('few'))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return dict(eval(run.stdout))


def test_the_same_code_has_one_fingerprint_installed_edited_and_unpacked(
    distribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = distribution(1, "installed")
    found = seen_from(installed)
    assert found["version"] == "1"
    assert seen_from(distribution(1, "again")) == found
    assert seen_from(distribution(1, "edited", "--editable")) == found
    assert seen_from(distribution(2, "other"))["sha256"] != found["sha256"]
    assert seen_from(distribution(2, "edited", "--editable"))["sha256"] != found["sha256"]
    monkeypatch.syspath_prepend(installed)
    unpack("few", tmp_path / "travels")
    assert seen_from(tmp_path / "travels") == found


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
    config = examine(nlpkit.load_config({"name": "a", "data": "sample"}), host).config
    assert config is not None
    assert distributions_of(config, host) == ["nlpkit-sdk"]
    named = config.model_copy(update={"plugins": ("pytest",)})
    assert distributions_of(named, host) == ["nlpkit-sdk", "pytest"]
    nowhere = config.model_copy(update={"plugins": ("no_such.module",)})
    with pytest.raises(InputError, match=r"no_such.module belongs to no installed distribution"):
        distributions_of(nowhere, host)
