"""From a config on any machine to a job on a cluster."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import secrets
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nlpkit.checking.config import examine
from nlpkit.config.load import dump_config
from nlpkit.config.resolve import options_of, secrets_of
from nlpkit.errors import ConfigError, InputError
from nlpkit.files import sha256
from nlpkit.pretrained import Pretrained, visible_files
from nlpkit.secrets import shown
from nlpkit.version import __version__
from nlpkit_ray.gang import gang_of
from nlpkit_ray.job import ENDED, Job
from nlpkit_ray.package import LIMIT, Package, distributions_of, unpack
from nlpkit_ray.preflight import preflight
from nlpkit_ray.storage import Storage, is_shared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nlpkit.config.schema import Config
    from nlpkit.plugin.host import Host
    from nlpkit_ray.client import Connection
    from nlpkit_ray.config import RayConfig

DRIVER = "nlpkit_ray.driver"
"""The module that a job runs."""
ORDER = "job.json"
"""What it finds beside config.yaml: id, user, storage, resume, and where inputs are."""
_STOP = "300"
"""Seconds from SIGTERM to SIGKILL: in them a step ends, and a checkpoint is written and copied."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """A file or folder that a config names, and that travels with it.

    Attributes:
        key: The dotted key that names it.
        path: Where it is here.
        files: Its files.
        sha256: Of its content.
        size: Bytes.
        split: `#train` where the config names a split of a dataset's folder.
    """

    key: str
    path: Path
    files: Sequence[Path]
    sha256: str
    size: int
    split: str = ""

    @property
    def name(self) -> str:
        """Its place below `inputs`, in the job's folder and in the storage."""
        return f"{self.sha256}/{self.path.name}"


def remote_locations(config: Config) -> list[str]:
    """The URLs of data, which the cluster reads itself; but for those that hold a secret."""
    urls = (each for each in _data(config).values() if isinstance(each, str) and "://" in each)
    return [url for url in urls if shown(url) == url]


def _data(config: Config) -> dict[str, Any]:
    """What the splits are, by dotted key."""
    return {f"data.{each}": getattr(config.data, each) for each in ("train", "validation", "test")}


def inputs_of(config: Config) -> list[Input]:
    """What a config names on this machine: data files, and a pretrained folder."""
    named = _data(config)
    model, tokenizer = (part.options.get("pretrained") for part in (config.model, config.tokenizer))
    named |= {"model.pretrained": model, "tokenizer.pretrained": tokenizer}
    found = []
    for key, value in named.items():
        if not isinstance(value, str) or "://" in value:
            continue
        path, split = _location(config.origin.base, value)
        if not path.exists():
            continue  # a hub's id; a file that is missing has been named before
        if key.startswith("data."):
            files = visible_files(path) if path.is_dir() else [path]
        else:
            files = Pretrained(str(path), key).read_files(weights=value == model)
        content = [f"{each.relative_to(path)}\0{sha256(each)}\n" for each in files]
        digest = hashlib.sha256("".join(content).encode()).hexdigest()
        size = sum(each.stat().st_size for each in files)
        found.append(Input(key=key, path=path, files=files, sha256=digest, size=size, split=split))
    return found


def _location(base: Path, value: str) -> tuple[Path, str]:
    """A path, and which split of it is meant: "#train", or ""."""
    path = Path(base, os.path.expanduser(value))
    name, mark, split = path.name.rpartition("#")
    return (path.with_name(name), mark + split) if name and not path.exists() else (path, "")


