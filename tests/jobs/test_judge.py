"""What is said about a cluster, given what it answered."""

from __future__ import annotations

import time
from typing import Any

import pytest

from nlpkit_ray.gang import Gang
from nlpkit_ray.preflight import judge, waits
from tests.jobs.asking import FOUR, run


def node(name: str, gpus: float = 4.0, free: float | None = None, **found: Any) -> dict[str, Any]:
    """What the probe says of a node that has everything; or of one that does not."""
    everything = {
        "versions": {"python": "3.11.7", "torch": "2.13.0", "tokenizers": "0.23.3"},
        "distributions": {},
        "missing": [],
        "secrets": [],
        "data": {},
        "storage": "",
        "cuda": True,
        "torch_cuda": "12.8",
    }
    return {
        "id": name,
        "ip": name,
        "total": {"GPU": gpus, "CPU": 8.0},
        "free": {"GPU": gpus if free is None else free, "CPU": 8.0},
        "found": {**everything, **found},
        "sees": ["a", "b", "c"],
    }


def verdict(nodes: list[dict[str, Any]], pool: Any = None, **given: Any) -> list[str]:
    problems = judge({"nodes": nodes, "pool": pool}, **run(**{"gang": FOUR, **given}))
    assert all(problem.severity == "error" and problem.remedy for problem in problems)
    return [str(problem) for problem in problems]


def pool_of(*jobs: dict[str, Any], **policy: Any) -> dict[str, Any]:
    given = {"overtake": 4, "age_hours": 12.0, "waiting": 100, "gpus_per_user": None, "users": {}}
    return {"nodes": [], "jobs": list(jobs), "policy": {**given, **policy}}


def test_nothing_is_wrong_with_nodes_that_have_all() -> None:
    assert verdict([node("a"), node("b")]) == []


@pytest.mark.parametrize(
    ("gang", "gpus", "says"),
    [
        (Gang(least=9, most=9, resource="GPU", each=1.0), 4.0, "has 8 in all, room for 8 at most"),
        (Gang(least=3, most=3, resource="GPU", each=3.0), 4.0, "has 8 in all, room for 2 at most"),
        (Gang(least=1, most=1, resource="GPU", each=6.0), 4.0, "no node has more than 4"),
        (FOUR, 0.0, "no node has more than 0; 0 trains on processors"),
        (Gang(least=1, most=None, resource="GPU", each=1.0), 0.0, "no node has more than 0"),
        (Gang(least=17, most=17, resource="CPU", each=1.0), 0.0, "has 16 in all"),
    ],
)
def test_what_can_never_fit_is_refused_with_the_largest_possible(
    gang: Gang, gpus: float, says: str
) -> None:
    (problem,) = verdict([node("a", gpus), node("b", gpus)], gang=gang)
    assert "it can never start" in problem
    assert says in problem


@pytest.mark.parametrize("free", [0.0, 1.0])
def test_what_must_only_wait_is_not_refused(free: float) -> None:
    assert verdict([node("a", 4.0, free)]) == []


def test_a_user_who_may_never_have_so_many_is_told_so() -> None:
    (problem,) = verdict([node("a")], pool_of(gpus_per_user=2.0))
    assert (
        problem == "strategy.devices: it can never start: 4 GPUs, and ada may have 2; ask for less"
    )
    assert verdict([node("a")], pool_of(gpus_per_user=2.0, users={"ada": 4.0})) == []


def test_no_more_jobs_than_the_policy_says_may_wait() -> None:
    waits, runs = {"workers": 0}, {"workers": 4}
    assert verdict([node("a")], pool_of(waits, runs, waiting=2)) == []
    (problem,) = verdict([node("a")], pool_of(waits, runs, waits, waiting=2))
    assert "2 jobs wait already, and no more than 2 may; submit it later" in problem


