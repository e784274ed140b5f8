"""The daemon and whoever started it: readiness and status for systemd, signals, the watchdog.

The protocol is sd_notify(3): one datagram with lines `KEY=value` to the socket that NOTIFY_SOCKET names. Without that
variable nothing is sent and nothing else changes.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping

import anyio
import structlog
from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus

__all__ = ["Notifier", "stop_on_signal", "watchdog"]

STATUS_MAX_CHARACTERS = 200
"""A status is one line of `systemctl status`."""

log = structlog.get_logger(__name__)


class Notifier:
    """Tells systemd how the daemon is. Every method is quick, never raises, and does nothing when nobody listens."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._address = _address(env.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(env) if self._address else None
        self._status = ""

    def ready(self, status: str = "") -> None:
        """The daemon serves (again, after `reloading`)."""
        self._status = _one_line(status) or self._status
        self._send("READY=1", f"STATUS={self._status}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent only when it changed."""
        line = _one_line(text)
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def reloading(self) -> None:
        """The settings are being read again; `ready` says when that is done."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "stopping") -> None:
        """The daemon drains and will end."""
        self._status = _one_line(status)
        self._send("STOPPING=1", f"STATUS={self._status}")

    def alive(self) -> None:
        """The watchdog's ping."""
        self._send("WATCHDOG=1")

    def more_time(self, seconds: float) -> None:
        """Starting or stopping takes longer than the unit allows (a long replay): ask for `seconds` more from now on."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagram:
                datagram.setblocking(False)
                datagram.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            # A supervisor that is gone or busy is no reason to stop serving.
            log.debug("systemd was not told", lines=lines, reason=str(error))


def _address(name: str) -> str | bytes | None:
    """The socket's address: a path, or `@name` for Linux's abstract names. Others (vsock) are for virtual machines."""
    if name.startswith("@"):
        return b"\0" + os.fsencode(name[1:])
    return name if name.startswith("/") else None


def _watchdog_s(env: Mapping[str, str]) -> float | None:
    """The time after which a silent daemon is killed, if systemd watches this process (sd_watchdog_enabled(3))."""
    period_us, pid = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "")
    if not period_us.isdecimal() or int(period_us) == 0 or pid not in {"", str(os.getpid())}:
        return None
    return int(period_us) / 1e6


def _one_line(text: str) -> str:
    return " ".join(text.split())[:STATUS_MAX_CHARACTERS]


async def watchdog(notifier: Notifier, moving: Callable[[], bool]) -> None:
    """Ping while the event loop turns and `moving` says that no command or sync hangs; idle is healthy.

    Returns at once when nobody watches. When `moving` is false the pings stop and systemd kills and restarts the daemon:
    recovery from the journal is what a hung daemon needs.
    """
    if notifier.watchdog_s is None:
        return
    silent = False
    while True:
        if moving():
            notifier.alive()
            silent = False
        elif not silent:
            silent = True
            log.error("a command or a sync hangs; the watchdog is no longer told that all is well")
        # A third of the period: one late ping is forgiven.
        await anyio.sleep(notifier.watchdog_s / 3)


async def stop_on_signal(
    stop: Callable[[signal.Signals], None], *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED
) -> None:
    """Call `stop` at the first SIGTERM, SIGINT or SIGHUP; at the second end the process there and then. Never returns.

    Begun by `await tasks.start(...)` it has the signals from then on; by `start_soon` only once its turn comes, and a signal
    before that kills.

    Ending at once is safe, if impolite: what was acknowledged is in the journal, as it is after a kill -9. Under a strategy
    without a journal it loses what a kill loses.
    """
    stopping = False
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if stopping:
                log.warning("a second signal: ending without draining", signal=number.name)
                os._exit(128 + number)
            stopping = True
            log.info("stopping", signal=number.name)
            stop(number)
