"""Who may start, given what the pool knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit_ray.decide import (
    Job,
    Node,
    Policy,
    Snapshot,
    Start,
    forbidden,
    impossible,
    in_order,
    schedule,
    take,
)

HOUR = 3600.0


def job(id: str, gang: int = 1, **given: Any) -> Job:
    """A job of one user for each, that joined when the alphabet says."""
    common = {"user": id, "priority": 1, "since": float(ord(id[0])), "least": gang, "most": gang}
    return Job(**{"id": id, "each": 1.0, **common, **given})


def node(id: str, total: float, free: float | None = None) -> Node:
    return Node(id=id, total={"GPU": total}, free={"GPU": total if free is None else free})


def decided(nodes: list[Node], *jobs: Job, now: float = 200.0, **policy: Any) -> dict[str, Any]:
    """For each job that waits: how many workers it starts, or its place and why."""
    snapshot = Snapshot(now=now, nodes=nodes, jobs=jobs)
    return {
        name: found.workers if isinstance(found, Start) else (found.position, found.reason)
        for name, found in schedule(snapshot, Policy(**policy)).items()
    }


def test_the_first_come_are_the_first_served() -> None:
    found = decided([node("n", 2)], job("c"), job("a"), job("b"))
    assert found == {"a": 1, "b": 1, "c": (3, "1 worker of 1 GPU each; 0 of 2 GPUs are free")}


def test_a_higher_priority_goes_before_those_that_came_earlier() -> None:
    found = decided([node("n", 1)], job("a", priority=0), job("b"), job("c", priority=2))
    assert found["c"] == 1
    assert [found["b"][0], found["a"][0]] == [2, 3]


def test_a_priority_rises_by_one_level_for_every_age_hours() -> None:
    jobs = job("a", priority=0, since=0.0), job("b", priority=1, since=13 * HOUR - 1)
    for now, first in ((11.9 * HOUR, "b"), (13 * HOUR, "a")):
        snapshot = Snapshot(now=now, nodes=[node("n", 1)], jobs=jobs)
        assert in_order(snapshot, Policy(age_hours=12))[0].id == first


def test_a_gang_starts_as_a_whole_or_not_at_all_and_over_nodes() -> None:
    assert decided([node("m", 4, 2), node("n", 4, 1)], job("a", 4))["a"][0] == 1
    assert decided([node("m", 4, 2), node("n", 4, 2)], job("a", 4)) == {"a": 4}


def test_one_worker_has_all_its_gpus_from_one_node() -> None:
    found = decided([node("m", 3), node("n", 3)], job("a", 2, each=2.0), job("b", 1, each=2.0))
    assert found["a"] == 2
    assert found["b"] == (2, "1 worker of 2 GPUs each; 2 of 6 GPUs are free")


def test_fractions_add_up_to_a_whole() -> None:
    assert decided([node("n", 1)], job("a", 10, each=0.1)) == {"a": 10}
    assert decided([node("n", 1, 0.3)], job("a", 3, each=0.1)) == {"a": 3}


def test_an_elastic_job_takes_what_is_free_between_its_bounds() -> None:
    assert decided([node("n", 8, 3)], job("a", 2, most=4)) == {"a": 3}
    assert decided([node("n", 8, 8)], job("a", 2, most=4)) == {"a": 4}
    assert decided([node("n", 8, 1)], job("a", 2, most=4))["a"][0] == 1


def test_gpus_and_processors_are_two_queues() -> None:
    held, more = job("r", 6, resource="CPU", workers=6), {"resource": "CPU"}
    nodes = [Node(id="n", total={"GPU": 4, "CPU": 8}, free={"GPU": 4, "CPU": 2})]
    found = decided(nodes, held, job("a", 4, overtaken=4, **more), job("b", 4), job("c", 2, **more))
    assert found["b"] == 4
    assert found["a"] == (1, "4 workers of 1 CPU each; 2 of 8 CPUs are free")
    assert found["c"] == (3, "a goes first, for it was overtaken 4 times")


def test_a_user_at_the_limit_waits_and_holds_nobody_up() -> None:
    mine = {"user": "ada", "overtaken": 9}
    running = job("r", 2, user="ada", workers=2)
    found = decided([node("n", 8, 2)], running, job("a", 1, **mine), job("b", 2), gpus_per_user=2)
    assert found == {"a": (1, "ada has 2 GPUs, and may have 2"), "b": 2}
    assert decided([node("n", 8, 2)], running, job("a", **mine), users={"ada": 3}) == {"a": 1}


def test_what_starts_counts_for_its_users_limit_at_once() -> None:
    found = decided([node("n", 8)], job("a", 2, user="x"), job("b", 2, user="x"), gpus_per_user=3)
    assert found == {"a": 2, "b": (2, "x has 2 GPUs, and may have 3")}
    assert decided([node("n", 8)], job("a", 2, most=8, user="x"), gpus_per_user=3) == {"a": 3}


def test_so_many_later_jobs_start_before_one_that_waits_and_no_more() -> None:
    later = [job(name) for name in "bcdefg"]
    found = decided([node("n", 8, 6)], job("a", 7), *later, overtake=4)
    assert [found[name] for name in "bcde"] == [1, 1, 1, 1]
    for name in "fg":
        assert found[name][1] == "a goes first, for it was overtaken 4 times"
    found = decided([node("n", 8, 6)], job("a", 7, overtaken=3), *later, overtake=4)
    assert [name for name in "bcdefg" if found[name] == 1] == ["b"]


def test_a_gang_of_low_priority_that_has_aged_is_passed_no_more_often_than_others() -> None:
    gang = job("a", 2, priority=0, since=0.0)
    jobs = [gang, job("b", since=13 * HOUR), job("c", priority=2, since=13 * HOUR)]
    snapshot = Snapshot(now=13 * HOUR, nodes=[node("n", 2, 1)], jobs=jobs[:2])
    assert schedule(snapshot, Policy())["b"] == Start(workers=1, overtakes=("a",))
    barred = [replace(gang, overtaken=4), *jobs[1:]]
    found = schedule(replace(snapshot, jobs=barred, nodes=[node("n", 3, 1)]), Policy())
    assert found["c"] == Start(workers=1)  # still of higher priority
    assert found["b"].position == 3
    assert "a goes first" in found["b"].reason


def test_a_start_names_those_that_it_overtakes() -> None:
    jobs = job("a", 4), job("b", 4, priority=0), job("c", priority=1), job("d", priority=0)
    found = schedule(Snapshot(now=200, nodes=[node("n", 4, 2)], jobs=jobs), Policy())
    assert found["c"] == Start(workers=1, overtakes=("a",))  # of higher priority than b
    assert found["d"] == Start(workers=1, overtakes=("a", "b"))


def test_a_gang_that_lost_its_node_holds_nobody_up() -> None:
    found = decided([node("n", 2)], job("a", 4, overtaken=4), job("b"))
    assert found["b"] == 1
    assert found["a"] == (
        1,
        "4 workers of 1 GPU each; 2 of 2 GPUs are free, and that is too few for it",
    )


def test_everything_starts_where_another_queue_has_decided() -> None:
    assert decided([], job("a", 2, most=4), job("b", workers=1), off=True) == {"a": 4}


def test_what_can_never_fit_says_what_is_the_largest() -> None:
    nodes = [node("m", 4, 0), node("n", 4, 0)]
    assert impossible(job("a", 8), nodes) == ""
    assert "the pool has 8 in all, room for 8 at most" in impossible(job("a", 9), nodes)
    assert "no node has more than 4" in impossible(job("a", 1, each=5.0), nodes)


def test_what_a_limit_never_allows_is_forbidden() -> None:
    assert forbidden(job("a", 3), Policy(gpus_per_user=2)) == "3 GPUs, and a may have 2"
    assert not forbidden(job("a", 3), Policy(gpus_per_user=2, off=True))
    assert not forbidden(job("a", 3, resource="CPU"), Policy(gpus_per_user=2))
    assert not forbidden(job("a", 3, most=9), Policy(gpus_per_user=3))


@pytest.mark.parametrize(("workers", "left"), [(3, [1, 0]), (4, [0, 0]), (9, [0, 0])])
def test_leases_without_a_place_yet_take_the_emptiest_nodes_first(
    workers: int, left: list[float]
) -> None:
    taken = take([node("m", 4, 2), node("n", 4, 2)], job("a", workers), workers)
    assert sorted((each.free["GPU"] for each in taken), reverse=True) == left


GANG, PRIORITY, USER, RUNS, ARRIVES = (
    st.integers(1, 6),
    st.integers(0, 2),
    st.sampled_from("xyz"),
    st.integers(1, 40),
    st.integers(0, 15),
)
JOBS = st.lists(st.tuples(GANG, PRIORITY, USER, RUNS, ARRIVES), min_size=2, max_size=40)


@given(asked=JOBS, limit=st.sampled_from([None, 6.0]))
@settings(deadline=None, max_examples=200)
def test_whatever_arrives_all_end_and_nobody_is_overtaken_more_than_four_times(
    asked: list[tuple[int, int, str, int, int]], limit: float | None
) -> None:
    arrivals, runs = [], {}
    for number, (gang, priority, user, seconds, at) in enumerate(asked):
        who = {"priority": priority, "user": user, "since": float(at)}
        arrivals.append(job(f"{number:02}", gang, **who))
        runs[arrivals[-1].id] = seconds
    pool: dict[str, Job] = {}
    ends: dict[str, int] = {}
    passed = dict.fromkeys(runs, 0)  # counted here, whatever `schedule` counts
    for now in range(16 + sum(runs.values()) + 1):
        pool |= {each.id: each for each in arrivals if each.since == now}
        for name in [name for name, end in ends.items() if end == now]:
            del pool[name], ends[name]
        used = sum(each.workers for each in pool.values())
        snapshot = Snapshot(now=now, nodes=[node("n", 6, 6 - used)], jobs=tuple(pool.values()))
        found = schedule(snapshot, Policy(gpus_per_user=limit))
        starts = {name: each for name, each in found.items() if isinstance(each, Start)}
        for name, start in starts.items():
            pool[name] = replace(pool[name], workers=start.workers)
            ends[name] = now + runs[name]
            for other in start.overtakes:
                pool[other] = replace(pool[other], overtaken=pool[other].overtaken + 1)
            for other in found.keys() - starts.keys():
                before = (pool[other].since, other) < (pool[name].since, name)
                passed[other] += before and pool[other].priority >= pool[name].priority
        assert used + sum(each.workers for each in starts.values()) <= 6
        assert ends or not pool, "jobs wait, and nothing runs"
    assert not pool
    assert all(count <= 4 for count in passed.values()) or limit is not None
