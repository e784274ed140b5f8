"""`holdfast stop`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import click

from holdfast.daemon.cli.client import Client, endpoint_option
from holdfast.daemon.errors import HoldfastError, VolumeError

__all__ = ["stop"]

STOP_TIMEOUT_S = 90.0
"""A drain with a last checkpoint of a large state takes seconds; systemd's own default patience is 90 s too."""

POLL_S = 0.05


class StillRunning(HoldfastError):
    """Raised when the daemon was told to stop and has not ended in time."""


@click.command()
@endpoint_option
@click.option(
    "--volume", metavar="DIR", type=click.Path(path_type=Path), help="Stop the daemon that holds this volume."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=STOP_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until it has ended.",
)
def stop(endpoint: str, volume: Path | None, timeout_s: float) -> None:
    """Stop the running daemon and wait until it is gone.

    It finishes the requests under way and writes the checkpoint that its strategy asks for.

    \b
    Examples:
      holdfast stop
      holdfast stop --volume ./volume
    """
    if volume is not None:
        _stop_holder(volume.absolute(), timeout_s)
    else:
        _stop_endpoint(endpoint, timeout_s)


def _stop_holder(volume: Path, timeout_s: float) -> None:
    from holdfast.daemon.lock import holder_of

    holder = holder_of(volume)
    if holder is None:
        raise VolumeError(f"no daemon holds the volume {volume}")
    if not holder.alive():
        raise VolumeError(
            f"the volume {volume} is held by {holder}, which cannot be seen from here (a container?);"
            " use --endpoint, or stop it where it runs"
        )
    _terminate(holder.pid)
    _wait(lambda: holder_of(volume) != holder, timeout_s, f"process {holder.pid}")
    click.echo(f"stopped process {holder.pid}")


def _terminate(pid: int) -> None:
    try:
        # By descriptor, not by number: between looking and signalling the number may go to another process.
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(fd, signal.SIGTERM)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def _stop_endpoint(endpoint: str, timeout_s: float) -> None:
    from holdfast.daemon.lock import holder_of

    client = Client(endpoint)
    _, health = client.health()
    answer = client.request("POST", "/_localstack/health", {"action": "kill"})
    if answer.status != 200:
        raise HoldfastError(f"the daemon at {client.endpoint} refused to stop: {answer.body.decode(errors='replace')}")
    _wait(lambda: not client.listens(), timeout_s, f"the daemon at {client.endpoint}")
    # It stops listening before it writes its last checkpoint; on this machine its lock says when it is done.
    volume = health["features"]["holdfast"].get("volume")
    if isinstance(volume, str):
        try:
            holder = holder_of(Path(volume))
        except VolumeError:
            holder = None
        if holder is not None:
            _wait(lambda: holder_of(Path(volume)) != holder, timeout_s, f"process {holder.pid}")
    click.echo(f"stopped the daemon at {client.endpoint}")


def _wait(gone: Callable[[], bool], timeout_s: float, who: str) -> None:
    give_up = time.monotonic() + timeout_s
    while not gone():
        if time.monotonic() > give_up:
            raise StillRunning(f"{who} was told to stop but still runs after {timeout_s:g} s")
        time.sleep(POLL_S)
