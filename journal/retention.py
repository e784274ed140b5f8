"""Retention: which sealed segments may go.

Two conditions, both must hold: a segment lies wholly before what recovery may need (the older of the two newest
checkpoints), and it is outside of what is kept for time travel: older than the age limit, or beyond the size limit.
Segments go oldest first, so what stays has no hole.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.journal.segment import SegmentInfo

__all__ = ["retirable"]


def retirable(
    segments: Sequence[SegmentInfo],
    *,
    keep_from_lsn: int,
    open_bytes: int,
    open_time_ns: int,
    now_ns: int,
    age_max_s: float,
    bytes_max: int,
) -> int:
    """How many of the sealed `segments`, from the oldest on, may be dropped.

    A segment's age counts from when the next one was begun, that is from its newest record; `open_time_ns` is when
    the open segment was begun.
    """
    total_bytes = open_bytes + sum(segment.size_bytes for segment in segments)
    begun = [*(segment.time_ns for segment in segments), open_time_ns][1:]
    count = 0
    for segment, ended_ns in zip(segments, begun, strict=True):
        needed = segment.next_lsn > keep_from_lsn
        kept_for_travel = total_bytes <= bytes_max and now_ns - ended_ns <= age_max_s * 1e9
        if needed or kept_for_travel:
            break
        total_bytes -= segment.size_bytes
        count += 1
    return count
