"""`nlpkit serve`: a run's model behind HTTP, until a signal ends it."""

from __future__ import annotations

import ipaddress
import signal
import socket
from typing import TYPE_CHECKING

import click

from nlpkit.bundle.forms import fields_of
from nlpkit.bundle.load import load
from nlpkit.commands.complete import runs
from nlpkit.errors import InputError, Interrupted
from nlpkit_serve.app import Service
from nlpkit_serve.server import BACKLOG, make_room, run

if TYPE_CHECKING:
    from types import FrameType

    from nlpkit.bundle.load import Backend
    from nlpkit.cli.render import Terminal


@click.command("serve")
@click.argument("run_folder", metavar="RUN", shell_complete=runs)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0 takes one that is free.",
)
@click.option("--backend", type=click.Choice(["torch", "onnx"]), help="What runs the model.")
@click.option(
    "--batch-size",
    type=click.IntRange(1, 4096),
    default=8,
    show_default=True,
    help="Texts of one or several requests that go through the model together, at most.",
)
@click.option("--trust-plugins", is_flag=True, help="Execute the plugins that a bundle brings.")
@click.pass_obj
def command(
    terminal: Terminal,
    run_folder: str,
    host: str,
    port: int,
    backend: Backend | None,
    batch_size: int,
    trust_plugins: bool,
) -> None:
    """Answer POST /predict, GET /healthz and GET /metrics with the model of RUN.

    RUN is a run folder, a bundle or an export. SIGTERM or Ctrl-C stops it, once all is answered.
    """
    make_room()
    with _bound(host, port) as listener:
        model = load(run_folder, backend=backend, trust_plugins=trust_plugins)
        fields_of(model)  # the first one is slow, and may have fields that no answer can have
        service = Service(model, batch_size=batch_size, note=terminal.note)
        _listen(listener, host)
        address, number = listener.getsockname()[:2]
        if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            terminal.note(
                f"warning: --host {host}: whoever reaches this address may ask; there is no "
                "authentication"
            )
        shown = f"[{address}]" if ":" in address else address
        terminal.note(f"{run_folder} answers at http://{shown}:{number}")
        _run(service, listener, terminal)


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has its port but is not reachable yet. Raises InputError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _unusable(host, port, error) from None
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _unusable(host, port, error) from None
    return bound


def _listen(bound: socket.socket, host: str) -> None:
    try:
        bound.listen(BACKLOG)
    except OSError as error:  # another program took the port meanwhile
        raise _unusable(host, bound.getsockname()[1], error) from None


def _unusable(host: str, port: int, error: Exception) -> InputError:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return InputError(
        f"cannot listen at {host}, port {port}: {reason}; choose with --host and --port "
        "(0 takes a port that is free)"
    )


def _run(service: Service, listener: socket.socket, terminal: Terminal) -> None:
    """Serves. Raises Interrupted, with all answered, once a signal came."""

    def ended(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}", signal=number)

    # The server has handlers of its own; when it has stopped it raises its signals again.
    before = {number: signal.signal(number, ended) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run(service.application(), listener, terminal.note)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
