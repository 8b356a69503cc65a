"""Hands out what is in a storage, through the cluster's own API: for machines that do not see it.

It is sent as it stands, and needs nothing of nlpkit there. It leaves a tar file beside Ray's logs,
says where, and removes it once it is stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import tarfile
import time
from pathlib import Path, PurePosixPath
from typing import Any

MARK = "nlpkit-transfer: "
"""What the line begins with that says where: name of the file, size, sha256; or an error."""
_PATIENCE = 1800.0  # seconds in which it is fetched


def main(question: dict[str, Any]) -> None:
    """Packs what is asked for: `storage`, and `names` below it, and waits."""
    import fsspec  # type: ignore[import-untyped]

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    logs = Path(os.readlink("/proc/self/fd/1")).parent
    path = logs / f"{question['id']}.tar"
    fs, root = fsspec.core.url_to_fs(question["storage"])
    answer: dict[str, Any] = {"error": f"{question['storage']}: there is nothing of this job"}
    try:
        if _pack(fs, root.rstrip("/"), question["names"], path):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            answer = {"file": path.name, "size": path.stat().st_size, "sha256": digest}
        sys.stdout.write(f"{MARK}{json.dumps(answer)}\n")
        sys.stdout.flush()
        if "error" not in answer:
            time.sleep(_PATIENCE)
    finally:
        path.unlink(missing_ok=True)


def _pack(fs: Any, root: str, names: list[str], path: Path) -> int:
    """Writes the files of some folders, or files, into a tar; how many."""
    packed = 0
    with tarfile.open(path, "w") as tar:
        for name in names:
            for each in sorted(fs.find(f"{root}/{name}")):
                place = PurePosixPath(each[len(root) + 1 :])
                if any(part.startswith(".") for part in place.parts):
                    continue
                if len(place.parts) > 2 and place.parts[1].startswith("step-"):  # copies of them
                    place = PurePosixPath(place.parts[0], "checkpoints", *place.parts[1:])
                member = tarfile.TarInfo(str(place))
                member.size = fs.size(each)
                with fs.open(each, "rb") as file:
                    tar.addfile(member, file)
                packed += 1
    return packed


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
