from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.image.containers import BASE, IMAGE, MIRRORS, REPOSITORY, buildah, container, free_port


@pytest.fixture(scope="session")
def image():
    """The image, built by the Dockerfile on a base that is made here, unless that is there."""
    missing = [each for each in ("buildah", "debootstrap", "ssh") if not shutil.which(each)]
    assert not missing, f"apt-get install buildah debootstrap openssh-client ({missing})"
    have = subprocess.run(["buildah", "inspect", BASE], capture_output=True, check=False)
    if have.returncode:
        base = [REPOSITORY / "tests" / "image" / "base.sh", BASE, sys.executable]
        subprocess.run(["sh", *map(str, base)], check=True)
    build = (
        "--isolation",
        "chroot",
        "--layers",
        "--format",
        "docker",
        "--build-arg",
        f"BASE_IMAGE={BASE}",
    )
    for name, value in MIRRORS.items():
        build += ("--build-arg", f"{name}={value}")
    buildah("bud", *build, "--tag", IMAGE, REPOSITORY)
    return IMAGE


@pytest.fixture
def box(image, tmp_path):
    """A container of the image."""
    with container(tmp_path) as made:
        yield made


@pytest.fixture
def folders(tmp_path):
    """Folders to mount, of somebody who is neither root nor the image's own user."""

    made = {}
    for name in ("data", "models", "notebooks"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, 1234, 5678)
        made[tmp_path / name] = f"/workspace/{name}"
    return made


@pytest.fixture
def ports():
    jupyter, ssh = free_port(), free_port()
    return {"JUPYTER_PORT": str(jupyter), "SSH_PORT": str(ssh)}