@pytest.mark.parametrize(
    ("priority", "note"),
    [
        ("normal", "it will wait, at place 3: 4 workers of 1 GPU each; 1 of 4 GPUs are free"),
        ("high", "it will wait, at place 1: 4 workers of 1 GPU each; 1 of 4 GPUs are free"),
    ],
)
def test_the_place_is_told_that_the_pool_would_give(priority: str, note: str) -> None:
    job = {"user": "bob", "priority": 1, "since": time.time(), "resource": "GPU", "each": 1.0}
    sizes = {"least": 3, "most": 3, "name": "shown", "position": 1, "reason": "shown too"}
    jobs = [{**job, **sizes, "id": str(number), "workers": 0} for number in (1, 2)]
    leased = [node("a", free=1.0)]  # what the pool has promised is not free, whatever Ray says
    answer = {"nodes": [node("a")], "pool": {**pool_of(*jobs), "nodes": leased}}
    given = run(FOUR, priority=priority)
    del given["config"]
    assert waits(answer, **given) == [note]


def test_who_does_not_see_whose_files_is_named_once() -> None:
    nodes = [node("a"), node("b"), node("c")]
    nodes[1]["sees"] = ["b"]
    (problem,) = verdict(nodes)
    assert problem.startswith(
        "launch.storage: /shared: is not shared: b does not see what a writes"
    )
    assert "s3://" in problem


@pytest.mark.parametrize(
    ("storage", "why", "remedy"),
    [
        ("/shared", "PermissionError: [Errno 13]", "mount it on every node"),
        ("s3://bucket/x", "NoCredentialsError: Unable to locate", "endpoint and credentials"),
        ("s3://bucket/x", "ImportError: Install s3fs to access S3", "pip install"),
    ],
)
def test_a_storage_that_some_cannot_write_to_is_named_with_them(
    storage: str, why: str, remedy: str
) -> None:
    nodes = [node("a"), node("b", storage=why), node("c", storage=why)]
    for each in nodes:
        each["sees"] = ["a"]
    (problem,) = verdict(nodes, storage=storage)
    assert f"{storage}: cannot be written to on b, c: {why}" in problem
    assert remedy in problem


def test_what_nodes_lack_is_named_once_for_all_that_lack_the_same() -> None:
    lacks = {
        "missing": ["torch>=2.7", "numpy"],
        "secrets": ["HF_TOKEN"],
        "data": {"s3://a/x.csv": "FileNotFoundError: x"},
    }
    told = verdict([node("a"), node("b", **lacks), node("c", **lacks)], data="s3://a/x.csv")
    assert told == [
        "launch: on b, c: is not installed, or too old: torch>=2.7, numpy; "
        "there: pip install 'torch>=2.7' numpy",
        "launch.secrets: on b, c: HF_TOKEN is not set; "
        "set it where the nodes are started, before ray start",
        "data.train: on b, c: s3://a/x.csv: cannot be read: FileNotFoundError: x; "
        "every node must be able to",
    ]


def test_versions_must_be_equal_on_all_nodes() -> None:
    other = {"python": "3.11.7", "torch": "2.12.0", "tokenizers": ""}  # and lacks that
    (problem,) = verdict([node("a"), node("b", versions=other), node("c")])
    assert "torch is not the same everywhere: 2.13.0 on a, c; 2.12.0 on b" in problem


def test_a_torch_without_cuda_beside_gpus_is_refused_unless_cpus_are_meant() -> None:
    nodes = [node("a", torch_cuda=""), node("b", 0.0, torch_cuda=""), node("c")]
    (problem,) = verdict(nodes)
    assert problem.startswith("device: torch is built without CUDA on a;")
    assert verdict(nodes, device="cpu") == []
    cpus = Gang(least=1, most=1, resource="CPU", each=1.0)
    assert verdict(nodes, gang=cpus) == []
    assert verdict([node("a", torch_cuda="", cuda=False)]) == []  # logical GPUs


def test_a_node_that_does_not_answer_is_named_and_the_others_are_judged() -> None:
    silent = {**node("a"), "found": "no answer in 6 s"}
    told = verdict([silent, node("b", secrets=["HF_TOKEN"])])
    assert told[0].startswith("launch: node a: no answer in 6 s; try again")
    assert "on b: HF_TOKEN" in told[1]
    assert len(told) == 2
