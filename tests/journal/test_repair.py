"""Repair cuts where a human says, keeps every byte in quarantine, and leaves a journal that opens."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from holdfast.journal import (
    Corruption,
    Fault,
    FaultyDisk,
    Journal,
    JournalError,
    JournalOptions,
    Kind,
    MemoryDisk,
    TornTail,
    read_journal,
    repair_journal,
)

pytestmark = pytest.mark.anyio
FOLDER = "/v/journal"
QUARANTINE = "/v/quarantine"


def opened(disk: MemoryDisk, options: JournalOptions, checkpoint_lsn: int = 0) -> Journal:
    return Journal.open(FOLDER, state_id=b"state", disk=disk, options=options, checkpoint_lsn=checkpoint_lsn)


@pytest.fixture
async def disk(options: JournalOptions) -> MemoryDisk:
    """A killed journal of three lives and several segments, its records in groups of three."""
    disk = MemoryDisk()
    for _ in range(3):
        async with opened(disk, options) as journal:
            for number in range(10):
                for part in range(3):
                    journal.append(Kind.COMMAND, "sqs", "Send", number, bytes([part + 1]) * 300)
                await journal.durable(journal.last_lsn)
            disk = disk.copy()
    return disk


def damaged(disk: MemoryDisk, lsn: int) -> tuple[MemoryDisk, int]:
    """The disk with a flipped bit in the group that holds `lsn`, and the LSN before that group."""
    disk = disk.copy()
    names = [name for name in disk.listdir(FOLDER) if not name.endswith(".tmp") and int(name[:20]) <= lsn]
    path = f"{FOLDER}/{names[-1]}"
    data = bytearray(disk.read(path))
    at, first = 512, int(names[-1][:20])
    while int.from_bytes(data[at + 8 : at + 16], "little") + 3 <= lsn:
        at = data.find(b"HGRP", at + 1)
    first = int.from_bytes(data[at + 8 : at + 16], "little")
    data[at + 100] ^= 4
    disk.write(path, bytes(data))
    return disk, first - 1


@pytest.mark.parametrize("lsn", [1, 8, 31, 50, 89])
async def test_what_is_before_the_damage_is_kept(disk: MemoryDisk, options: JournalOptions, lsn: int) -> None:
    """The refusal names the LSN; repairing there leaves everything up to it, and the lost bytes in quarantine."""
    broken, good = damaged(disk, lsn)
    with pytest.raises(Corruption, match=f"--accept-loss-after {good};"):
        opened(broken, options)
    before = {name: broken.read(f"{FOLDER}/{name}") for name in broken.listdir(FOLDER) if not name.endswith(".tmp")}
    done = repair_journal(FOLDER, accept_loss_after=good, quarantine=QUARANTINE, disk=broken)
    assert (done.last_lsn, done.next_lsn) == (good, good + 1)
    kept = [broken.read(path) for path in done.quarantined]
    for name, data in before.items():
        if int(name[:20]) > good + 1:
            assert data.rstrip(b"\0") in kept
    journal = opened(broken, options)
    assert [record.lsn for record in journal.read()] == list(range(1, good + 1))
    assert journal.epoch == 4, "no (epoch, LSN) may be given twice"
    async with journal:
        assert journal.append(Kind.COMMAND, "sqs", "Send", 1, b"x") == good + 1


@pytest.mark.parametrize("lsn", [0, 1, 2, 3, 29, 30, 31, 44, 90])
async def test_a_cut_may_go_through_a_group(disk: MemoryDisk, options: JournalOptions, lsn: int) -> None:
    """Any LSN will do, the middle of a group and the ends of segments included: what is kept is whole and unchanged."""
    whole = list(opened(disk.copy(), options).read())
    if lsn == 90:
        with pytest.raises(JournalError, match="nothing was changed"):
            repair_journal(FOLDER, accept_loss_after=91, quarantine=QUARANTINE, disk=disk)
    repair_journal(FOLDER, accept_loss_after=lsn, quarantine=QUARANTINE, disk=disk)
    assert list(opened(disk, options).read()) == whole[:lsn]


async def test_damage_before_the_cut_is_refused(disk: MemoryDisk, options: JournalOptions) -> None:
    """A repair does not pass over damage on its way, and then changes nothing."""
    broken, _ = damaged(disk, 20)
    files = {path: bytes(node.data) for path, node in broken._files.items()}
    with pytest.raises(Corruption):
        repair_journal(FOLDER, accept_loss_after=40, quarantine=QUARANTINE, disk=broken)
    assert {path: bytes(node.data) for path, node in broken._files.items()} == files


async def test_a_checkpoint_beyond_the_cut_begins_the_journal_anew(disk: MemoryDisk, options: JournalOptions) -> None:
    """When the checkpoint knows more than what is left, the journal goes on behind it."""
    broken, good = damaged(disk, 50)
    done = repair_journal(FOLDER, accept_loss_after=good, quarantine=QUARANTINE, disk=broken, checkpoint_lsn=75)
    assert done.next_lsn == 76
    journal = opened(broken, options, checkpoint_lsn=75)
    async with journal:
        assert journal.append(Kind.COMMAND, "sqs", "Send", 1, b"x") == 76
    assert [record.lsn for record in opened(broken, options, checkpoint_lsn=75).read(75)] == [76]


async def test_a_repair_can_be_cut_off_anywhere(disk: MemoryDisk, options: JournalOptions) -> None:
    """Whichever step fails, running the repair again ends it, and no byte is lost on the way."""
    original, good = damaged(disk, 50)
    lost = {
        original.read(f"{FOLDER}/{name}").rstrip(b"\0")
        for name in original.listdir(FOLDER)
        if not name.endswith(".tmp") and int(name[:20]) > good + 1
    }
    steps = 0
    for operation in ("create", "pwrite", "fsync", "rename", "fsync_dir", "unlink"):
        for after in range(40):
            broken = original.copy()
            faulty = FaultyDisk(broken)
            faulty.fail(Fault(operation, after=after))
            try:
                repair_journal(FOLDER, accept_loss_after=good, quarantine=QUARANTINE, disk=faulty)
                break
            except OSError:
                steps += 1
            held = {bytes(node.data).rstrip(b"\0") for node in broken._files.values()}
            assert lost <= held
            try:
                repair_journal(FOLDER, accept_loss_after=good, quarantine=QUARANTINE, disk=broken)
            except JournalError:
                pass  # it was done but for the last sync
            assert [record.lsn for record in opened(broken, options).read()] == list(range(1, good + 1))
    assert steps > 20


async def test_reading_without_repair_stops_at_the_torn_tail(disk: MemoryDisk, options: JournalOptions) -> None:
    """A reader that may change nothing gives what is whole, and then says by type why it ends."""
    name = next(name for name in disk.listdir(FOLDER) if name.endswith(".open"))
    data = disk.read(f"{FOLDER}/{name}")
    last = data.rfind(b"HGRP")
    disk.write(f"{FOLDER}/{name}", data[: last + 60] + bytes(len(data) - last - 60))
    files = dict(disk._files)
    seen: list[int] = []

    def look(from_lsn: int) -> None:
        seen.extend(record.lsn for record in read_journal(disk, FOLDER, from_lsn=from_lsn))

    for from_lsn in (1, 45):
        seen.clear()
        with pytest.raises(TornTail) as caught:
            look(from_lsn)
        assert seen == list(range(from_lsn, 88))
        assert caught.value.lsn == 88
    assert disk._files == files


async def test_a_real_disk_is_repaired(tmp_path: os.PathLike[str], options: JournalOptions) -> None:
    """The same through system calls."""
    folder = os.path.join(tmp_path, "journal")
    async with Journal.open(folder, state_id=b"state", options=replace(options)) as journal:
        for _ in range(40):
            await journal.durable(journal.append(Kind.COMMAND, "sqs", "Send", 1, bytes(500)))
    repair_journal(folder, accept_loss_after=17, quarantine=os.path.join(tmp_path, "quarantine"))
    assert [r.lsn for r in Journal.open(folder, state_id=b"state").read()] == list(range(1, 18))
