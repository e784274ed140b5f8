"""Every state that a power cut can leave of a reference workload, and whether each single sync is needed for that.

The workload: appends in batches of several groups, segments that change, checkpoints, retirement, blobs that are stored,
found again, collected and put back, clean stops, kills, a torn tail and its quarantine, a repair, all three sync modes.
Behind each of its steps every crash state (see `recording`) must recover, without a refusal or a warning, to a prefix that
holds every acknowledged record with its blobs.
"""

from __future__ import annotations

import ast
import asyncio
import errno
import os
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import holdfast.journal
from holdfast.journal import (
    BlobStore,
    Fault,
    FaultyDisk,
    Journal,
    JournalError,
    JournalFailed,
    JournalOptions,
    Kind,
    Lane,
    MemoryDisk,
    SyncMode,
    repair_journal,
)
from holdfast.journal.recording import CrashState, RecordingDisk, Site

FOLDER = "/v/journal"
QUARANTINE = "/v/quarantine"
IMAGES = "/v/images"
STATE = b"state"
OPTIONS = JournalOptions(
    segment_bytes=4096,
    first_segment_bytes=4096,
    group_bytes_max=700,
    headroom_bytes=0,
    reserve_margin_bytes=0,
    lane=Lane.INLINE,
    prepare_ahead=False,
    idle_mark_s=60.0,
    retention_bytes=0,
    sync_interval_s=60.0,
    loss_bound_s=60.0,
    wall_ns=lambda: 1,
)


