"""What can be set about a journal, each limit with its reason."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["JournalOptions", "Lane", "SyncMode"]


class SyncMode(enum.StrEnum):
    """What an acknowledged record has behind it: a sync, a write (and a sync a second later), or nothing."""

    ALWAYS = "always"
    INTERVAL = "interval"
    OFF = "off"


class Lane(enum.StrEnum):
    """Where writes and syncs run. AUTO chooses for each batch."""

    AUTO = "auto"
    INLINE = "inline"
    THREAD = "thread"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalOptions:
    """Limits and times of a journal; the defaults are for a developer's machine."""

    segment_bytes: int = 64 << 20
    """How large a segment is prepared: large enough that moving on to the next is rare, small enough to retire in steps."""

    first_segment_bytes: int = 4 << 20
    """The first segment of a life, prepared while the daemon starts; each later one is twice the last, up to `segment_bytes`."""

    group_bytes_max: int = 4 << 20
    """A batch is cut into groups of this size: what a reader holds in memory, unless one record alone is larger."""

    inline_sync_max_s: float = 500e-6
    """While syncs take less (smoothed) they run on the event loop: waking a thread costs more than it frees.

    Measured through a socket on two cores, the thread's rate against the loop's at 1, 8, 32, 64 and 256 clients: 0.79, 0.80,
    0.80, 0.86, 0.97 with syncs of 90 us; 0.88, 0.80, 0.71, 0.84, 0.99 with 200 us; 0.86, 0.81, 0.80, 0.74, 0.93 with 400 us.
    The limit is what the loop may be held up by, not where the thread becomes quicker.
    """

    inline_bytes_max: int = 256 << 10
    """A larger batch goes to the thread: writing it would hold the loop for longer than the sync."""

    lane: Lane = Lane.AUTO

    sync_interval_s: float = 1.0
    """SyncMode.INTERVAL: how long after the first unsynced write a sync starts."""

    loss_bound_s: float = 2.0
    """SyncMode.INTERVAL: no reply is released while the oldest unsynced byte is older. What a power cut can take, at most."""

    idle_mark_s: float = 0.02
    """How long the queue is idle before a watermark-only group follows the last sync."""

    retention_age_s: float = 3600.0
    retention_bytes: int = 1 << 30
    """Segments behind the checkpoints are kept for time travel while both limits hold (JOURNAL_RETENTION)."""

    headroom_bytes: int = 8 << 20
    """Left free on the disk when a segment is prepared: checkpoints need room too, and only they free segments."""

    full_retry_s: float = 0.5
    """How long after a disk was found full a refused reservation looks again."""

    reserve_margin_bytes: int = 64 << 10
    """Kept on top of each reservation, for records about the journal itself and for estimates that were too small."""

    prepare_ahead: bool = True
    """Prepare the next segment on a thread of its own; False prepares it when it is needed, for tests that want one order."""

    zero_fill: bool = True
    """False lets segments grow as they are written: for measurements against systems that do not prepare their files."""

    wall_ns: Callable[[], int] = time.time_ns
    """The time that segments and notes are stamped with, nanoseconds since 1970."""
