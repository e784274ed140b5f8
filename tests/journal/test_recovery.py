"""After a crash: torn tails are cut and kept, damage is refused, old files are never appended to."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from holdfast.journal import (
    Corruption,
    Fault,
    FaultyDisk,
    IncompatibleFormat,
    Journal,
    JournalOptions,
    Kind,
    MemoryDisk,
)
from holdfast.journal.format import SegmentHeader, pack_segment_header, unpack_segment_header

pytestmark = pytest.mark.anyio
FOLDER = "/v/journal"
FIRST = f"{FOLDER}/00000000000000000001-00000001.open"


@pytest.fixture
def options(options: JournalOptions) -> JournalOptions:
    """No watermark follows by itself: each test says which it wants."""
    return replace(options, idle_mark_s=60.0)


def opened(
    disk: MemoryDisk | FaultyDisk, options: JournalOptions, checkpoint_lsn: int = 0, *, anew: bool = False
) -> Journal:
    return Journal.open(
        FOLDER,
        state_id=b"state",
        disk=disk,
        options=options,
        checkpoint_lsn=checkpoint_lsn,
        quarantine="/v/quarantine",
        may_begin_anew=anew,
    )


async def killed(options: JournalOptions, records: int = 3, size_bytes: int = 100, *, mark: bool = False) -> MemoryDisk:
    """The disk of a journal that was killed after so many acknowledged records, each a group of its own."""
    disk = MemoryDisk()
    async with opened(disk, options) as journal:
        for number in range(records):
            await journal.durable(journal.append(Kind.COMMAND, "sqs", "Send", number, bytes([number + 1]) * size_bytes))
        if mark and journal._appender is not None:
            journal._appender.mark()
        return disk.copy()


def groups(data: bytes) -> list[int]:
    """Where the groups of a segment begin."""
    found, at = [], data.find(b"HGRP")
    while at >= 0:
        found.append(at)
        at = data.find(b"HGRP", at + 1)
    return found


def lsns(journal: Journal) -> list[int]:
    return [record.lsn for record in journal.read()]


def everything(disk: MemoryDisk) -> dict[str, bytes]:
    return {path: bytes(node.data) for path, node in disk._files.items()}


async def test_a_torn_last_group_goes_to_quarantine_and_is_cut(options: JournalOptions) -> None:
    """A group whose last sector never reached the disk is set aside with its reason, and the journal goes on before it."""
    disk = await killed(options, records=3, size_bytes=2000)
    data = disk.read(FIRST)
    third = groups(data)[2]
    torn = data[: third + 1500] + bytes(len(data) - third - 1500)
    disk.write(FIRST, torn)
    journal = opened(disk, options)
    report = journal.recovery
    assert lsns(journal) == [1, 2]
    assert report.torn is not None
    assert (report.torn.lsn, report.torn.offset, report.torn.path) == (3, third, FIRST)
    assert disk.read(report.quarantined[0]) == torn[third:].rstrip(b"\0")
    note = json.loads(disk.read(report.quarantined[0] + ".json"))
    assert note["lsn"] == 3
    assert "checksum" in note["reason"]
    async with journal:
        assert journal.append(Kind.COMMAND, "sqs", "Send", 1, b"again") == 3
    assert opened(disk, options).recovery.torn is None


@pytest.mark.parametrize("kept", [8, 30, 47, 48, 60, 100])
async def test_a_group_cut_within_a_sector_is_torn(options: JournalOptions, kept: int) -> None:
    """A write that stopped at any byte, header included, is a torn tail."""
    disk = await killed(options, records=2)
    data = disk.read(FIRST)
    second = groups(data)[1]
    disk.write(FIRST, data[: second + kept] + bytes(len(data) - second - kept))
    assert lsns(opened(disk, options)) == [1]


async def test_damage_under_a_watermark_is_refused_and_nothing_changed(options: JournalOptions) -> None:
    """A group that a later one saw durable is corruption, torn or not: typed, with file, offset, LSN and the two ways on."""
    disk = await killed(options, records=4, size_bytes=600)
    data = disk.read(FIRST)
    second, third = groups(data)[1:3]
    disk.write(FIRST, data[:second] + bytes(third - second) + data[third:])
    before = everything(disk)
    with pytest.raises(Corruption, match=r"--accept-loss-after 1;.*older checkpoint") as caught:
        opened(disk, options)
    assert (caught.value.path, caught.value.offset, caught.value.lsn) == (FIRST, second, 2)
    assert everything(disk) == before


async def test_damage_to_a_whole_last_group_is_refused(options: JournalOptions) -> None:
    """No crash flips a bit in a group that is wholly there: the last group is protected even without a watermark."""
    disk = await killed(options, records=2)
    data = disk.read(FIRST)
    flipped = bytearray(data)
    flipped[groups(data)[1] + 70] ^= 1
    disk.write(FIRST, bytes(flipped))
    with pytest.raises(Corruption):
        opened(disk, options)


async def test_the_idle_watermark_protects_the_last_group(options: JournalOptions) -> None:
    """The same lost sector is a torn tail without the watermark, and corruption with it."""
    for mark in (False, True):
        disk = await killed(options, records=2, size_bytes=2000, mark=mark)
        data = disk.read(FIRST)
        second = groups(data)[1]
        sector = (second // 512 + 2) * 512
        disk.write(FIRST, data[:sector] + bytes(512) + data[sector + 512 :])
        if mark:
            with pytest.raises(Corruption):
                opened(disk, options)
        else:
            assert lsns(opened(disk, options)) == [1]


async def test_damage_before_the_checkpoint_is_a_warning(options: JournalOptions) -> None:
    """When a verified checkpoint holds what was damaged, and the log goes on behind it, the journal opens and says so."""
    disk = await killed(options, records=5, size_bytes=600)
    data = disk.read(FIRST)
    second, third = groups(data)[1:3]
    disk.write(FIRST, data[:second] + bytes(third - second) + data[third:])
    with pytest.raises(Corruption):
        opened(disk, options, checkpoint_lsn=1)
    journal = opened(disk, options, checkpoint_lsn=2)
    (damage,) = journal.recovery.damages
    assert (damage.lsn, damage.resumed_lsn, damage.offset, damage.resumed_at) == (2, 3, second, third)
    assert [record.lsn for record in journal.read(2)] == [3, 4, 5]
    with pytest.raises(Corruption):
        list(journal.read())
    async with journal:
        assert journal.last_lsn == 5
    assert [record.lsn for record in opened(disk, options, checkpoint_lsn=2).read(2)] == [3, 4, 5]


async def test_a_damaged_header_behind_the_checkpoint_is_a_warning(options: JournalOptions) -> None:
    """A segment that recovery does not need does not keep the journal from opening; reading it is refused all the same."""
    disk = await killed(options, records=60, size_bytes=600)
    first = f"{FOLDER}/{disk.listdir(FOLDER)[0]}"
    disk.write(first, b"?" + disk.read(first)[1:])
    with pytest.raises(Corruption, match="does not begin"):
        opened(disk, options)
    journal = opened(disk, options, checkpoint_lsn=30)
    (damage,) = journal.recovery.damages
    assert (damage.path, damage.lsn) == (first, 1)
    assert [record.lsn for record in journal.read(30)] == list(range(31, 61))
    with pytest.raises(Corruption):
        list(journal.read())


async def test_a_journal_that_ends_below_the_checkpoint_is_corruption(options: JournalOptions) -> None:
    """A manifest never knows more than the journal: if it does, records are gone."""
    disk = await killed(options, records=3)
    with pytest.raises(Corruption, match="ends at LSN 3, below the checkpoint at 9"):
        opened(disk, options, checkpoint_lsn=9)


async def test_a_missing_journal_is_corruption(disk: MemoryDisk, options: JournalOptions) -> None:
    """An empty folder beside a checkpoint is not a fresh start."""
    with pytest.raises(Corruption, match="the journal is missing"):
        opened(disk, options, checkpoint_lsn=9)


async def test_a_journal_switched_on_again_begins_anew(options: JournalOptions) -> None:
    """When it was off while checkpoints were made, the journal begins behind the newest of them, and later lives accept that."""
    disk = await killed(options, records=3)
    journal = opened(disk, options, checkpoint_lsn=9, anew=True)
    async with journal:
        assert journal.append(Kind.COMMAND, "sqs", "Send", 1, b"x") == 10
    again = opened(disk, options, checkpoint_lsn=9)
    assert [record.lsn for record in again.read(9)] == [10]
    assert again.recovery.damages == ()
    with pytest.raises(Corruption, match="missing"):
        opened(disk, options, checkpoint_lsn=5)
    with pytest.raises(Corruption, match="missing"):
        list(again.read())


async def test_missing_segments_are_corruption(options: JournalOptions) -> None:
    """A segment gone from the middle, or from the beginning, is refused; one that the checkpoint covers is not needed."""
    disk = await killed(options, records=60, size_bytes=600)
    segments = [f"{FOLDER}/{name}" for name in disk.listdir(FOLDER) if not name.endswith(".tmp")]
    assert len(segments) > 4
    for index in (0, 2):
        broken = disk.copy()
        broken.unlink(segments[index])
        with pytest.raises(Corruption, match="missing"):
            opened(broken, options)
        first_after = int(segments[index + 1].split("/")[-1][:20])
        journal = opened(broken, options, checkpoint_lsn=first_after - 1)
        assert journal.last_lsn == 60


async def test_a_sealed_segment_without_its_seal_is_corruption(options: JournalOptions) -> None:
    """The name says that the seal was synced: a file of that name that ends early has lost bytes."""
    disk = MemoryDisk()
    async with opened(disk, options) as journal:
        for _ in range(3):
            await journal.durable(journal.append(Kind.COMMAND, "sqs", "Send", 1, b"x" * 100))
    sealed = FIRST.replace(".open", ".seg")
    data = disk.read(sealed)
    third = groups(data)[2]
    disk.write(sealed, data[:third])
    with pytest.raises(Corruption, match="before it was sealed") as caught:
        opened(disk, options)
    assert caught.value.lsn == 3


async def test_a_prepared_segment_cut_short_is_corruption(options: JournalOptions) -> None:
    """A segment's length was durable before its first record: no crash makes it shorter."""
    disk = await killed(options, records=3)
    data = disk.read(FIRST)
    disk.write(FIRST, data[: groups(data)[2]])
    with pytest.raises(Corruption, match="was made with 8192"):
        opened(disk, options)


