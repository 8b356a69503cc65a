"""What Ray does not promise, and this project takes from it: a new Ray that breaks it says so here.

All of it is in one module, `nlpkit_ray.private`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray._private.state
from packaging.requirements import Requirement
from packaging.version import Version
from ray.job_submission import JobSubmissionClient

from nlpkit_ray import private
from nlpkit_ray.client import connect
from nlpkit_ray.job import Job

if TYPE_CHECKING:
    from tests.jobs.cluster import Cluster

REPOSITORY = Path(__file__).parents[2]
ASKS = """
import json
import ray
from ray.util.placement_group import placement_group
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
ray.get(placement_group([{"GPU": 2}]).ready(), timeout=30)
held, owners = groups()
this = ray.get_runtime_context()
print("said:", json.dumps({
    "node": this.get_node_id(), "job": this.get_job_id(), "usable": usable(), "left": available(),
    "ended": sorted(ended()), "held": [[*key, held[key]] for key in held], "owners": [*owners],
}, default=str))
"""


def test_only_one_module_knows_what_is_private_in_ray() -> None:
    private_names = re.compile(r"ray\._|ray\.core\.generated|ray\.dashboard|\b_do_request\b")
    found = [
        path.name
        for folder in ("nlpkit", "plugins", "jobs", "image")
        for path in (REPOSITORY / folder).rglob("*.py")
        if private_names.search(path.read_text("utf-8"))
    ]
    assert found == ["private.py"]


def test_the_names_are_there_and_take_what_they_are_given() -> None:
    state = ray._private.state
    for function in (
        state.available_resources_per_node,
        state.state.get_draining_nodes,
        state.state.job_table,
        state.state._connect_and_get_accessor,
    ):
        inspect.signature(function).bind()
    asks: Any = JobSubmissionClient._do_request
    inspect.signature(asks).bind(None, "GET", "/", auth=None, proxies={})
    makes: Any = super(JobSubmissionClient, JobSubmissionClient).__init__
    inspect.signature(makes).bind(None, address="http://127.0.0.1:8265", headers={})
    for name in private.CHATTY:
        importlib.import_module(name)
    head = Path(inspect.getfile(JobSubmissionClient)).with_name("job_head.py")
    assert private.YOUNG in head.read_text("utf-8")
    raylet = Path(ray.__file__).parent / "core" / "src" / "ray" / "raylet" / "raylet"
    assert private.FULL.encode() in raylet.read_bytes()


def test_no_other_ray_is_installed_than_one_that_was_tried() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    (wanted,) = map(Requirement, project["optional-dependencies"]["ray"])
    assert ray.__version__ in wanted.specifier
    tried = Version(ray.__version__)
    assert f"{tried.major}.{tried.minor + 1}.0" not in wanted.specifier


def said(pool: Cluster, name: str) -> dict[str, Any]:
    """What the private functions say inside of a cluster, in a job that holds two GPUs."""
    connection = connect(pool.address)
    source = inspect.getsource(private) + ASKS
    path = pool.folder / f"{name}.py"
    path.write_text(source)
    connection.submit(submission_id=name, entrypoint=f"python {path}", metadata={})
    job = Job(name, connection)
    assert job.wait(60) == "succeeded", job.logs()
    (line,) = [each for each in job.logs().splitlines() if each.startswith("said: ")]
    answer: dict[str, Any] = json.loads(line.removeprefix("said: "))
    return answer


def test_a_cluster_says_what_it_has_who_holds_it_and_who_has_ended(pool: Cluster) -> None:
    first, second = said(pool, "private-1"), said(pool, "private-2")
    (node,) = second["usable"]
    assert (node["NodeID"], node["Alive"]) == (second["node"], True)
    assert node["Resources"]["GPU"] == 4
    assert node["NodeManagerAddress"]
    assert second["left"][second["node"]]["GPU"] == 2
    assert second["left"][second["node"]]["CPU"] == 2
    assert [second["node"], "GPU", 2.0] in second["held"]
    assert second["owners"] == [second["job"]]
    assert first["job"] in second["ended"]
    assert second["job"] not in second["ended"]
