"""Group commit, its lanes, those who wait, and what happens when a write or sync fails."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from holdfast.journal import (
    Fault,
    FaultyDisk,
    Journal,
    JournalFailed,
    JournalOptions,
    Kind,
    Lane,
    MemoryDisk,
    SyncMode,
)

pytestmark = pytest.mark.anyio

Open = Callable[..., Journal]
LANES = pytest.mark.parametrize("lane", [Lane.INLINE, Lane.THREAD])
OPEN_FILES = "*.open"


@pytest.fixture
def faulty(disk: MemoryDisk) -> FaultyDisk:
    return FaultyDisk(disk)


@pytest.fixture
def opened(faulty: FaultyDisk, options: JournalOptions) -> Open:
    """Opens the journal on the faulty disk, with changes to the options."""

    def open_with(sync: SyncMode = SyncMode.ALWAYS, **changes: object) -> Journal:
        changed = replace(options, segment_bytes=1 << 20, first_segment_bytes=1 << 20, **changes)  # type: ignore[arg-type]
        return Journal.open("/v/journal", state_id=b"state", sync=sync, disk=faulty, options=changed)

    return open_with


def put(journal: Journal, text: str = "x") -> int:
    return journal.append(Kind.COMMAND, "sqs", "SendMessage", 1, text.encode())


@LANES
async def test_all_that_wait_share_one_sync(opened: Open, faulty: FaultyDisk, lane: Lane) -> None:
    """64 records of one turn of the loop are one write and one sync."""
    async with opened(lane=lane) as journal:
        writes, syncs = faulty.calls["pwrite"], faulty.calls["fdatasync"]
        lsns = [put(journal) for _ in range(64)]
        await asyncio.gather(*map(journal.durable, lsns))
        assert lsns == list(range(1, 65))
        assert journal.durable_lsn == journal.synced_lsn == 64
        assert (faulty.calls["pwrite"] - writes, faulty.calls["fdatasync"] - syncs) == (1, 1)


@LANES
async def test_cancelling_one_waiter_leaves_the_others(opened: Open, faulty: FaultyDisk, lane: Lane) -> None:
    """Of 64 that wait one is cancelled: 63 get their reply, and the record of the cancelled one is there as well."""
    async with opened(lane=lane) as journal:
        faulty.fail(Fault("fdatasync", error=0, path=OPEN_FILES, delay_s=0.05))
        waiting = [asyncio.create_task(journal.durable(put(journal, str(number)))) for number in range(64)]
        if lane is Lane.THREAD:
            await asyncio.sleep(0.01)  # the batch is on its way
        waiting[17].cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results].count(asyncio.CancelledError) == 1
        assert results.count(None) == 63
        assert [record.payload for record in journal.read()] == [str(number).encode() for number in range(64)]


async def test_what_is_appended_while_a_sync_runs_is_the_next_batch(opened: Open, faulty: FaultyDisk) -> None:
    """On the thread lane appends go on during a sync, and share the next one."""
    async with opened(lane=Lane.THREAD) as journal:
        syncs = faulty.calls["fdatasync"]
        faulty.fail(Fault("fdatasync", error=0, path=OPEN_FILES, delay_s=0.05))
        first = asyncio.create_task(journal.durable(put(journal)))
        await asyncio.sleep(0.01)
        later = [put(journal) for _ in range(10)]
        assert journal.durable_lsn == 0
        await journal.durable(later[-1])
        assert first.done()
        assert faulty.calls["fdatasync"] - syncs == 2


async def test_slow_syncs_move_to_the_thread_and_fast_ones_back(opened: Open, faulty: FaultyDisk) -> None:
    """The lane follows the smoothed time of a sync, batch by batch."""
    async with opened(lane=Lane.AUTO, inline_sync_max_s=0.002) as journal:
        await journal.durable(put(journal))
        assert journal.stat().lane is Lane.INLINE
        faulty.fail(Fault("fdatasync", error=0, path=OPEN_FILES, delay_s=0.02, times=2))
        for _ in range(3):
            await journal.durable(put(journal))
        assert journal.stat().lane is Lane.THREAD
        for _ in range(60):
            await journal.durable(put(journal))
        assert journal.stat().lane is Lane.INLINE


async def test_a_large_batch_goes_to_the_thread(opened: Open) -> None:
    """Writing a large batch would hold the loop: it does not happen there."""
    async with opened(lane=Lane.AUTO, inline_bytes_max=10_000, inline_sync_max_s=1.0) as journal:
        await journal.durable(put(journal, "x" * 20_000))
        assert journal.stat().lane is Lane.THREAD


@LANES
@pytest.mark.parametrize("operation", ["pwrite", "fdatasync"])
async def test_a_failed_write_or_sync_is_final(opened: Open, faulty: FaultyDisk, lane: Lane, operation: str) -> None:
    """After the first error nobody gets an acknowledgement, and the disk is not asked again."""
    journal = opened(lane=lane)
    heard: list[JournalFailed] = []
    journal.on_failure.append(heard.append)
    async with journal:
        await journal.durable(put(journal))
        faulty.fail(Fault(operation, path=OPEN_FILES))
        results = await asyncio.gather(*(journal.durable(put(journal)) for _ in range(5)), return_exceptions=True)
        assert [type(result) for result in results] == [JournalFailed] * 5
        calls = dict(faulty.calls)
        for refused in (lambda: put(journal), lambda: journal.reserve(1), lambda: journal.checkpointed(1, b"m")):
            with pytest.raises(JournalFailed, match="Input/output error"):
                refused()
        with pytest.raises(JournalFailed):
            await journal.durable(2)
        with pytest.raises(JournalFailed):
            await journal.synced(2)
        await journal.durable(1)  # what was durable before stays so
        assert journal.durable_lsn == 1
        assert heard == [journal.failure]
        assert journal.retire(2) == []
        await asyncio.sleep(0.01)
        assert faulty.calls == calls
    assert "00000000000000000001-00000001.open" in faulty.listdir("/v/journal")


async def test_a_sync_that_succeeds_after_one_that_failed_is_not_believed(opened: Open, faulty: FaultyDisk) -> None:
    """The kernel drops the dirty pages of a failed sync: the journal is sealed by the next life, from a copy."""
    journal = opened()
    async with journal:
        await journal.durable(put(journal, "acknowledged"))
        faulty.fail(Fault("fdatasync", path=OPEN_FILES))
        with pytest.raises(JournalFailed):
            await journal.durable(put(journal, "not acknowledged"))
    assert [name for name in faulty.listdir("/v/journal") if name.endswith(".open")]
    again = opened()
    assert not again.recovery.clean
    assert next(again.read()).payload == b"acknowledged"


async def test_leaving_commits_what_was_appended(opened: Open) -> None:
    """Records queued when the block is left are durable, sealed, and those who wait for them are released."""
    journal = opened(lane=Lane.THREAD)
    async with journal:
        waiting = asyncio.create_task(journal.durable(put(journal)))
        await asyncio.sleep(0)
        put(journal)
    await waiting
    assert journal.durable_lsn == journal.synced_lsn == 2
    again = opened()
    assert again.recovery.clean
    assert [record.lsn for record in again.read()] == [1, 2]


async def test_an_idle_queue_gets_its_watermark(opened: Open, disk: MemoryDisk) -> None:
    """Once the queue is idle after a sync, a watermark follows, so that damage to the last record shows as damage."""
    journal = opened()
    async with journal:
        await journal.durable(put(journal))
        path = journal._appender.path if journal._appender else ""
        before = disk.read(path).count(b"HGRP")
        for _ in range(100):
            await asyncio.sleep(0.002)
            if disk.read(path).count(b"HGRP") > before:
                break
        assert disk.read(path).count(b"HGRP") == before + 1
        await asyncio.sleep(0.01)
        assert disk.read(path).count(b"HGRP") == before + 1  # one is enough


# SyncMode.INTERVAL


async def test_interval_waits_for_the_write_and_syncs_later(opened: Open, faulty: FaultyDisk) -> None:
    """A reply needs no sync; a sync follows within the interval."""
    async with opened(SyncMode.INTERVAL, sync_interval_s=0.05, lane=Lane.AUTO) as journal:
        syncs = faulty.calls["fdatasync"]
        await journal.durable(put(journal))
        assert (journal.durable_lsn, journal.synced_lsn) == (1, 0)
        assert faulty.calls["fdatasync"] == syncs
        await asyncio.wait_for(_until(lambda: journal.synced_lsn == 1), 2)
        assert faulty.calls["fdatasync"] == syncs + 1
        await asyncio.sleep(0.1)
        assert faulty.calls["fdatasync"] == syncs + 1  # nothing new, nothing to sync


async def test_interval_holds_replies_while_the_oldest_byte_is_overdue(opened: Open, faulty: FaultyDisk) -> None:
    """While a sync hangs, replies go on up to the bound and then wait for it: no more than the bound can be lost."""
    async with opened(SyncMode.INTERVAL, sync_interval_s=0.02, loss_bound_s=0.1, lane=Lane.AUTO) as journal:
        faulty.fail(Fault("fdatasync", error=0, path=OPEN_FILES, delay_s=0.4))
        await journal.durable(put(journal))
        await asyncio.sleep(0.05)  # the sync has begun, and hangs
        await asyncio.wait_for(journal.durable(put(journal)), 0.04)
        await asyncio.sleep(0.1)  # now the first byte is overdue
        late = put(journal)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(journal.durable(late), 0.05)
        await asyncio.wait_for(journal.durable(late), 2)


async def test_interval_fails_for_good_when_its_sync_fails(opened: Open, faulty: FaultyDisk) -> None:
    """A failed background sync is as final as any other."""
    async with opened(SyncMode.INTERVAL, sync_interval_s=0.01, lane=Lane.AUTO) as journal:
        faulty.fail(Fault("fdatasync", path=OPEN_FILES))
        await journal.durable(put(journal))
        await asyncio.wait_for(_until(lambda: journal.failure is not None), 2)
        with pytest.raises(JournalFailed):
            journal.reserve(1)


# SyncMode.OFF


async def test_off_waits_for_nothing(opened: Open, faulty: FaultyDisk) -> None:
    """A reply waits neither for the sync nor for the write; nothing is synced but when asked."""
    async with opened(SyncMode.OFF) as journal:
        syncs = faulty.calls["fdatasync"]
        lsn = put(journal)
        await journal.durable(lsn)
        assert journal.synced_lsn == 0
        await asyncio.sleep(0.01)
        assert [record.lsn for record in journal.read()] == [1]
        assert faulty.calls["fdatasync"] == syncs


@pytest.mark.parametrize("sync", list(SyncMode))
@LANES
async def test_synced_is_true_in_every_mode(opened: Open, faulty: FaultyDisk, sync: SyncMode, lane: Lane) -> None:
    """What a checkpoint waits for is a sync, whatever replies wait for."""
    async with opened(sync, lane=lane) as journal:
        syncs = faulty.calls["fdatasync"]
        lsn = put(journal)
        await asyncio.wait_for(journal.synced(lsn), 2)
        assert journal.synced_lsn == lsn
        assert faulty.calls["fdatasync"] == syncs + 1
        await journal.synced(lsn)


async def test_listeners_hear_of_every_advance(opened: Open) -> None:
    """on_durable is told the highest durable LSN, growing, and the last one too."""
    journal = opened(lane=Lane.THREAD)
    heard: list[int] = []
    journal.on_durable.append(heard.append)
    async with journal:
        for _ in range(3):
            await journal.durable(put(journal))
        put(journal)
    assert heard == sorted(set(heard))
    assert heard[-1] == 4


async def test_an_error_of_the_program_is_final_too(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that raises anything at all may have left half a group: waiters are not left hanging."""
    async with opened() as journal:
        assert journal._appender is not None
        monkeypatch.setattr(journal._appender, "commit", lambda *_, **__: 1 // 0)
        with pytest.raises(JournalFailed, match="division"):
            await asyncio.wait_for(journal.durable(put(journal)), 1)
        monkeypatch.undo()


async def test_a_real_disk_keeps_it(tmp_path: os.PathLike[str]) -> None:
    """The same on the machine's own file system, with threads and segments prepared ahead."""
    options = JournalOptions(segment_bytes=64 << 10, first_segment_bytes=32 << 10, headroom_bytes=0)
    async with Journal.open(tmp_path, state_id=b"state", options=options) as journal:

        async def client(number: int) -> None:
            for turn in range(50):
                await journal.durable(put(journal, f"{number}:{turn}:" + "x" * 200))

        await asyncio.gather(*map(client, range(8)))
        assert journal.stat().segments > 1
    again = Journal.open(tmp_path, state_id=b"state", options=options)
    assert again.recovery.clean
    assert [record.lsn for record in again.read()] == list(range(1, 401))
    for number in range(8):
        mine = [record.payload for record in again.read() if record.payload.startswith(b"%d:" % number)]
        assert [int(payload.split(b":")[1]) for payload in mine] == list(range(50))


async def test_no_space_in_a_prepared_segment_is_final(opened: Open, faulty: FaultyDisk) -> None:
    """A file system that has no room for a rewrite (copy on write) fails after execution: that is fail-stop, not a retry."""
    async with opened() as journal:
        faulty.fail(Fault("pwrite", errno.ENOSPC, path=OPEN_FILES, written_bytes=10))
        with pytest.raises(JournalFailed, match="No space left"):
            await journal.durable(put(journal))


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for happens on another thread
        await asyncio.sleep(0.005)
