"""The image's entry point: `docker run IMAGE [COMMAND …]`.

workspace (the default): Jupyter Lab and SSH. ray-head, ray-worker --address HEAD: a part of a
cluster. tensorboard: the curves of all runs. A command of nlpkit, such as train or doctor; or any
other program, such as bash.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from nlpkit_image import health, jupyter, ray, ssh
from nlpkit_image.others import end_others
from nlpkit_image.paths import WORKSPACE, StartError, unmounted
from nlpkit_image.user import person, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nlpkit_image.user import Person

_GRACE = 20.0  # seconds that servers have to stop; docker stop --time must be longer
_POLL = 0.2


def main(arguments: Sequence[str]) -> int:
    """Does what the command line of the container says."""
    try:
        who, notes = person()
        notes += prepare(who)
        if lost := unmounted():
            notes.append(f"gone with the container, for not on a mount: {', '.join(lost)}")
        for note in notes:
            _tell(f"warning: {note}")
        environment = {**who.environment(), **ray.token(who)}
        return _do(list(arguments) or ["workspace"], environment, who)
    except StartError as error:
        _tell(f"error: {error}")
        return 2


def _do(words: list[str], environment: dict[str, str], who: Person) -> int:
    name, rest = words[0], words[1:]
    health.ask("")
    if name == "workspace" and not rest:
        return _workspace(environment, who)
    if name in ("ray-head", "ray-worker"):
        words = ray.command(name, rest, environment)
        if name == "ray-head":
            health.ask(f"http://{words[2]}:8265")
    elif name == "tensorboard" and not any(word.startswith("--logdir") for word in rest):
        health.ask("http://127.0.0.1:6006")
        words = [name, f"--logdir={WORKSPACE}/models/runs", "--bind_all", *rest]
    elif name in _commands() or name in ("--help", "--version"):
        words = ["nlpkit", *words]
    _replace(words, environment, who)
    return 1  # never reached: the process is another one by now


def _commands() -> set[str]:
    """What `nlpkit` understands, plugins' commands included."""
    from nlpkit.plugin.host import Host

    return {entry.record.name for entry in Host.discover().entries("command")}


def _replace(line: list[str], environment: Mapping[str, str], who: Person) -> None:
    """Becomes another program, which then gets the signals."""
    who.become()
    sys.stdout.flush()
    try:
        os.execvpe(line[0], line, dict(environment))
    except OSError as error:
        raise StartError(
            f"{line[0]}: {error.strerror}; name a command of nlpkit (`IMAGE --help`), workspace, "
            "ray-head, ray-worker, tensorboard, or a program"
        ) from None


def _workspace(environment: dict[str, str], who: Person) -> int:
    """Jupyter Lab and SSH, until a signal or until one of them ends."""
    line, told = jupyter.command(who)
    servers = {"Jupyter Lab": line}
    _tell(f"Jupyter Lab: port {jupyter.port()}, {told}")
    sshd, told = ssh.command(who)
    if sshd:
        servers["sshd"] = sshd
    _tell(f"SSH: {told}" if sshd else f"warning: no SSH: {told}")
    for name in jupyter.REMOVED:
        environment.pop(name, None)
    health.ask(f"http://127.0.0.1:{jupyter.port()}/login")
    return _supervise(servers, environment, who)


def _supervise(servers: Mapping[str, list[str]], environment: dict[str, str], who: Person) -> int:
    """Runs servers, and ends them all at a signal, or once one of them has ended."""
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: received.append(number))
    running: dict[str, subprocess.Popen[bytes]] = {}
    for name, line in servers.items():
        rights = {} if name == "sshd" else who.rights()  # it becomes whoever logs in
        running[name] = subprocess.Popen(
            line, env=environment, stderr=subprocess.STDOUT, cwd=WORKSPACE, **rights
        )
    ended = ""
    while not received and not ended:
        time.sleep(_POLL)
        ended = next((name for name, each in running.items() if each.poll() is not None), "")
    if ended:
        _tell(f"error: {ended} ended with code {running[ended].returncode}, and so does all else")
    end_others(who, {each.pid for each in running.values()})  # first: Jupyter kills its kernels
    for each in running.values():
        each.terminate()
    deadline = time.monotonic() + _GRACE
    for each in running.values():
        try:
            each.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            each.kill()
    return 128 + received[0] if received else 1


def _tell(text: str) -> None:
    """On stderr, for the output of a command that was asked for is stdout's."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