@dataclass
class Workload:
    """Runs against a disk and marks in its log what is promised from there on."""

    disk: RecordingDisk
    chance: random.Random = field(default_factory=lambda: random.Random(4566))
    appended: dict[tuple[int, int], tuple[bytes, tuple[bytes, ...]]] = field(default_factory=dict)
    checkpoint_lsn: int = 0

    def open(self, disk: RecordingDisk | FaultyDisk | None = None, sync: SyncMode = SyncMode.ALWAYS) -> Journal:
        store = BlobStore(IMAGES, self.disk)
        return Journal.open(
            FOLDER,
            state_id=STATE,
            sync=sync,
            disk=disk or self.disk,
            checkpoint_lsn=self.checkpoint_lsn,
            blobs=store,
            options=OPTIONS,
            quarantine=QUARANTINE,
        )

    def append(self, journal: Journal, *blobs: bytes) -> int:
        payload = self.chance.randbytes(self.chance.choice((30, 100, 500, 1100)))
        lsn = journal.append(Kind.COMMAND, "sqs", "SendMessage", 1, payload, blobs)
        self.appended[journal.epoch, lsn] = (payload, blobs)
        return lsn

    async def batches(self, journal: Journal, count: int) -> None:
        """Some batches, each acknowledged when it is durable, some with an idle watermark behind."""
        for _ in range(count):
            for _ in range(self.chance.randrange(1, 5)):
                self.append(journal)
            await journal.synced(journal.last_lsn)
            self.acknowledge(journal)
            if self.chance.random() < 0.3 and journal._appender is not None:
                journal._appender.mark()

    def acknowledge(self, journal: Journal) -> None:
        self.disk.mark("acknowledged", (journal.epoch, journal.synced_lsn))

    async def checkpoint(self, journal: Journal) -> None:
        """A checkpoint at what is durable, noted, and the segments retired that the one before needed."""
        older, lsn = self.checkpoint_lsn, journal.synced_lsn
        self.disk.mark("checkpoint", lsn)
        self.checkpoint_lsn = lsn
        journal.checkpointed(lsn, b"m" * 32)
        self.append(journal)
        await journal.synced(journal.last_lsn)
        self.acknowledge(journal)
        journal.retire(older + 1)

    async def blobs(self, journal: Journal) -> None:
        """A body stored and named; stored again, which is a dedup hit, by a life that found it; garbage there and back."""
        store = BlobStore(IMAGES, self.disk)
        body = self.chance.randbytes(1500)
        await journal.synced(self.append(journal, store.put(body)))
        self.acknowledge(journal)
        await journal.synced(self.append(journal, store.put_stream([body, b"more"])))
        self.acknowledge(journal)
        faulty = FaultyDisk(self.disk)
        killed = BlobStore(IMAGES, faulty)
        faulty.fail(Fault("fsync_dir"), Fault("rename", after=1))  # as a kill right before this sync
        with pytest.raises(OSError, match="Input/output"):
            killed.put(b"killed" + body)
        await journal.synced(self.append(journal, BlobStore(IMAGES, self.disk).put(b"killed" + body)))
        self.acknowledge(journal)
        garbage = store.put(b"garbage" + body)
        self.disk.mark("kept", garbage)
        for roots in ({garbage}, set(), {garbage}):
            store.collect(roots | journal.blobs_needed())
        self.disk.mark("root", garbage)
        self.append(journal)
        await journal.synced(journal.last_lsn)
        self.acknowledge(journal)
        self.disk.mark("root", None)
        self.disk.mark("kept", None)

    async def torn(self) -> None:
        """A write that fails in the middle and leaves a torn tail, of which the bytes are noted."""
        faulty = FaultyDisk(self.disk)
        journal = self.open(faulty)
        async with journal:
            await journal.synced(self.append(journal))
            self.acknowledge(journal)
            lsn = journal.append(Kind.COMMAND, "sqs", "Send", 1, b"t" * 1500)
            self.appended[journal.epoch, lsn] = (b"t" * 1500, ())
            faulty.fail(Fault("pwrite", errno.EIO, path="*.open", written_bytes=1200))
            with pytest.raises(JournalFailed):
                await journal.durable(lsn)

    async def run(self) -> None:
        """The whole of it: lives in each sync mode, with every way to end."""
        async with self.open() as journal:
            await self.batches(journal, 14)
            await self.checkpoint(journal)
            await self.batches(journal, 3)
            await self.checkpoint(journal)
            await self.checkpoint(journal)
            await self.blobs(journal)
        for _ in range(7):
            async with self.open() as journal:
                await self.batches(journal, 3)
                await self.checkpoint(journal)
                self.kill(journal)
            async with self.open(sync=SyncMode.INTERVAL) as journal:
                await self.checkpoint(journal)
                await self.checkpoint(journal)
                await self.unsynced(journal)
                self.kill(journal)
        await self.torn()
        async with self.open() as journal:
            self.disk.mark("torn", b"t" * 1000)
            await self.batches(journal, 2)
        self.disk.mark("torn", None)
        async with self.open(sync=SyncMode.OFF) as journal:
            await self.unsynced(journal)
        await self.repair()

    async def repair(self) -> None:
        """A cut that a human accepted, in the middle of a batch: what is behind it is in quarantine from then on."""
        async with self.open() as journal:
            await self.batches(journal, 1)
            lsn = journal.last_lsn
            for payload in (b"kept", b"u" * 1500, b"v" * 3000):
                self.appended[journal.epoch, journal.append(Kind.COMMAND, "sqs", "Send", 1, payload)] = (payload, ())
            await journal.durable(journal.last_lsn)
            self.kill(journal)
        self.disk.mark("acknowledged", (journal.epoch, lsn + 1))
        for name, lost in (("torn", b"u" * 1500), ("torn too", b"v" * 3000)):
            self.disk.mark(name, lost)
        self.disk.mark("checkpoint", lsn + 2)
        self.disk.mark("repaired", None)
        done = repair_journal(
            FOLDER,
            accept_loss_after=lsn + 1,
            quarantine=QUARANTINE,
            checkpoint_lsn=lsn + 2,
            disk=self.disk,
        )
        self.disk.mark("repaired", done.next_lsn - 1)

    async def unsynced(self, journal: Journal) -> None:
        """Written and not synced: nothing is promised of it but that it does no harm."""
        for _ in range(4):
            for _ in range(self.chance.randrange(6, 22)):
                self.append(journal)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            if self.chance.random() < 0.5:
                await journal.synced(journal.last_lsn)
                self.acknowledge(journal)

    def kill(self, journal: Journal) -> None:
        """Take the file from the journal, so that leaving it writes nothing: as a kill would."""
        assert journal._writer is not None
        assert journal._appender is not None
        journal._appender.abandon()
        journal._writer.failure = JournalFailed("killed")


def recorded(without: Site | None = None) -> Workload:
    """The reference workload, run on a disk that records it; the same bytes each time."""
    workload = Workload(RecordingDisk(without))
    chance = random.Random(2013)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "urandom", chance.randbytes)
        patch.setattr(time, "time_ns", lambda: 1)
        patch.setattr(secrets, "token_hex", lambda size: chance.randbytes(size).hex())
        asyncio.run(workload.run())
    return workload


