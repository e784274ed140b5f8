"""The journal as its users meet it: append, read, reserve, checkpoints, retention, blobs, a full disk."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from holdfast.journal import (
    BlobStore,
    Corruption,
    Fault,
    FaultyDisk,
    Journal,
    JournalFull,
    JournalOptions,
    Kind,
    LocalDisk,
    MemoryDisk,
    MemoryJournal,
    RecordTooLarge,
    SyncMode,
)

pytestmark = pytest.mark.anyio
FOLDER = "/v/journal"


def opened(
    disk: MemoryDisk | FaultyDisk, options: JournalOptions, checkpoint_lsn: int = 0, **more: BlobStore
) -> Journal:
    return Journal.open(
        FOLDER, state_id=b"state", disk=disk, options=options, checkpoint_lsn=checkpoint_lsn, blobs=more.get("blobs")
    )


def put(journal: Journal, size_bytes: int = 100, *blobs: bytes) -> int:
    return journal.append(Kind.COMMAND, "sqs", "SendMessage", 7, bytes(size_bytes), blobs)


async def fill(journal: Journal, records: int, size_bytes: int = 500) -> None:
    for _ in range(records):
        await journal.durable(put(journal, size_bytes))


async def test_what_is_appended_is_read(disk: MemoryDisk, options: JournalOptions) -> None:
    """Every field of every kind comes back, in LSN order, in this life and the next."""
    wanted = []
    journal = opened(disk, options)
    async with journal:
        for number, kind in enumerate([Kind.COMMAND, Kind.MUTATION, Kind.RESET, Kind.LOAD] * 20):
            fields = (kind, f"service-{number}", "Opération\udc80", number, bytes([number]) * number, (b"d" * 32,))
            lsn = journal.append(*fields)
            wanted.append((lsn, 1, *fields))
            if number % 7 == 0:
                journal.checkpointed(lsn, b"manifest")
            if number % 10 == 0:
                await journal.durable(lsn)
        await journal.durable(lsn)
        got = [(r.lsn, r.epoch, r.kind, r.service, r.operation, r.time_ns, r.payload, r.blobs) for r in journal.read()]
        assert got == wanted
    again = opened(disk, options)
    assert [r.payload for r in again.read()] == [fields[6] for fields in wanted]
    assert [r.lsn for r in again.read(after_lsn=33)] == list(range(34, 81))
    assert again.recovery.checkpoint is not None
    assert again.recovery.checkpoint.manifest == b"manifest"
    assert again.recovery.checkpoint.lsn == 78


async def test_lsns_go_on_and_epochs_count_lives(disk: MemoryDisk, options: JournalOptions) -> None:
    """Each life continues the LSNs of the last under an epoch of its own, whether it wrote or not."""
    for life in range(1, 5):
        journal = opened(disk, options)
        assert journal.epoch == life
        async with journal:
            if life % 2:
                assert put(journal) == journal.recovery.last_lsn + 1
    assert [(r.lsn, r.epoch) for r in opened(disk, options).read()] == [(1, 1), (2, 3)]


async def test_a_killed_life_is_continued(disk: MemoryDisk, options: JournalOptions) -> None:
    """Without any clean stop in between, nothing is lost and the LSNs go on."""
    for life in range(4):
        async with opened(disk, options) as journal:
            await fill(journal, 30)
            disk = disk.copy()  # what a kill leaves: the copy is taken before the clean stop
        assert journal.recovery.clean is (life == 0)
    assert [r.lsn for r in opened(disk, options).read()] == list(range(1, 121))


async def test_the_journals_own_kinds_cannot_be_appended(disk: MemoryDisk, options: JournalOptions) -> None:
    """Checkpoint, seal and watermark are written by the journal alone."""
    async with opened(disk, options) as journal:
        for kind in (Kind.CHECKPOINT, Kind.SEAL, Kind.WATERMARK):
            with pytest.raises(ValueError, match="journal's own"):
                journal.append(kind, "", "", 0, b"")


async def test_a_record_larger_than_a_segment_finds_room(disk: MemoryDisk, options: JournalOptions) -> None:
    """An empty segment grows for it, and the journal goes on behind it."""
    async with opened(disk, options) as journal:
        await fill(journal, 3)
        await journal.durable(put(journal, 50_000))
        await fill(journal, 3)
        disk = disk.copy()
    assert [len(r.payload) for r in opened(disk, options).read()] == [500] * 3 + [50_000] + [500] * 3


async def test_reading_from_beyond_what_is_there_is_corruption(disk: MemoryDisk, options: JournalOptions) -> None:
    """A replay that would begin with a hole does not begin."""
    async with opened(disk, options) as journal:
        await fill(journal, 40)
    journal = opened(disk, options, checkpoint_lsn=30)
    assert journal.retire(30)
    with pytest.raises(Corruption, match="missing"):
        next(journal.read(after_lsn=1))
    assert next(journal.read(after_lsn=30)).lsn == 31


# Room.


async def test_a_full_disk_refuses_before_anything_and_heals(options: JournalOptions) -> None:
    """reserve says no while there is no room, nothing is appended or broken by it, and yes once there is room again."""
    disk = MemoryDisk(capacity_bytes=3 * 8192)
    async with opened(disk, replace(options, full_retry_s=0.0)) as journal:
        for _ in range(100):
            try:
                journal.reserve(500)
            except JournalFull:
                break
            await journal.durable(put(journal, 500))
        lsn = journal.last_lsn
        assert lsn > 20
        assert journal.stat().full
        with pytest.raises(JournalFull, match="nothing was executed"):
            journal.reserve(500)
        assert journal.failure is None
        disk.capacity_bytes *= 2
        journal.reserve(500)
        await journal.durable(put(journal, 500))
        assert journal.durable_lsn == lsn + 1
        disk = disk.copy()
    assert opened(disk, options).recovery.last_lsn == lsn + 1


async def test_a_journal_starts_on_a_full_disk(options: JournalOptions) -> None:
    """No room for the first segment is no reason not to start: reads go on, commands are refused until there is room."""
    disk = MemoryDisk(capacity_bytes=1000)
    async with opened(disk, replace(options, full_retry_s=0.0)) as journal:
        with pytest.raises(JournalFull):
            journal.reserve(1)
        disk.capacity_bytes = 100_000
        journal.reserve(1)
        await journal.durable(put(journal))
    assert opened(disk, options).recovery.last_lsn == 1


async def test_every_reserved_record_finds_its_room(options: JournalOptions) -> None:
    """On a disk with room for almost nothing, whatever reserve let through is appended without an error."""
    for capacity_bytes in range(20_000, 60_000, 1777):
        disk = MemoryDisk(capacity_bytes)
        async with opened(disk, replace(options, first_segment_bytes=4096)) as journal:
            accepted = 0
            for number in range(200):
                size_bytes = number * 37 % 1500
                try:
                    journal.reserve(size_bytes)
                except JournalFull:
                    break
                put(journal, size_bytes)
                accepted += 1
                if number % 3 == 0:
                    await journal.durable(journal.last_lsn)
            assert accepted > 5
            await journal.durable(journal.last_lsn)


async def test_a_record_beyond_all_limits_is_refused_by_name(disk: MemoryDisk, options: JournalOptions) -> None:
    """What can never fit is told apart from what does not fit now."""
    async with opened(disk, options) as journal:
        with pytest.raises(RecordTooLarge):
            journal.reserve(1 << 30)


async def test_the_next_segment_is_prepared_ahead(tmp_path: str) -> None:
    """A spare is made while the first segment is written, and gone after a clean stop."""
    options = JournalOptions(segment_bytes=1 << 20, first_segment_bytes=64 << 10, headroom_bytes=0)
    disk = LocalDisk()
    folder = str(tmp_path)
    async with Journal.open(folder, state_id=b"state", options=options) as journal:
        for _ in range(200):
            if journal.stat().room_bytes > 128 << 10:
                break
            await asyncio.sleep(0.01)
        (spare,) = [name for name in disk.listdir(folder) if name.endswith(".tmp")]
        assert disk.size_bytes(f"{folder}/{spare}") == 128 << 10
    assert disk.listdir(folder) == ["00000000000000000001-00000001.seg"]


# Retention.


async def test_only_what_no_checkpoint_needs_is_retired(disk: MemoryDisk, options: JournalOptions) -> None:
    """Whole segments before the LSN go, oldest first; everything from it on stays readable."""
    async with opened(disk, options) as journal:
        await fill(journal, 100)
        before = journal.stat().segments
        retired = journal.retire(50)
        assert retired == sorted(retired)
        assert 0 < len(retired) < before
        assert journal.stat().segments == before - len(retired)
        assert [r.lsn for r in journal.read(49)] == list(range(50, 101))
        assert journal.stat().first_lsn <= 50
        assert not set(retired) & {f"{FOLDER}/{name}" for name in disk.listdir(FOLDER)}
    assert [r.lsn for r in opened(disk, options, checkpoint_lsn=50).read(50)] == list(range(51, 101))


@pytest.mark.parametrize(("age_s", "size_bytes"), [(3600.0, 1 << 30), (0.0, 1 << 30), (3600.0, 0)])
async def test_time_travel_keeps_what_is_within_both_limits(
    disk: MemoryDisk, options: JournalOptions, age_s: float, size_bytes: int
) -> None:
    """JOURNAL_RETENTION: a segment is kept while it is young enough and all are small enough, whichever is less."""
    now = [1_000_000_000]
    options = replace(options, retention_age_s=age_s, retention_bytes=size_bytes, wall_ns=lambda: now[0])
    async with opened(disk, options) as journal:
        for _ in range(100):
            now[0] += 1_000_000_000
            await journal.durable(put(journal, 500))
        retired = journal.retire(100)
        assert bool(retired) is (age_s == 0.0 or size_bytes == 0)
        now[0] += 3700 * 1_000_000_000
        assert bool(journal.retire(100)) is not bool(retired)


# Blobs.


async def test_a_blob_is_pinned_until_its_record_is_durable(disk: MemoryDisk, options: JournalOptions) -> None:
    """Between append and sync the blob is spared by its pin, afterwards it is a root, until its segment is retired."""
    blobs = BlobStore("/v/images", disk)
    digest = blobs.put(b"a large body")
    journal = opened(disk, options, blobs=blobs)
    async with journal:
        lsn = put(journal, 10, digest)
        assert blobs._pins[digest] == 1
        await journal.durable(lsn)
        assert blobs._pins[digest] == 0
        assert journal.blobs_needed() == {digest}
    again = opened(disk, options)
    assert again.blobs_needed() == {digest}
    async with again:
        await fill(again, 100)
        assert again.blobs_needed() == {digest}
        again.retire(again.last_lsn)
        assert again.blobs_needed() == set()


# Off.


async def test_switched_off_it_still_counts() -> None:
    """MemoryJournal gives LSNs and tells listeners, waits for nothing, keeps nothing."""
    heard: list[int] = []
    async with MemoryJournal(last_lsn=41) as journal:
        journal.on_durable.append(heard.append)
        journal.reserve(1 << 40)
        assert journal.append(Kind.COMMAND, "s3", "PutObject", 1, b"x", (hashlib.sha256(b"").digest(),)) == 42
        await journal.durable(42)
        await journal.synced(42)
        journal.checkpointed(42, b"m")
        assert journal.retire(42) == []
        assert list(journal.read()) == []
        assert journal.blobs_needed() == set()
        assert journal.stat().sync is SyncMode.OFF
        assert (journal.last_lsn, journal.durable_lsn, journal.synced_lsn, heard) == (42, 42, 42, [42])


async def test_a_disk_that_breaks_while_beginning_is_said(disk: MemoryDisk, options: JournalOptions) -> None:
    """An error that is not a full disk ends the start, with the segment's name in it."""
    faulty = FaultyDisk(disk)
    faulty.fail(Fault("fsync_dir", path="journal"))
    with pytest.raises(OSError, match="Input/output"):
        async with opened(faulty, options):
            pass
