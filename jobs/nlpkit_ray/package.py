"""What travels to a cluster: one folder, whose unpacked wheels Python finds as installed ones.

Ray puts the folder on the path of the driver and of all workers. A wheel given to Ray as a wheel
would be installed there, with its dependencies from an index, and be known by its name alone.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from nlpkit.config.resolve import KINDS
from nlpkit.environment import cache_folder
from nlpkit.errors import InputError
from nlpkit.files import is_inside
from nlpkit_ray.contents import fingerprint, recorded

if TYPE_CHECKING:
    from nlpkit.config.schema import Config
    from nlpkit.plugin.host import Host

LIMIT = 100 << 20
"""Bytes that the API of a cluster takes at once."""
_OWN = "nlpkit-sdk"
_NAMED = 10  # files in the message about too many bytes


def distributions_of(config: Config, host: Host) -> list[str]:
    """The distributions whose code a resolved config needs: nlpkit's, and those of its plugins.

    Raises:
        InputError: A module of `plugins` belongs to none, so it cannot travel.
    """
    names = [_OWN]
    for section, kind in KINDS.items():
        chosen = getattr(config, section)
        for component in chosen if isinstance(chosen, tuple) else (chosen,):
            names.append(host.entry(kind, component.name).origin.distribution)
    owners = importlib.metadata.packages_distributions()
    for plugin in config.plugins:
        if plugin.endswith(".py"):
            continue
        if not (found := owners.get(plugin.partition(".")[0])):
            raise InputError(
                f"plugins: {plugin} belongs to no installed distribution, so it cannot travel; "
                "make it one, or name its file (./my_plugin.py)"
            )
        names += found
    names = [name for name in names if name and not name.endswith(".py")]
    return list(dict.fromkeys(names))


def unpack(name: str, folder: Path) -> None:
    """Copies an installed distribution into a folder, as an unpacked wheel; builds an editable one.

    Raises:
        InputError: It cannot be built.
    """
    distribution = importlib.metadata.distribution(name)
    if not recorded(distribution):
        with zipfile.ZipFile(_built(distribution)) as wheel:
            wheel.extractall(folder)
        return
    for path in distribution.files or ():
        source = Path(str(distribution.locate_file(path)))
        if not is_inside(str(path)) or path.suffix == ".pyc" or not source.is_file():
            continue
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _built(distribution: importlib.metadata.Distribution) -> Path:
    """The wheel of an editable distribution, as its files are now; kept for the next time."""
    name = distribution.metadata["Name"]
    found = fingerprint(name) or {}
    kept = cache_folder() / "wheels" / f"{name}-{found.get('sha256', '')[:32]}"
    if wheels := list(kept.glob("*.whl")):
        return wheels[0]
    url = json.loads(distribution.read_text("direct_url.json") or "{}").get("url", "")
    source = unquote(urlsplit(url).path)
    here = importlib.util.find_spec("hatchling") is not None
    with TemporaryDirectory(prefix="nlpkit-") as temporary:
        options = ["--no-build-isolation"] if here else []
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", *options, "-w", temporary]
        run = subprocess.run(
            [*command, source], capture_output=True, text=True, errors="replace", check=False
        )
        wheels = list(Path(temporary).glob("*.whl"))
        if run.returncode or not wheels:
            lines = run.stderr.strip().splitlines() or ["pip wheel gave no wheel"]
            raise InputError(f"{name}: cannot be built from {source}: {lines[-1]}")
        kept.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheels[0], kept))


class Package:
    """A folder that is about to travel.

    Args:
        folder: Where it is put together.
    """

    def __init__(self, folder: Path) -> None:
        files = [path for path in folder.rglob("*") if path.is_file()]
        self._sizes = {path.relative_to(folder): path.stat().st_size for path in files}

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(self._sizes.values())

    def __str__(self) -> str:
        return f"{len(self._sizes):,} files, {self.size / 1e6:,.1f} MB"

    def check(self) -> None:
        """Raises InputError with the largest files where it is more than a cluster takes."""
        if self.size <= LIMIT:
            return
        largest = sorted(self._sizes.items(), key=lambda item: -item[1])[:_NAMED]
        lines = [f"  {size / 1e6:9,.1f} MB  {path}" for path, size in largest]
        raise InputError(
            "\n".join(
                [
                    f"{self}: at most {LIMIT / 1e6:,.0f} MB can travel; install what is large on "
                    "the cluster. The largest files:",
                    *lines,
                ]
            )
        )
