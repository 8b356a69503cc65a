"""Which code an installed distribution is: equal on two machines where the same would run.

It is sent to clusters as it stands, with `probe`, and needs nothing of nlpkit.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path


def fingerprint(name: str) -> dict[str, str] | None:
    """The version of a distribution, and a sha256 of its code; None where it is not installed.

    The hash is over the paths and contents of its packages' files and its entry points. Of an
    installed distribution it takes the hashes from RECORD, and reads nothing: what was edited in
    place goes unseen. Of an editable one it reads the packages that its entry points name.
    """
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    files = recorded(distribution) or _edited(distribution)
    points = sorted(
        f"{point.group}\0{point.name}\0{point.value}" for point in distribution.entry_points
    )
    text = "\n".join([*points, *(f"{path}\0{digest}" for path, digest in sorted(files.items()))])
    return {
        "version": distribution.version,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def recorded(distribution: importlib.metadata.Distribution) -> dict[str, str]:
    """The hashes of a distribution's package files from RECORD, by path; none if it is editable."""
    found = {}
    for path in distribution.files or ():
        info = path.parts[0].endswith((".dist-info", ".data")) or path.parts[0] == ".."
        if path.hash and path.suffix != ".pyc" and not info:
            found[path.as_posix()] = path.hash.value
    only_links = all(path.endswith((".pth", "_editable_impl.py")) for path in found)
    return {} if only_links else found


def packages(distribution: importlib.metadata.Distribution) -> dict[str, Path]:
    """The folders of the packages that an editable distribution's entry points name."""
    names = {point.module.partition(".")[0] for point in distribution.entry_points}
    found = {}
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec and spec.submodule_search_locations:
            found[name] = Path(spec.submodule_search_locations[0])
    return found


def _edited(distribution: importlib.metadata.Distribution) -> dict[str, str]:
    import base64

    found = {}
    for name, folder in packages(distribution).items():
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix != ".pyc" and not path.name.startswith("."):
                digest = hashlib.sha256(path.read_bytes()).digest()
                text = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()  # as RECORD has it
                found[f"{name}/{path.relative_to(folder).as_posix()}"] = text
    return found