def judge(workload: Workload, state: CrashState) -> None:
    """Raise unless the state recovers to a prefix with everything acknowledged in it."""
    disk = state.disk()
    for torn in (state.marks.get("torn"), state.marks.get("torn too")):
        assert torn is None or any(torn in data for data in everything(disk)), "bytes that were cut were destroyed"
    if "repaired" in state.marks and state.marks["repaired"] is None:
        return  # in the middle of a repair the journal need not open: the repair can be run again
    checkpoint_lsn = state.marks.get("checkpoint", 0)
    acknowledged = state.marks.get("acknowledged", (0, 0))
    assert isinstance(checkpoint_lsn, int)
    assert isinstance(acknowledged, tuple)
    epoch, acknowledged_lsn = acknowledged
    journal = Journal.open(
        FOLDER, state_id=STATE, disk=disk, checkpoint_lsn=checkpoint_lsn, options=OPTIONS, quarantine=QUARANTINE
    )
    assert journal.recovery.damages == (), "a crash is no damage"
    assert journal.last_lsn >= acknowledged_lsn, "an acknowledged record is gone"
    store = BlobStore(IMAGES, disk)
    lsn = journal.stat().first_lsn - 1  # behind the checkpoint too: retirement leaves no hole
    assert lsn <= checkpoint_lsn
    if "repaired" in state.marks:
        lsn = checkpoint_lsn
    for record in journal.read(lsn):
        lsn += 1
        assert record.lsn == lsn
        assert (record.payload, record.blobs) == workload.appended[record.epoch, record.lsn]
        assert record.lsn > acknowledged_lsn or record.epoch <= epoch
        for digest in record.blobs:
            store.get(digest)
    assert lsn == journal.last_lsn
    for name, found in (
        ("kept", wherever(disk, state.marks.get("kept"))),
        ("root", at_root(store, state.marks.get("root"))),
    ):
        assert found, f"a blob that was {name} is gone"
    assert state.marks.get("repaired") in {None, journal.last_lsn}, "a repair that was done is undone"


def everything(disk: MemoryDisk) -> list[bytes]:
    return [bytes(node.data) for node in disk._files.values()]


def wherever(disk: MemoryDisk, digest: object) -> bool:
    """True when a blob is in the store or in its trash."""
    if not isinstance(digest, bytes):
        return True
    return disk.exists(f"{IMAGES}/{digest.hex()}") or disk.exists(f"{IMAGES}/.trash-{digest.hex()}")


def at_root(store: BlobStore, digest: object) -> bool:
    return not isinstance(digest, bytes) or store.verify(digest)


def distinct(workload: Workload, seen: set[int]) -> Iterator[CrashState]:
    """The states of a workload that are not in `seen`, each combination of files and promises once."""
    for state in workload.disk.crash_states():
        key = hash((frozenset(state.files.items()), frozenset(state.marks.items())))
        if key not in seen:
            seen.add(key)
            yield state


@pytest.fixture(scope="module")
def known() -> set[int]:
    """The states of the workload as it is."""
    seen: set[int] = set()
    for _ in distinct(recorded(), seen):
        pass
    return seen


def test_every_crash_state_recovers_with_all_that_was_acknowledged(known: set[int]) -> None:
    """At least 20,000 distinct states: each one opens, and holds a prefix with every acknowledged record and its blobs."""
    workload = recorded()
    judged: set[int] = set()
    for state in distinct(workload, judged):
        try:
            judge(workload, state)
        except (AssertionError, JournalError, OSError, KeyError) as error:
            raise AssertionError(f"step {state.step}: {state.what}: {error}") from error
    print(f"{len(judged)} distinct crash states")
    assert judged == known, "the workload is not the same each time"
    assert len(judged) >= 20_000


NOT_FOR_DURABILITY = {
    "prepare_spare": "paces the filling: the sync in begin_segment makes it durable",
    "make_folder": "of LocalDisk, which the recording disk stands in for",
    "fsync_dir": "of LocalDisk: the system call itself",
}


SYNCS = {"fsync", "fdatasync", "fsync_dir", "sync"}


def sync_calls() -> list[tuple[Site, str]]:
    """Every line of the package that asks for a sync, and the function that it is in."""
    found: list[tuple[Site, str]] = []
    for path in sorted(Path(holdfast.journal.__path__[0]).glob("*.py")):
        if path.name in {"recording.py", "fakes.py"}:
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name not in NOT_FOR_DURABILITY:
                calls = (call for call in ast.walk(function) if isinstance(call, ast.Call))
                lines = {
                    call.lineno for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in SYNCS
                }
                found.extend(((path.name, line), f"{path.stem}.{function.name}") for line in sorted(lines))
    return found


@pytest.mark.parametrize(("site", "function"), sync_calls(), ids=[f"{f}-{line}" for (_, line), f in sync_calls()])
def test_every_sync_is_needed(site: Site, function: str, known: set[int]) -> None:
    """With this one line left out, some crash state of the workload loses what was promised: no sync is for nothing."""
    workload = recorded(without=site)
    assert site in workload.disk.sync_sites, f"the workload never comes through {function}"
    for state in distinct(workload, set(known)):
        try:
            judge(workload, state)
        except (AssertionError, JournalError, OSError, KeyError):
            return
    pytest.fail(f"nobody notices when {function} does not sync")