async def test_an_unclean_segment_is_replaced_by_a_sealed_copy(options: JournalOptions) -> None:
    """The next life appends to a file of its own; what it read is in a new file, synced, before anything is acknowledged."""
    disk = await killed(options, records=3)
    before = disk.read(FIRST)
    node = disk._files[FIRST]
    faulty = FaultyDisk(disk)
    opened(faulty, options)
    sealed = FIRST.replace(".open", ".seg")
    assert not disk.exists(FIRST)
    assert disk._files[sealed] is not node
    assert disk.read(sealed)[: groups(before)[2]] == before[: groups(before)[2]]
    assert faulty.calls["fsync"] == 1
    assert faulty.calls["fsync_dir"] == 1


async def test_recovery_can_be_cut_off_anywhere(options: JournalOptions) -> None:
    """Whichever step of a recovery fails, the next one succeeds with the same records, and the torn bytes are kept once."""
    original = await killed(options, records=3, size_bytes=2000)
    data = original.read(FIRST)
    third = groups(data)[2]
    original.write(FIRST, data[: third + 1500] + bytes(len(data) - third - 1500))
    steps = 0
    for operation in ("create", "pwrite", "fsync", "rename", "fsync_dir", "unlink"):
        for after in range(10):
            disk = original.copy()
            faulty = FaultyDisk(disk)
            faulty.fail(Fault(operation, after=after))
            try:
                opened(faulty, options)
            except OSError:
                steps += 1
            else:
                break
            journal = opened(disk, options)
            assert lsns(journal) == [1, 2]
            kept = [name for name in disk.listdir("/v/quarantine") if not name.startswith(".aside")]
            assert len(kept) == 2
    assert steps >= 15


