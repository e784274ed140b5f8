"""A program that uses the journal on a real folder, for system calls to be made to fail under it.

    python reference_workload.py FOLDER [SHORT_WRITE]

Two lives: the first ends without a clean stop, the second recovers, retires and stops cleanly. Each LSN that was acknowledged is
written to standard output. Exit code 0: all done; 1: the journal failed and said so. SHORT_WRITE is the number of the write that
the system cuts short.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace

from holdfast.journal import Journal, JournalFailed, JournalFull, JournalOptions, Kind, Lane

STATE = b"state"
RECORDS_A_LIFE = 14
OPTIONS = JournalOptions(
    segment_bytes=8192,
    first_segment_bytes=4096,
    headroom_bytes=0,
    reserve_margin_bytes=64,
    lane=Lane.INLINE,
    prepare_ahead=False,
    full_retry_s=0.0,
    idle_mark_s=60.0,
    retention_age_s=0.0,
)


def payload(lsn: int) -> bytes:
    """What the record with this LSN holds, whoever wrote it."""
    return b"%d:" % lsn + bytes([65 + lsn % 26]) * (lsn * 97 % 900)


async def append(journal: Journal) -> None:
    """One command: admitted, appended, acknowledged. A full disk is waited for, as a client would that gets a 503."""
    for _ in range(10):
        try:
            journal.reserve(1000)
            break
        except JournalFull:
            await asyncio.sleep(0)
    lsn = journal.append(Kind.COMMAND, "sqs", "SendMessage", 1, payload(journal.last_lsn + 1))
    await journal.durable(lsn)
    os.write(1, b"%d\n" % lsn)


async def run(folder: str) -> None:
    """Both lives."""
    first = Journal.open(folder, state_id=STATE, options=OPTIONS)
    await first.__aenter__()
    for number in range(RECORDS_A_LIFE):
        await append(first)
        if number % 4 == 0 and first._appender is not None:
            first._appender.mark()
    second = Journal.open(folder, state_id=STATE, options=replace(OPTIONS, lane=Lane.THREAD))
    async with second:
        for _ in range(RECORDS_A_LIFE):
            await append(second)
        second.checkpointed(second.synced_lsn, b"m" * 32)
        await append(second)
        second.retire(RECORDS_A_LIFE)
    if second.failure is not None:
        raise second.failure


def cut_short(number: int) -> None:
    """Let the system write only the first bytes of that write; the rest is up to whoever called."""
    real, count = os.pwrite, 0

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal count
        count += 1
        return real(descriptor, bytes(data)[:21] if count == number else data, offset)

    os.pwrite = pwrite  # type: ignore[assignment]  # typeshed's Buffer is not public before Python 3.12


def main() -> int:
    """Run, and say in one line why not to the end."""
    if len(sys.argv) > 2:
        cut_short(int(sys.argv[2]))
    try:
        asyncio.run(run(sys.argv[1]))
    except (JournalFailed, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
