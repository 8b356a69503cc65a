"""The pool's actor without a cluster: who comes back after it was killed, and who is forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import pytest

from nlpkit_ray import pool
from nlpkit_ray.decide import Job, Node


def told(name: str, since: float, **more: Any) -> dict[str, Any]:
    job = Job(id=name, user="ana", priority=1, since=since, least=1, most=1, each=1.0, **more)
    return {**asdict(job), "ray_job": f"{name}-driver", "name": name}


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """One GPU, and drivers that have ended."""
    drivers: set[str] = set()

    def nodes(members: Any) -> tuple[Node, ...]:
        free = 1.0 - sum(member.job.workers for member in members)
        return (Node(id="a", total={"GPU": 1.0}, free={"GPU": max(0.0, free)}),)

    monkeypatch.setattr(pool, "_nodes", nodes)
    monkeypatch.setattr(pool, "ended", lambda: drivers)
    monkeypatch.setattr(pool, "_AGAIN", 1.0)
    monkeypatch.setattr(pool, "_ENDED", 0.0)
    monkeypatch.setattr(pool, "_HOLD", 0.1)
    return drivers


async def asks(actor: pool.Pool, driver: dict[str, Any]) -> dict[str, Any]:
    """The first answer with a decision, as a driver waits for it."""
    seen: dict[str, Any] = {}
    while not (seen.get("position") or seen.get("workers")):
        seen = await actor.ask(driver, seen)
    return seen


async def granted(actor: pool.Pool, driver: dict[str, Any]) -> dict[str, Any]:
    """The answer with a lease; the last one where there is none within five seconds."""
    for _ in range(50):
        answer = await actor.ask(driver, {})
        if answer["workers"]:
            break
    return answer


def test_one_that_comes_back_late_keeps_its_place(ended):
    async def scenario() -> list[dict[str, Any]]:
        actor = pool.Pool(None)
        later = asyncio.create_task(asks(actor, told("later", since=2)))
        await asyncio.sleep(0.7)
        return await asyncio.gather(asks(actor, told("sooner", since=1)), later)

    sooner, later = asyncio.run(scenario())
    assert (sooner["workers"], later["workers"]) == (1, 0)


def test_new_jobs_start_at_once(ended):
    async def scenario() -> dict[str, Any]:
        actor, driver = pool.Pool(None), told("new", since=1)
        await actor.ask(driver, None)
        await asyncio.sleep(0.5)
        return await actor.ask(driver, None)

    assert asyncio.run(scenario())["workers"] == 1


def test_a_lease_is_free_once_its_driver_has_ended(ended):
    async def scenario() -> dict[str, Any]:
        actor = pool.Pool(None)
        await actor.ask(told("first", since=1, workers=1), None)
        ended.add("first-driver")
        return await granted(actor, told("second", since=2))

    assert asyncio.run(scenario())["workers"] == 1


def test_a_driver_that_hangs_is_forgotten(ended, monkeypatch):
    monkeypatch.setattr(pool, "_SILENCE", 0.5)

    async def scenario() -> dict[str, Any]:
        actor = pool.Pool(None)
        await actor.ask(told("first", since=1, workers=1), None)
        return await granted(actor, told("second", since=2))

    assert asyncio.run(scenario())["workers"] == 1
