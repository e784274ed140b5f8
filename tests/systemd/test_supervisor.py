"""What the supervisor tells systemd, through a real notify socket; signals; the watchdog."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import Protocol

import anyio
import pytest

from holdfast.daemon.supervisor import Notifier, watchdog


class Received(Protocol):
    path: str

    def next(self) -> dict[str, str]: ...


def test_each_state_is_told_once(notify_socket: Received) -> None:
    """READY, STATUS, RELOADING, STOPPING as sd_notify(3) has them; an unchanged status is not repeated."""
    notifier = Notifier({"NOTIFY_SOCKET": notify_socket.path})
    notifier.ready("serving\nat LSN 1")
    notifier.status("serving at LSN 1")
    notifier.status("serving at LSN 2")
    notifier.reloading()
    notifier.ready()
    notifier.more_time(1.5)
    notifier.stopping("draining")
    assert notify_socket.next() == {"READY": "1", "STATUS": "serving at LSN 1"}
    assert notify_socket.next() == {"STATUS": "serving at LSN 2"}
    reloading = notify_socket.next()
    assert reloading["RELOADING"] == "1"
    assert abs(int(reloading["MONOTONIC_USEC"]) / 1e6 - time.clock_gettime(time.CLOCK_MONOTONIC)) < 5
    assert notify_socket.next() == {"READY": "1", "STATUS": "serving at LSN 2"}
    assert notify_socket.next() == {"EXTEND_TIMEOUT_USEC": "1500000"}
    assert notify_socket.next() == {"STOPPING": "1", "STATUS": "draining"}


@pytest.mark.parametrize("name", ["", "/nowhere/at/all", "@nobody-listens-here", "vsock:2:1"])
def test_nobody_who_listens_is_no_obstacle(name: str) -> None:
    """Without systemd, or with one that is gone, telling is a matter of nothing."""
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000"})
    notifier.ready("serving")
    notifier.stopping()
    assert (notifier.watchdog_s is None) == (not name or name.startswith("vsock"))


@pytest.mark.parametrize(
    ("env", "period_s"),
    [
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getpid())}, 0.001),
        ({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_watches_this_process_only(env: dict[str, str], period_s: float | None) -> None:
    """WATCHDOG_PID says whom systemd watches: a child that inherited the variables must not ping."""
    assert Notifier({"NOTIFY_SOCKET": "/run/notify", **env}).watchdog_s == period_s


@pytest.mark.anyio
async def test_pings_stop_when_a_command_hangs_and_come_back(notify_socket: Received) -> None:
    """The watchdog is told that all is well only while it is: idle is healthy, a hang is not, a hang that ended is again."""
    notifier = Notifier({"NOTIFY_SOCKET": notify_socket.path, "WATCHDOG_USEC": "30000"})
    moving = True
    pings = 0

    def ping() -> None:
        nonlocal pings
        pings += 1

    notifier.alive = ping  # type: ignore[method-assign]

    async def grows() -> bool:
        before = pings
        await anyio.sleep(0.1)
        return pings > before + 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watchdog, notifier, lambda: moving)
        assert await grows()
        moving = False
        assert not await grows()
        moving = True
        assert await grows()
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_stalled_event_loop_pings_nobody(notify_socket: Received) -> None:
    """A loop that does not turn cannot ping: a period without one is what systemd acts on."""
    notifier = Notifier({"NOTIFY_SOCKET": notify_socket.path, "WATCHDOG_USEC": "60000"})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watchdog, notifier, lambda: True)
        await anyio.sleep(0.01)
        assert notify_socket.next() == {"WATCHDOG": "1"}
        time.sleep(0.2)  # noqa: ASYNC251 - stalling the loop is the point
        notify_socket._socket.setblocking(False)  # type: ignore[attr-defined]
        with pytest.raises(BlockingIOError):
            notify_socket.next()
        tasks.cancel_scope.cancel()


STOPS = """
import anyio
from holdfast.daemon import logs
from holdfast.daemon.supervisor import stop_on_signal
from holdfast.daemon.values import LogLevel

async def main():
    async with anyio.create_task_group() as tasks:
        await tasks.start(stop_on_signal, lambda number: print(number.name, flush=True))
        print("up", flush=True)

logs.configure(LogLevel.INFO)
anyio.run(main, backend_options={"use_uvloop": True})
"""


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_asks_and_the_second_ends(first: signal.Signals) -> None:
    """One Ctrl-C drains; whoever does not want to wait sends another, and it ends there and then."""
    with subprocess.Popen(
        [sys.executable, "-c", STOPS], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(first)
        assert process.stdout.readline() == f"{first.name}\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 128 + signal.SIGINT


def test_a_full_notify_socket_does_not_block() -> None:
    """A supervisor that does not read must not hold the daemon's event loop."""
    name = f"@holdfast-test-full-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(b"\0" + name[1:].encode())
        notifier = Notifier({"NOTIFY_SOCKET": name})
        began = time.monotonic()
        for _ in range(2000):
            notifier.alive()
        assert time.monotonic() - began < 5
