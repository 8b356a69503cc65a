"""What pyproject.toml says, what lies in the folders and what is installed are the same."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
PACKAGES = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
PLUGINS = sorted(
    path.parent for part in ("plugins", "jobs") for path in (REPOSITORY / part).glob("*/plugin.py")
)


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def hashed(name: str) -> dict[str, tuple[str, set[str]]]:
    """Version and hashes of each package in a file of requirements."""
    lines = (REPOSITORY / name).read_text("utf-8").replace("\\\n", " ").splitlines()
    found = {}
    for pin, *hashes in (line.split() for line in lines if not line.startswith("#")):
        package, version = pin.split("==")
        found[package] = (version, {each.removeprefix("--hash=sha256:") for each in hashes})
    return found


def requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(text) for texts in lists for text in texts]


def test_the_tested_set_has_its_hashes_but_for_torch():
    found = hashed("constraints-hashed.txt")
    versions = {name: version for name, (version, _) in found.items()}
    expected = {canonicalize_name(name): version for name, version in pins().items()}
    assert expected.pop("torch")
    assert expected.pop("seqeval")  # of which there is no wheel
    assert versions == expected, "constraints.txt has changed: make hashes"
    for name, (_, hashes) in found.items():
        assert hashes, name
        assert all(re.fullmatch("[0-9a-f]{64}", each) for each in hashes), name


def test_the_weights_of_the_tests_are_the_pinned_ones():
    ((name, (version, hashes)),) = hashed("tests/weights.txt").items()
    assert (version, hashes) == hashed("constraints-hashed.txt")[name]


def test_every_plugin_folder_is_in_the_wheel():
    expected = {"nlpkit", *(folder.relative_to(REPOSITORY).as_posix() for folder in PLUGINS)}
    assert set(PACKAGES) == expected


def test_every_plugin_has_an_entry_point_and_the_installed_ones_are_these():
    declared = PYPROJECT["project"]["entry-points"]["nlpkit"]
    assert {f"{folder.name}.plugin" for folder in PLUGINS} | {"nlpkit.builtin"} == set(
        declared.values()
    )
    installed = {
        point.name: point.value
        for point in metadata.distribution("nlpkit-sdk").entry_points
        if point.group == "nlpkit"
    }
    assert installed == declared, (
        "pyproject.toml has changed; reinstall: pip install -e '.[all,test]'"
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(package):
    assert (REPOSITORY / package / "py.typed").exists()


def test_there_is_no_second_way_to_import_a_plugin():
    assert not [*REPOSITORY.glob("plugins/__init__.py"), *REPOSITORY.glob("jobs/__init__.py")]


def test_packages_below_the_core_have_empty_inits():
    # nlpkit.testing is imported by its name: its __init__ is its front door.
    inits = set((REPOSITORY / "nlpkit").glob("*/**/__init__.py"))
    inits.discard(REPOSITORY / "nlpkit" / "testing" / "__init__.py")
    assert {path.read_text("utf-8") for path in inits} == {""}


def test_linted_packages_are_the_packages_of_the_wheel():
    names = {Path(package).name for package in PACKAGES}
    linter = PYPROJECT["tool"]["importlinter"]
    assert set(linter["root_packages"]) == names
    core, plugins = linter["contracts"][:2]
    assert {*core["forbidden_modules"], "nlpkit"} == {*names, "ray"}
    assert {*plugins["modules"], "nlpkit"} == names


def test_every_requirement_is_pinned():
    names = {canonicalize_name(requirement.name) for requirement in requirements()}
    assert names - {"nlpkit-sdk", "pip"} <= set(pins())


def test_pins_satisfy_the_declared_ranges():
    for requirement in requirements():
        version = pins().get(canonicalize_name(requirement.name))
        assert version is None or version in requirement.specifier, str(requirement)


def test_ray_is_imported_soon_beside_what_jupyter_brings():
    """Newer versions of jsonschema parse a grammar at import, in every process of a cluster."""
    code = "import sys, ray; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_tested_set_is_what_is_tested():
    """Except torch: `make test-floor` runs on the oldest one."""
    installed = {
        name: metadata.version(name).split("+")[0]
        for name in ("numpy", "tokenizers", "transformers")
    }
    assert installed == {name: pins()[name] for name in installed}


def test_the_changelog_has_the_version():
    version = re.escape(metadata.version("nlpkit-sdk"))
    changelog = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## {version}\b", changelog, re.MULTILINE)
