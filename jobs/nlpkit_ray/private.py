"""All that is private in Ray and used here: a new Ray may change it without a word.

`tests/jobs/test_private.py` asks each of these of a real cluster. The module is sent to clusters as
it stands, with `probe`, and needs nothing of nlpkit there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

CHATTY = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers of Ray's client that say what nobody asked; each has a level of its own."""
YOUNG = "No available agent"
"""What a cluster says that is not ready for jobs yet."""

FULL = "low on memory"
"""What stands in Ray's text where it ended a process for want of memory, and then lists all."""


def client(url: str, how: dict[str, Any]) -> JobSubmissionClient:
    """Ray's client of the API at a URL, and of no other: left alone, it lets RAY_ADDRESS win.

    Args:
        url: Of the API.
        how: Options of `requests.request`, headers among them.
    """
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def __init__(self) -> None:
            super(JobSubmissionClient, self).__init__(address=url, headers=dict(how["headers"]))
            question = "Is it the address of a dashboard, with Ray 2.0 or later?"
            self._check_connection_and_version("2.0", question)

        def _do_request(self, *args: Any, **kwargs: Any) -> Any:
            kwargs |= {name: how[name] for name in ("auth", "proxies", "allow_redirects")}
            return staying(super()._do_request(*args, **kwargs))

    return Client()


def staying(answer: Any) -> Any:
    """An HTTP answer, unless it sends us on. Raises RuntimeError that says where to."""
    if place := answer.headers.get("Location"):
        raise RuntimeError(
            f"the cluster sends us on to {place}; if that is right, give its address"
        )
    return answer


def usable() -> list[dict[str, Any]]:
    """Ray's records of the nodes where something can start: alive, and not being drained."""
    import ray._private.state

    draining = ray._private.state.state.get_draining_nodes()
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [each for each in found if each["Alive"] and each["NodeID"] not in draining]


def available() -> dict[str, dict[str, float]]:
    """What nothing runs on, by node and resource; what is used up is not listed."""
    import ray._private.state

    left: dict[str, dict[str, float]] = ray._private.state.available_resources_per_node()  # type: ignore[no-untyped-call]
    return left


def ended() -> set[str]:
    """Ray's ids of the drivers that have ended, however they did."""
    import ray._private.state

    table: Any = ray._private.state.state.job_table()  # type: ignore[no-untyped-call]
    return {job["JobID"] for job in table if job["IsDead"]}


def groups() -> tuple[dict[tuple[str, str], float], set[str]]:
    """What placement groups hold, by node and resource; and the jobs that have one."""
    import ray._private.state
    from ray.core.generated import gcs_pb2

    table: Any = gcs_pb2
    accessor = ray._private.state.state._connect_and_get_accessor()
    held: dict[tuple[str, str], float] = {}
    owners: set[str] = set()
    for text in accessor.get_placement_group_table():
        group = table.PlacementGroupTableData.FromString(text)
        if group.state != table.PlacementGroupTableData.CREATED:
            continue
        owners.add(group.creator_job_id.hex())
        for bundle in group.bundles:
            for kind, amount in bundle.unit_resources.items():
                key = (bundle.node_id.hex(), kind)
                held[key] = held.get(key, 0.0) + amount
    return held, owners
