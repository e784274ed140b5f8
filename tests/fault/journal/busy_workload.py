"""A program that appends to a journal as fast as it can, until the journal fails or it is killed.

    python busy_workload.py FOLDER CHECKPOINT_LSN RETIRE_BELOW_LSN

Each LSN that was acknowledged is written to standard output.
"""

from __future__ import annotations

import asyncio
import os
import sys

from holdfast.journal import Journal, JournalError, JournalOptions, Kind

STATE = b"state"
CLIENTS = 8
OPTIONS = JournalOptions(
    segment_bytes=256 << 10,
    first_segment_bytes=32 << 10,
    headroom_bytes=0,
    idle_mark_s=0.002,
    retention_age_s=0.0,
)


def payload(lsn: int) -> bytes:
    """What the record with this LSN holds."""
    return b"%d:" % lsn + bytes([65 + lsn % 26]) * (lsn * 997 % 3000)


async def client(journal: Journal) -> None:
    """One command after another, each acknowledged before the next."""
    while True:
        journal.reserve(4000)
        lsn = journal.append(Kind.COMMAND, "sqs", "SendMessage", 1, payload(journal.last_lsn + 1))
        await journal.durable(lsn)
        os.write(1, b"%d\n" % lsn)
        if lsn % 50 == 0:
            await asyncio.sleep(0.005)  # idle for a moment, so that a watermark follows


async def run(folder: str, checkpoint_lsn: int, retire_below_lsn: int) -> None:
    async with Journal.open(folder, state_id=STATE, options=OPTIONS, checkpoint_lsn=checkpoint_lsn) as journal:
        journal.retire(retire_below_lsn)
        await asyncio.gather(*(client(journal) for _ in range(CLIENTS)))


if __name__ == "__main__":
    try:
        asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    except (JournalError, OSError) as error:
        sys.exit(f"failed: {error}")
