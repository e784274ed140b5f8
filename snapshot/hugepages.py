"""Huge pages ahead of a fork, where the kernel allows: fewer page tables to copy, so a shorter pause.

A fork copies the page tables of all memory while every command waits: 2 MB of them for each GB in pages of 4 KiB. MADV_COLLAPSE
(madvise(2), Linux 6.1) turns memory that is already in use into pages of 2 MiB, of which one entry is copied instead of 512. It
costs a copy of the memory once, on a worker thread and in steps, each without Python's lock; the next call has only to do again
what the aftermath of a fork has split. Measured at 500 MB: a fork took 2.8 ms instead of 33 (tests/snapshot/bench_snapshot.py).
Where it is not to be had nothing happens but the longer fork.
"""

from __future__ import annotations

import ctypes
import errno
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

__all__ = ["HUGE_PAGE_BYTES", "SMALL_BYTES", "collapse"]

HUGE_PAGE_BYTES: Final = 2 << 20
"""Of x86-64 and of arm64 with pages of 4 KiB; where it is another, the kernel refuses and nothing happens."""

SMALL_BYTES: Final = 256 << 20
"""A process below this forks in less than 10 ms as it is; moto's modules alone take 200 MB."""

STEP_BYTES: Final = 4 * HUGE_PAGE_BYTES
"""Of one call: the kernel holds the memory map meanwhile, and a page fault of another thread waits, below a millisecond."""

MADV_COLLAPSE: Final = 25

_MAPPING: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 +(\[heap\])?$")

_madvise: Any = ctypes.CDLL(None, use_errno=True).madvise if sys.platform == "linux" else None
if _madvise is not None:
    _madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def collapse(stop: Callable[[], bool] = lambda: False) -> int:
    """Turn this process's own memory into huge pages as far as it goes; returns how many bytes were gone over.

    Blocks: call it on a worker thread. `stop` is asked between steps. Raises nothing.
    """
    done = 0
    for start, end in _ranges():
        for address in range(start, end, STEP_BYTES):
            size = min(STEP_BYTES, end - address)
            if stop():
                return done
            if _madvise(address, size, MADV_COLLAPSE) == 0:
                done += size
            elif ctypes.get_errno() == errno.EINVAL:
                break  # not this mapping, or not this kernel; anything else is of the moment, and of this step
    return done


def _ranges() -> Iterator[tuple[int, int]]:
    """The parts of anonymous memory that whole huge pages fit into."""
    if _madvise is None:
        return
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        if match := _MAPPING.match(line):
            start = -(-int(match[1], 16) // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
            end = int(match[2], 16) // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
            if start < end:
                yield start, end
