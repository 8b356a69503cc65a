"""Everything that can be wrong with a cluster for a run, before anything is queued there."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import re
import secrets
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from nlpkit.errors import RunError
from nlpkit_ray import contents, private, probe
from nlpkit_ray.client import HELPERS
from nlpkit_ray.contents import fingerprint
from nlpkit_ray.decide import Job, Node, Policy, Snapshot, Wait, decide, forbidden, impossible
from nlpkit_ray.gang import job_of
from nlpkit_ray.job import ENDED
from nlpkit_ray.storage import is_shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nlpkit.config.schema import Config
    from nlpkit.errors import Problem
    from nlpkit_ray.client import Connection
    from nlpkit_ray.config import RayConfig
    from nlpkit_ray.gang import Gang

    _Fault = Callable[[str, str, str], Problem]

_POLL = 0.15  # seconds between two looks at whether it has answered
_PATIENCE = 30.0
_OWN = "nlpkit-sdk"
_EXTRAS = ("train", "ray")
_FUTURE = "from __future__ import annotations\n"
_APART = re.compile(r"^from (__future__|nlpkit_ray\.\w+) import .+\n", re.MULTILINE)
"""What keeps modules apart that are sent as one."""


@dataclass(kw_only=True)
class Report:
    """What the preflight found.

    Attributes:
        problems: What is wrong; nothing is queued then.
        notes: What is good to know: which GPUs it waits for, and its place.
        ship: The distributions that the cluster lacks, or has with other code.
        seconds: How long it took.
    """

    problems: list[Problem]
    notes: list[str]
    ship: list[str]
    seconds: float


def ask(connection: Connection, question: dict[str, Any]) -> dict[str, Any]:
    """Has the cluster looked at from within, by a job that is forgotten again.

    Raises:
        RunError: It could not be, with the last line of what that job wrote.
    """
    modules = (contents, private, probe)
    source = _FUTURE + "".join(_APART.sub("", inspect.getsource(each)) for each in modules)
    name = f"{HELPERS[0]}{secrets.token_hex(6)}"
    entrypoint = "exec " + shlex.join(["python", "-c", source, json.dumps(question)])
    metadata = {"nlpkit": "probe", "job_name": "(nlpkit looks at the cluster)"}
    connection.submit(submission_id=name, entrypoint=entrypoint, metadata=metadata)
    deadline = time.monotonic() + _PATIENCE
    state = ""
    while state not in ENDED:
        if time.monotonic() > deadline:
            connection.stop(name)
            raise RunError(f"{connection.url}: does not answer; are its nodes up?")
        time.sleep(_POLL)
        state = str(connection.info(name).status).lower()
    lines = connection.logs(name).splitlines()
    connection.tidy()
    for line in lines:
        if line.startswith(probe.MARK):
            answer: dict[str, Any] = json.loads(line.removeprefix(probe.MARK))
            return answer
    raise RunError(f"{connection.url}: {lines[-1] if lines else 'the probe wrote nothing'}")


def preflight(
    connection: Connection,
    *,
    config: Config,
    gang: Gang,
    options: RayConfig,
    distributions: Sequence[str],
    data: Sequence[str],
    user: str,
) -> Report:
    """Asks the cluster, and judges its answer.

    Args:
        connection: To the cluster.
        config: Resolved.
        gang: What the run takes.
        options: Those of `launch`.
        distributions: Whose code it needs.
        data: Locations that the nodes read themselves.
        user: Whose job it is.

    Raises:
        RunError: The cluster does not answer.
    """
    started = time.monotonic()
    question = {
        "resource": gang.resource,
        "each": gang.each,
        "distributions": list(distributions),
        "requirements": sorted(_requirements(distributions, str(options.storage))),
        "secrets": options.secrets,
        "data": list(data),
        "storage": options.storage,
    }
    answer = ask(connection, question)
    problems = judge(answer, config=config, gang=gang, options=options, user=user)
    return Report(
        problems=problems,
        notes=[] if problems else waits(answer, gang=gang, options=options, user=user),
        ship=[name for name in distributions if _differs(name, answer)],
        seconds=time.monotonic() - started,
    )


def _requirements(distributions: Sequence[str], storage: str) -> set[str]:
    """What must be installed on every node, for it does not travel."""
    extras = _EXTRAS + (() if is_shared(storage) else (storage.partition(":")[0],))
    found = set()
    for name in distributions:
        for text in importlib.metadata.requires(name) or ():
            needed = Requirement(text)
            marker, needed.marker = needed.marker, None
            if "extra ==" not in str(marker):
                found.add(text)
            elif marker and name == _OWN and any(marker.evaluate({"extra": e}) for e in extras):
                found.add(str(needed))
    return {text for text in found if not text.startswith(_OWN)}


def judge(
    answer: dict[str, Any], *, config: Config, gang: Gang, options: RayConfig, user: str
) -> list[Problem]:
    """What is wrong with a cluster for a run; pure.

    Args:
        answer: Of the probe.
        config: Resolved.
        gang: What the run takes.
        options: Those of `launch`.
        user: Whose job it is.
    """

    def fault(key: str, message: str, remedy: str) -> Problem:
        return config.origin.problem(tuple(key.split(".")), message, remedy)

    asked = [node for node in answer["nodes"] if "found" in node]
    looked = [node for node in asked if isinstance(node["found"], dict)]
    problems = [*_room_problems(answer, gang, options, user, fault)]
    for node in asked:
        if node not in looked:
            remedy = "try again; where it stays so, drain the node"
            problems.append(fault("launch", f"node {node['ip']}: {node['found']}", remedy))
    problems += _storage_problems(looked, str(options.storage), fault)
    problems += _node_problems(looked, config, fault)
    problems += _unequal(looked, fault)
    if gang.resource == "GPU" and config.device != "cpu":
        found = [node for node in looked if node["total"]["GPU"] and node["found"]["cuda"]]
        if cpu := [node for node in found if not node["found"]["torch_cuda"]]:
            message = f"torch is built without CUDA on {_ips(cpu)}"
            problems.append(fault("device", message, "install a CUDA build, or device: cpu"))
    return problems


def _room_problems(
    answer: dict[str, Any], gang: Gang, options: RayConfig, user: str, fault: _Fault
) -> Iterator[Problem]:
    """Why it would never start, or may not even wait."""
    nodes = _nodes(answer)
    total = sum(node.total[gang.resource] for node in nodes)
    largest = max((node.total[gang.resource] for node in nodes), default=0.0)
    job = job_of(gang.on(total), options, id="", user=user, since=time.time())
    if why := impossible(job, nodes):
        key = "strategy.devices"
        if options.gpus_per_worker > largest:
            key = "launch.gpus_per_worker"
        remedy = "ask for less" if total else "0 trains on processors"
        yield fault(key, f"it can never start: {why}", remedy)
    if not answer["pool"]:
        return
    policy, jobs = Policy(**answer["pool"]["policy"]), answer["pool"]["jobs"]
    if why := forbidden(job, policy):
        yield fault("strategy.devices", f"it can never start: {why}", "ask for less")
    waiting = sum(not each["workers"] for each in jobs)
    if waiting >= policy.waiting:
        message = f"{waiting} jobs wait already, and no more than {policy.waiting} may"
        yield fault("launch", message, "submit it later")


def _storage_problems(
    looked: list[dict[str, Any]], storage: str, fault: _Fault
) -> Iterator[Problem]:
    by_reason: dict[str, list[dict[str, Any]]] = {}
    for node in looked:
        if why := node["found"]["storage"]:
            by_reason.setdefault(why, []).append(node)
    for why, nodes in by_reason.items():
        remedy = "make it once, mount it on every node, and let every node's user write there"
        if not is_shared(storage):
            remedy = "set endpoint and credentials where the nodes are started, before ray start"
        if "No module" in why or why.startswith("ImportError"):
            remedy = "pip install what is missing on every node"
        message = f"{storage}: cannot be written to on {_ips(nodes)}: {why}"
        yield fault("launch.storage", message, remedy)
    writers = {node["id"]: node["ip"] for node in looked if not node["found"]["storage"]}
    for node in looked:
        unseen = [ip for name, ip in writers.items() if name not in (node["sees"] or ())]
        if node["id"] in writers and unseen:
            message = f"{storage}: is not shared: {node['ip']} does not see what {unseen[0]} writes"
            yield fault("launch.storage", message, "mount one folder on every node, or use s3://…")
            return


def _node_problems(
    looked: list[dict[str, Any]], config: Config, fault: _Fault
) -> Iterator[Problem]:
    """What single nodes lack, in a line for all that lack the same."""
    alike: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    splits = ("train", "validation", "test")
    for node in looked:
        found = node["found"]
        if names := found["missing"]:
            remedy = f"there: pip install {shlex.join(names)}"
            text = f"is not installed, or too old: {', '.join(names)}"
            alike.setdefault(("launch", text, remedy), []).append(node)
        for name in found["secrets"]:
            remedy = "set it where the nodes are started, before ray start"
            alike.setdefault(("launch.secrets", f"{name} is not set", remedy), []).append(node)
        for place, why in found["data"].items():
            key = next(f"data.{each}" for each in splits if getattr(config.data, each) == place)
            text = f"{place}: cannot be read: {why}"
            alike.setdefault((key, text, "every node must be able to"), []).append(node)
    for (key, text, remedy), nodes in alike.items():
        yield fault(key, f"on {_ips(nodes)}: {text}", remedy)


def _unequal(looked: list[dict[str, Any]], fault: _Fault) -> Iterator[Problem]:
    versions: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for node in looked:
        for name, version in node["found"]["versions"].items():
            if version:  # else it is named as missing
                versions.setdefault(name, {}).setdefault(version, []).append(node)
    for name, places in versions.items():
        if len(places) > 1:
            text = "; ".join(f"{version} on {_ips(nodes)}" for version, nodes in places.items())
            yield fault("launch", f"{name} is not the same everywhere: {text}", "make them equal")


def _ips(nodes: Iterable[dict[str, Any]]) -> str:
    return ", ".join(node["ip"] for node in nodes)


def _differs(name: str, answer: dict[str, Any]) -> bool:
    """Whether a node has other code than this machine."""
    own = fingerprint(name)
    found = [each for node in answer["nodes"] if isinstance(each := node.get("found"), dict)]
    return any(each["distributions"][name] != own for each in found)


def _nodes(answer: dict[str, Any]) -> list[Node]:
    return [Node(id=n["id"], total=n["total"], free=n["free"]) for n in answer["nodes"]]


def waits(answer: dict[str, Any], *, gang: Gang, options: RayConfig, user: str) -> list[str]:
    """What a run would wait for now, and at which place; nothing if it can start. See `judge`."""
    pool = answer["pool"] or {"jobs": [], "policy": {}, "nodes": answer["nodes"]}
    nodes = _nodes(pool)  # without what leases will take
    total = sum(node.total[gang.resource] for node in nodes)
    job = job_of(gang.on(total), options, id="", user=user, since=time.time())
    names = Job.__dataclass_fields__
    others = [Job(**{k: v for k, v in each.items() if k in names}) for each in pool["jobs"]]
    snapshot = Snapshot(now=time.time(), nodes=nodes, jobs=[*others, job])
    decision = decide(job.id, snapshot, Policy(**pool["policy"]))
    if isinstance(decision, Wait):
        return [f"it will wait, at place {decision.position}: {decision.reason}"]
    return []
