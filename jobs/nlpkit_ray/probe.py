"""Looks at a cluster from within: a small job that prints one line of JSON.

It is sent as it stands, behind `contents` and `private`, and needs nothing of nlpkit there. Nothing
secret is printed: of variables it says whether they are set.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nlpkit_ray.contents import fingerprint
from nlpkit_ray.private import available, usable

MARK = "nlpkit-probe: "
"""What the line begins with."""
_PATIENCE = 6.0  # seconds from the start in which a node answers: a refusal takes no more than 10
_BRIEFLY = 3.0  # seconds in which the pool says who waits, and a node what it sees
_IO = 4.0  # seconds in which a storage or a data location answers
_PACKAGES = ("torch", "ray", "transformers", "tokenizers", "pydantic")


def main(question: dict[str, Any]) -> None:
    """Answers for every node that could run a rank, and for the driver's.

    The question has `resource` and `each`, what a rank takes; and, all of them lists, if it asks
    for more than the pool's state: `distributions`, `requirements`, `secrets`, `data` (locations),
    and `storage`, a location. In the answer `found` of a node is what `look` says there; or, where
    that failed, why, in a line.
    """
    started = time.monotonic()
    import ray

    ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
    nodes = _nodes()
    answer: dict[str, Any] = {"nodes": nodes, "pool": _pool()}
    if "distributions" in question:
        driver = ray.get_runtime_context().get_node_id()
        kind, each = question["resource"], question["each"]
        asked = [node for node in nodes if node["total"][kind] >= each or node["id"] == driver]
        nonce = uuid.uuid4().hex
        others = [node["id"] for node in asked if node["id"] != driver]
        with ThreadPoolExecutor() as here:  # a process for it would take a second to start
            own = here.submit(_attempt, look, driver, question, nonce)
            left = _PATIENCE - (time.monotonic() - started)
            found = _on_each(others, left, look, question, nonce)
            found[driver] = own.result()
        looked = [name for name, each in found.items() if isinstance(each, dict)]
        seen = _on_each([name for name in looked if name != driver], _BRIEFLY, see, question, nonce)
        seen[driver] = see(driver, question, nonce)
        for node in asked:
            node["driver"] = node["id"] == driver
            node["found"] = found[node["id"]]
            node["sees"] = seen.get(node["id"])
        _timely(_tidy, question["storage"], nonce)
    sys.stdout.write(f"{MARK}{json.dumps(answer)}\n")
    sys.stdout.flush()
    os._exit(0)  # Ray takes a second to say good-bye


def _nodes() -> list[dict[str, Any]]:
    """Those where something can start, with what they have; what is used up Ray does not list."""
    left, nodes = available(), []
    for node in usable():
        name, has = node["NodeID"], node["Resources"]
        total = {kind: has.get(kind, 0.0) for kind in ("GPU", "CPU")}
        free = {kind: left.get(name, {}).get(kind, 0.0) for kind in total}
        nodes.append({"id": name, "ip": node["NodeManagerAddress"], "total": total, "free": free})
    return nodes


def _pool() -> Any:
    import ray

    try:
        pool = ray.get_actor("nlpkit-pool", namespace="nlpkit")
        return ray.get(pool.view.remote(), timeout=_BRIEFLY)
    except (ValueError, ray.exceptions.RayError):  # there is none yet
        return None


def _on_each(nodes: list[str], seconds: float, function: Any, *args: Any) -> dict[str, Any]:
    """What a function says on each node; why it says nothing, in a line, of one where it fails."""
    import ray

    task = ray.remote(num_cpus=0, max_retries=0)(function)
    refs = {
        node: task.options(label_selector={"ray.io/node-id": node}).remote(node, *args)
        for node in nodes
    }
    if not refs:
        return {}
    ready, _ = ray.wait(list(refs.values()), num_returns=len(refs), timeout=seconds)
    answers: dict[str, Any] = {}
    for node, ref in refs.items():
        try:
            answers[node] = ray.get(ref) if ref in ready else f"no answer in {seconds:.1f} s"
        except ray.exceptions.RayError as error:
            answers[node] = str(error).strip().splitlines()[-1]
    return answers


def _attempt(function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        return _line(error)


def _line(error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{type(error).__name__}: {text}"


def look(node: str, question: dict[str, Any], nonce: str) -> dict[str, Any]:
    """What one node has; it leaves a file in the storage for the others to see."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    with ThreadPoolExecutor() as threads:
        written = threads.submit(_timely, _write, question["storage"], nonce, node)
        data = {each: threads.submit(_timely, _read, each) for each in question["data"]}
    return {
        "versions": versions,
        "distributions": {name: fingerprint(name) for name in question["distributions"]},
        "missing": [each for each in question["requirements"] if not _is_met(each)],
        "secrets": [name for name in question["secrets"] if name not in os.environ],
        "data": {each: why for each, future in data.items() if (why := future.result())},
        "storage": written.result(),
        "cuda": Path("/dev/nvidiactl").exists(),
        "torch_cuda": _torch_cuda(),
    }


def see(node: str, question: dict[str, Any], nonce: str) -> list[str]:
    """Whose files one node sees in the storage."""
    try:
        fs, folder = _opened(f"{question['storage']}/probe-{nonce}")
        return [name.rstrip("/").rpartition("/")[2] for name in fs.ls(folder, detail=False)]
    except Exception:
        return []


def _timely(function: Any, *args: Any) -> str:
    """Why a function fails, in a line; "" if it does not. A mount may hang for ever."""
    said: list[str] = []

    def run() -> None:
        try:
            function(*args)
            said.append("")
        except Exception as error:
            said.append(_line(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_IO)
    return said[0] if said else f"no answer in {_IO:g} s"


def _opened(url: str) -> tuple[Any, str]:
    """A file system, as it is now, and the path there."""
    import fsspec  # type: ignore[import-untyped]

    s3 = {"config_kwargs": {"connect_timeout": 3, "retries": {"max_attempts": 1}}}
    fs, path = fsspec.core.url_to_fs(url, **(s3 if url.startswith("s3") else {}))
    fs.invalidate_cache()
    return fs, path.rstrip("/")


def _write(url: str, nonce: str, node: str) -> None:
    """Leaves a file; a folder that is not there is not made, for it may not be mounted."""
    fs, root = _opened(url)
    if "file" in fs.protocol:
        os.stat(root)
        os.makedirs(f"{root}/probe-{nonce}", exist_ok=True)
    fs.pipe_file(f"{root}/probe-{nonce}/{node}", b"nlpkit")


def _tidy(url: str, nonce: str) -> None:
    fs, root = _opened(url)
    fs.rm(f"{root}/probe-{nonce}", recursive=True)


def _read(location: str) -> None:
    fs, path = _opened(location)
    if not fs.isdir(path):
        with fs.open(path, "rb") as file:
            file.read(1)


def _is_met(text: str) -> bool:
    from packaging.requirements import Requirement

    requirement = Requirement(text)
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return True
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def _torch_cuda() -> str:
    """The CUDA version that torch was built for, or ""; torch is not imported."""
    spec = importlib.util.find_spec("torch")
    if not spec or not spec.origin:
        return ""
    names: dict[str, Any] = {}
    exec((Path(spec.origin).parent / "version.py").read_text(encoding="utf-8"), names)
    return names.get("cuda") or ""


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
