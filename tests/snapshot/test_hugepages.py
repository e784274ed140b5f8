"""Memory in huge pages: the same memory, and a cheaper fork."""

from __future__ import annotations

import os

import pytest

from holdfast.snapshot import hugepages, memory

SIZE_BYTES = 64 << 20


def _huge_bytes() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("AnonHugePages"))


@pytest.fixture
def block() -> bytearray:
    """Memory in use, in small pages, with content."""
    made = bytearray(SIZE_BYTES)
    made[::4096] = os.urandom(SIZE_BYTES // 4096)
    return made


def test_collapsed_memory_is_unchanged_and_huge(block: bytearray) -> None:
    """Every byte is as before; where the kernel can, most of it then lies in huge pages."""
    content = bytes(block)
    collapsed = hugepages.collapse()
    assert block == content
    if collapsed == 0:
        pytest.skip("this kernel has no MADV_COLLAPSE for this process")
    assert collapsed >= SIZE_BYTES // 2
    assert _huge_bytes() >= SIZE_BYTES // 2


def test_it_stops_when_it_is_told_to(block: bytearray) -> None:
    """Between two steps: whoever waits for a checkpoint does not wait for this."""
    steps: list[int] = []

    def stop() -> bool:
        steps.append(1)
        return len(steps) > 2

    assert hugepages.collapse(stop) <= 2 * hugepages.STEP_BYTES
    assert len(steps) == 3


def test_the_resident_size_is_told(block: bytearray) -> None:
    """In bytes, and at least what is in use here."""
    assert memory.resident_bytes() >= SIZE_BYTES
    assert memory.available_bytes() > 0
