from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from tests.bundle.bundles import make_run

EXAMPLE = Path(__file__).parents[2] / "examples" / "cpp"
STRICT = ("-Wall", "-Wextra", "-Werror")


@pytest.fixture(scope="session")
def compiler() -> str:
    found = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    return found or pytest.skip("no C++ compiler (c++, g++, clang++) is here")


@pytest.fixture(scope="session")
def words(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """words.cpp, compiled without libtorch."""
    program = tmp_path_factory.mktemp("words") / "words"
    source = Path(__file__).with_name("words.cpp")
    command = [compiler, "-std=c++17", "-O2", *STRICT, f"-I{EXAMPLE}", source, "-o", program]
    subprocess.run(command, check=True)
    return program


@pytest.fixture(scope="session")
def classify(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built as its README says."""
    if not shutil.which("cmake"):
        pytest.skip("no cmake is here")
    build = tmp_path_factory.mktemp("build")
    flags = f"-DCMAKE_CXX_FLAGS={' '.join(STRICT)}"
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    for command in (
        ["cmake", "-S", EXAMPLE, "-B", build, f"-DCMAKE_CXX_COMPILER={compiler}", flags, prefix],
        ["cmake", "--build", build],
    ):
        subprocess.run(command, check=True)
    return build / "classify"


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_run(tmp_path_factory.mktemp("runs") / "cards") / "bundle"


@pytest.fixture
def bundle(_made: Path, tmp_path: Path) -> Path:
    """A bundle of this test's own; it has no model.pt, which is not read for ids."""
    return shutil.copytree(_made, tmp_path / "bundle")
