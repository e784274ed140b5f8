"""Who holds a volume: a lock that the kernel gives back when its holder dies, and a text that says who that is."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from holdfast.daemon.errors import VolumeError

__all__ = ["LOCK_PATIENCE_S", "Holder", "describe", "holder_of", "take_lock"]

LOCK_PATIENCE_S = 1.0
"""How long a lock is tried for: a process killed a moment ago gives its lock back when the kernel has torn it down."""

LOCK_MAX_BYTES = 4096
"""Of the lock's text: a process number, a URL and two times."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The daemon that holds a volume. `started_ticks` tells it from a later process with the same number."""

    pid: int
    endpoint: str
    since_ns: int
    started_ticks: int

    @classmethod
    def me(cls, endpoint: str) -> Self:
        """This process."""
        return cls(os.getpid(), endpoint, time.time_ns(), _started_ticks(os.getpid()))

    def alive(self) -> bool:
        """True when the process that took the lock still runs, as seen from this process's PID namespace."""
        ticks = _started_ticks(self.pid)
        return ticks != 0 and ticks == self.started_ticks

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since_ns // 10**9))
        where = f", listening on {self.endpoint}" if self.endpoint else ""
        return f"process {self.pid} since {since}{where}"


def _started_ticks(pid: int) -> int:
    """When process `pid` was started, in clock ticks since boot (proc(5), field 22); 0 when there is none or no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    # The name in field 2 may hold blanks and brackets: what follows the last bracket is field 3.
    return int(text.rpartition(")")[2].split()[19])


def holder_of(path: Path) -> Holder | None:
    """Who holds the volume at `path`; None when nobody does. Raises VolumeError when it is no volume."""
    try:
        with (path / "LOCK").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _read_holder(lock.fileno()) or Holder(0, "", 0, 0)
    except FileNotFoundError:
        if not (path / "format").exists():
            raise VolumeError(f"{path} is not a volume of holdfast") from None
    except OSError as error:
        raise VolumeError(f"{path} cannot be looked into: {error.strerror}") from error
    return None


def take_lock(path: Path, folder_fd: int, endpoint: str) -> int:
    """Hold the volume whose folder is `folder_fd`; returns the descriptor that keeps it. Raises VolumeError naming the holder."""
    fd = os.open("LOCK", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder_fd)
    give_up = time.monotonic() + LOCK_PATIENCE_S
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    who = _read_holder(fd) or "another process"
                    raise VolumeError(
                        f"the volume {path} is in use by {who}; `holdfast stop --volume {path}` ends it"
                    ) from None
                time.sleep(0.02)
        describe(fd, endpoint)
    except BaseException:
        os.close(fd)
        raise
    return fd


def describe(lock_fd: int, endpoint: str) -> None:
    """Write into the lock's file that this process holds it and listens at `endpoint`."""
    me = Holder.me(endpoint)
    text = json.dumps({field: getattr(me, field) for field in Holder.__slots__}).encode() + b"\n"
    # Not synced: it speaks of a running process, so it need not outlive the machine.
    os.pwrite(lock_fd, text, 0)
    os.ftruncate(lock_fd, len(text))


def _read_holder(lock_fd: int) -> Holder | None:
    try:
        fields: dict[str, Any] = json.loads(os.pread(lock_fd, LOCK_MAX_BYTES, 0))
        return Holder(
            int(fields["pid"]), str(fields["endpoint"]), int(fields["since_ns"]), int(fields["started_ticks"])
        )
    except (ValueError, KeyError, TypeError):
        return None  # it was locked a moment ago and not yet described