async def test_another_states_journal_is_refused(options: JournalOptions) -> None:
    """A journal that was copied into the wrong volume is told apart from damage."""
    disk = await killed(options)
    before = everything(disk)
    with pytest.raises(IncompatibleFormat, match="another state"):
        Journal.open(FOLDER, state_id=b"other", disk=disk, options=options)
    assert everything(disk) == before


async def test_a_newer_format_is_refused(options: JournalOptions) -> None:
    """A whole header with a version of the future is a foreign format, not damage."""
    disk = await killed(options)
    data = disk.read(FIRST)
    header = unpack_segment_header(data[:512])
    assert isinstance(header, SegmentHeader)
    disk.write(FIRST, pack_segment_header(replace(header, version=2)) + data[512:])
    with pytest.raises(IncompatibleFormat, match="format 2"):
        opened(disk, options)


async def test_leftovers_of_preparation_are_removed(options: JournalOptions) -> None:
    """A spare and a half-made copy are worth nothing to the next life."""
    disk = await killed(options)
    disk.write(f"{FOLDER}/copy-0123456789abcdef.tmp", b"half")
    assert any(name.startswith("spare-") for name in disk.listdir(FOLDER))
    opened(disk, options)
    assert disk.listdir(FOLDER) == ["00000000000000000001-00000001.seg"]


