"""How many workers a run has under Ray, and what each of them takes from a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from nlpkit.errors import ConfigError
from nlpkit_ray.config import PRIORITIES
from nlpkit_ray.decide import Job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nlpkit.config.schema import Config
    from nlpkit.plugin.host import Host
    from nlpkit.plugin.records import StrategyRecord
    from nlpkit_ray.config import RayConfig
    from nlpkit_ray.storage import Storage


@dataclass(frozen=True, kw_only=True)
class Gang:
    """The workers of one run, which start together.

    Attributes:
        least: How many at least; `most` how many at most; None: as many as the pool has room for.
        resource: What they take: "GPU", or "CPU" where they train on processors.
        each: How much of it one worker takes; all of one node.
    """

    least: int
    most: int | None
    resource: str
    each: float

    def on(self, total: float) -> Gang:
        """The gang on a pool that has `total` of the resource: `most` is a number then."""
        if self.most is not None:
            return self
        every = max(1, int(total / self.each))
        return Gang(least=every, most=every, resource=self.resource, each=self.each)

    @property
    def takes(self) -> dict[str, float]:
        """The resources of one worker, as Ray takes them."""
        return {self.resource: self.each}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all leases of a run have in common.

    Attributes:
        run_dir: The run folder, the same path on every node.
        storage: Where token store and run folder are kept; None on a single machine.
        gang: What each of the ranks takes.
        backend: Of torch's process group: nccl where GPUs are real, else gloo.
        max_failures: How often all ranks are started again.
        scratch: Where Ray Train leaves its marker.
        stop: Polled; true: all ranks save and leave.
    """

    run_dir: Path
    storage: Storage | None
    gang: Gang
    backend: str
    max_failures: int
    scratch: Storage
    stop: Callable[[], bool]


def job_of(gang: Gang, options: RayConfig, *, id: str, user: str, since: float) -> Job:
    """A gang that waits, as the pool sees it; its `most` must be a number."""
    return Job(
        id=id,
        user=user,
        priority=PRIORITIES.index(options.priority),
        since=since,
        least=gang.least,
        most=gang.most or gang.least,
        each=gang.each,
        resource=gang.resource,
    )


def gang_of(config: Config, host: Host, options: RayConfig) -> Gang:
    """The gang of a resolved config.

    Raises:
        ConfigError: The strategy's devices cannot be had from a pool.
    """
    each = options.gpus_per_worker
    resource = "GPU" if each else "CPU"
    devices: Any = config.strategy.options.get("devices")
    if cast("StrategyRecord", host.entry("strategy", config.strategy.name).record).ranks:
        least, most = devices if isinstance(devices, list) else (devices, devices)
        if devices == "all":
            least, most = 1, None
        return Gang(least=least, most=most, resource=resource, each=each or 1.0)
    if devices == "all":
        message = f'"{config.strategy.name}" takes its GPUs from one node of the pool'
        problem = config.origin.problem(("strategy", "devices"), message, "give a number")
        raise ConfigError([problem])
    return Gang(least=1, most=1, resource=resource, each=(each or 1.0) * (devices or 1))
