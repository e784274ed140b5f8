"""How much memory this process has, and how much there still is."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["available_bytes", "resident_bytes"]

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
UNKNOWN_BYTES: Final = 1 << 62
"""Where the system does not say: nothing is refused for a number that nobody has."""


def resident_bytes() -> int:
    """What this process has in use; 0 where the system does not say."""
    fields = _read("/proc/self/statm").split()
    return int(fields[1]) * PAGE_BYTES if fields else 0


def available_bytes() -> int:
    """What could still be had without swapping: of the machine, or of the control group if that is less."""
    machine = UNKNOWN_BYTES
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            machine = int(line.split()[1]) << 10
    return min(machine, _group_bytes())


def _group_bytes() -> int:
    """What the control group (version 2, at the root as in a container) leaves; file pages that can go count as free."""
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    current = _read("/sys/fs/cgroup/memory.current").strip()
    if not limit.isdigit() or not current.isdigit():
        return UNKNOWN_BYTES
    statistics = dict(line.split(None, 1) for line in _read("/sys/fs/cgroup/memory.stat").splitlines())
    return int(limit) - int(current) + int(statistics.get("inactive_file", 0))


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""