async def test_progress_is_told(options: JournalOptions) -> None:
    """A long recovery says how far it is, up to the end and never beyond."""
    disk = await killed(options, records=60, size_bytes=600)
    told: list[tuple[int, int]] = []
    Journal.open(FOLDER, state_id=b"state", disk=disk, options=options, progress=lambda *step: told.append(step))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] > 30_000


async def test_a_copy_of_the_journal_inside_a_record_is_no_group(options: JournalOptions) -> None:
    """A user who stores a segment's own bytes in a record does not make a torn tail look like corruption."""
    disk = await killed(options, records=5)
    stolen = disk.read(FIRST)[:2048]
    async with opened(disk, options) as journal:
        await journal.durable(journal.append(Kind.COMMAND, "s3", "PutObject", 1, b"x"))
        for shift in range(8):
            journal.append(Kind.COMMAND, "s3", "PutObject", 1, bytes(shift) + stolen[: 600 * 3])
        await journal.durable(journal.last_lsn)
        path = journal._appender.path if journal._appender else ""
        disk = disk.copy()
    data = disk.read(path)
    # The last group loses its first sector's worth: everything in it that looks like a group must not count.
    last = max(at for at in groups(data) if data[at + 44 : at + 48] == b"done" and at % 8 == 0 and at < 1024)
    disk.write(path, data[:last] + bytes(512) + data[last + 512 :])
    assert opened(disk, options).recovery.torn is not None


async def test_only_the_tail_is_read_at_start(options: JournalOptions) -> None:
    """Segments behind the checkpoint are listed and not read: starting stays as quick however much is kept for time travel."""
    disk = await killed(options, records=60, size_bytes=600)
    whole, tail = opened(disk.copy(), options), opened(disk.copy(), options, checkpoint_lsn=55)
    assert whole.recovery.records == 60
    assert tail.recovery.records < 20
    assert whole.last_lsn == tail.last_lsn == 60
    assert lsns(tail) == list(range(1, 61))
