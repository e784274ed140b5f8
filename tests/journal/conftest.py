"""What the journal's tests share: small journals on a disk in memory."""

from __future__ import annotations

import pytest

from holdfast.journal import JournalOptions, Lane, MemoryDisk

STATE = b"a state of 16 b."
FOLDER = "/volume/journal"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
def options() -> JournalOptions:
    """Small segments, everything on one thread, in one order."""
    return JournalOptions(
        segment_bytes=8192,
        first_segment_bytes=8192,
        headroom_bytes=0,
        reserve_margin_bytes=256,
        lane=Lane.INLINE,
        prepare_ahead=False,
        idle_mark_s=0.001,
        retention_age_s=0.0,
    )