@dataclass(kw_only=True)
class Submission:
    """One config on its way to a cluster.

    Attributes:
        config: As it was loaded; once it is checked, the resolved one.
        host: Has the components.
        connection: To the cluster.
        say: Told what is done.
        resume: The job to go on with, or None.
    """

    config: Config
    host: Host
    connection: Connection
    say: Callable[[str], None]
    resume: str | None = None

    def send(self) -> Job:
        """Checks everything, here and there, and submits.

        Raises:
            InputError: What is wrong with the config, its data, the cluster or the storage;
                nothing is queued, and nothing is left behind.
        """
        findings = examine(self.config, self.host)
        if not findings.usable:
            raise ConfigError(findings.problems)
        # What is sent is resolved: written down, the defaults of another would look chosen.
        config = self.config = findings.config or self.config
        options: RayConfig = options_of(config.launch, "launcher", self.host)  # type: ignore[assignment]
        if options.storage is None:
            message = "a cluster needs it: run folders and checkpoints outlive their node there"
            remedy = "a folder that all nodes share, or s3://bucket/folder"
            problem = config.origin.problem(("launch", "storage"), message, remedy)
            raise ConfigError([problem])
        if shown(options.storage) != options.storage:  # everybody can read a job's metadata
            message, remedy = (
                "the URL shows a secret",
                "set credentials where the nodes are started",
            )
            problem = config.origin.problem(("launch", "storage"), message, remedy)
            raise ConfigError([problem])
        named = {secret.env for _, secret in secrets_of(config, self.host)}
        options = options.model_copy(update={"secrets": sorted({*options.secrets, *named})})
        gang = gang_of(config, self.host, options)
        names = distributions_of(config, self.host)
        inputs = inputs_of(config)
        report = preflight(
            self.connection,
            config=config,
            gang=gang,
            options=options,
            distributions=names,
            data=remote_locations(config),
            user=user_of(options),
        )
        if report.problems:
            raise ConfigError(report.problems)
        self.say(f"checked the cluster in {report.seconds:.1f} s")
        for line in report.notes:
            self.say(line)
        with TemporaryDirectory(prefix="nlpkit-") as temporary:
            folder = Path(temporary)
            for name in report.ship:
                unpack(name, folder)
            self._place(inputs, str(options.storage), folder)
            identity = self.resume or time.strftime(f"nlpkit-%Y%m%d-%H%M%S-{secrets.token_hex(3)}")
            self._write(folder, identity, options, inputs)
            package = Package(folder)
            package.check()
            self.say(f"sends {package}")
            self._submit(identity, folder, options)
        return Job(identity, self.connection, str(options.storage))

    def _place(self, inputs: Sequence[Input], storage: str, folder: Path) -> None:
        """Puts inputs into the package; where they are too large for it, into the storage."""
        size = Package(folder).size + sum(each.size for each in inputs)
        if size <= LIMIT:
            for each in inputs:
                for file in each.files:
                    target = folder / "inputs" / each.sha256 / file.relative_to(each.path.parent)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, target)
            return
        if is_shared(storage) and not Path(Storage(storage).root).is_dir():
            largest = max(inputs, key=lambda each: each.size)
            elsewhere = f"copy it there and set {largest.key} to a URL (file://{storage}/…)"
            if not largest.key.startswith("data."):  # a model is never read from a URL
                elsewhere = f"set {largest.key} to an id of the hub"
            raise InputError(
                f"{largest.path}: {largest.size / 1e6:,.0f} MB, and at most {LIMIT / 1e6:,.0f} MB "
                f"can travel with a job; mount {storage} here too, or {elsewhere}, or use an "
                "s3:// storage"
            )
        there = Storage(storage)
        for each in inputs:
            place = f"inputs/{each.sha256}"
            if not there.has(place):
                self.say(f"copies {each.path} to {storage} ({each.size / 1e6:,.0f} MB)")
                there.push(each.path.parent, place, each.files)

    def _write(
        self, folder: Path, identity: str, options: RayConfig, inputs: Sequence[Input]
    ) -> None:
        """Writes the config, its plugins and the driver's order into the package."""
        plugins = []
        for plugin in self.config.plugins:
            if plugin.endswith(".py"):
                path = Path(self.config.origin.base, os.path.expanduser(plugin))
                (folder / "plugins").mkdir(exist_ok=True)
                shutil.copyfile(path, folder / "plugins" / path.name)
                plugin = f"./plugins/{path.name}"
            plugins.append(plugin)
        config = self.config.model_copy(update={"plugins": tuple(plugins)})
        (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        order = {
            "id": identity,
            "user": user_of(options),
            "storage": options.storage,
            "resume": self.resume is not None,
            "backup": config.checkpoint.backup is None,
            "inputs": {each.key: each.name + each.split for each in inputs},
        }
        (folder / ORDER).write_text(json.dumps(order), encoding="utf-8")

    def _submit(self, identity: str, folder: Path, options: RayConfig) -> None:
        if self.resume:
            self._forget(identity)
        env = {**options.env, "RAY_JOB_STOP_WAIT_TIME_S": _STOP, "PYTHONUNBUFFERED": "1"}
        self.connection.submit(
            submission_id=identity,
            entrypoint=f"exec python -m {DRIVER}",
            runtime_env={"working_dir": str(folder), "env_vars": env},
            metadata={
                "nlpkit": __version__,
                "name": self.config.name,
                "job_name": self.config.name,  # on the dashboard
                "user": user_of(options),
                "priority": options.priority,
                "storage": str(options.storage),
                "submitted": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "host": socket.gethostname(),
            },
        )

    def _forget(self, identity: str) -> None:
        """Makes room for a job that goes on under its own name; a cluster knows a name once."""
        try:
            info = self.connection.info(identity)
        except InputError:  # another head; the storage remembers
            return
        if str(info.status).lower() not in ENDED:
            raise InputError(f"{identity}: has not ended; stop it, or wait for its end")
        self.connection.delete(identity)


def user_of(options: RayConfig) -> str:
    """Whose job it is, as declared: nobody proves it. A uid without a name is its number."""
    if user := options.user or os.environ.get("NLPKIT_USER"):
        return user
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
