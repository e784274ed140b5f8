"""The journal against a model of it, a list: whatever happens in whatever order, what was acknowledged is there.

Everything runs on one thread in one order, so that a failing example fails again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.journal import Journal, JournalError, JournalFull, JournalOptions, Kind, Lane, MemoryDisk, SyncMode
from holdfast.journal.recording import RecordingDisk

T = TypeVar("T")
FOLDER = "/v/journal"
STATE = b"state"


class JournalModel(RuleBasedStateMachine):
    """Lives of one journal: `wanted` is every record appended and not lost, `acknowledged_lsn` what must never be."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.disk = RecordingDisk()
        self.wanted: list[tuple[int, int, bytes]] = []
        self.acknowledged_lsn = 0
        self.checkpoints = [0]
        self.journal: Journal | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def options(self) -> JournalOptions:
        return JournalOptions(
            segment_bytes=4096,
            first_segment_bytes=2048,
            group_bytes_max=800,
            headroom_bytes=0,
            reserve_margin_bytes=128,
            lane=Lane.INLINE,
            prepare_ahead=False,
            full_retry_s=0.0,
            retention_age_s=0.0,
            idle_mark_s=60.0,
        )

    def recovered(self, disk: RecordingDisk | MemoryDisk, sync: SyncMode) -> Journal:
        """Open, and compare what is there with what must be."""
        checkpoint_lsn = self.checkpoints[-1]
        journal = Journal.open(
            FOLDER, state_id=STATE, disk=disk, sync=sync, options=self.options(), checkpoint_lsn=checkpoint_lsn
        )
        assert journal.recovery.damages == ()
        assert journal.last_lsn >= self.acknowledged_lsn
        older_lsn = self.checkpoints[0]  # promise 5: everything after the older of the two newest checkpoints is kept
        got = [(record.lsn, record.epoch, record.payload) for record in journal.read(older_lsn)]
        wanted = [record for record in self.wanted if record[0] > older_lsn]
        assert got == wanted[: len(got)]
        assert older_lsn + len(got) == journal.last_lsn
        return journal

    @initialize(sync=st.sampled_from(SyncMode))
    def begin(self, sync: SyncMode) -> None:
        self.live(self.disk, sync)

    def live(self, disk: RecordingDisk, sync: SyncMode) -> None:
        self.disk = disk
        self.journal = self.recovered(disk, sync)
        self.wanted = [record for record in self.wanted if record[0] <= self.journal.last_lsn]
        self.run(self.journal.__aenter__())

    @property
    def running(self) -> Journal:
        assert self.journal is not None
        return self.journal

    @rule(sizes=st.lists(st.integers(0, 1500), min_size=1, max_size=6))
    def append(self, sizes: list[int]) -> None:
        """A turn of the loop in which some commands run."""

        async def turn() -> None:
            for size in sizes:
                try:
                    self.running.reserve(size)
                except JournalFull:
                    return
                payload = bytes([len(self.wanted) % 251]) * size
                lsn = self.running.append(Kind.COMMAND, "sqs", "SendMessage", 1, payload)
                self.wanted.append((lsn, self.running.epoch, payload))

        self.run(turn())

    @rule()
    def wait(self) -> None:
        """Everything appended becomes durable by a sync."""
        self.run(self.running.synced(self.running.last_lsn))
        self.acknowledged_lsn = self.running.last_lsn

    @rule()
    def idle(self) -> None:
        """Some turns of the loop pass, and then the watermark follows."""
        for _ in range(3):
            self.run(asyncio.sleep(0))
        if self.running._appender is not None:
            self.running._appender.mark()
        self.acknowledged_lsn = max(self.acknowledged_lsn, self.running.synced_lsn)

    @rule()
    def checkpoint(self) -> None:
        """A checkpoint, and the retirement that follows from the one before it."""
        self.wait()
        self.checkpoints = [self.checkpoints[-1], self.running.last_lsn]

        async def note() -> None:
            self.running.checkpointed(self.checkpoints[-1], b"manifest")

        self.run(note())
        self.running.retire(self.checkpoints[0] + 1)

    @rule(capacity_bytes=st.sampled_from([2000, 20_000, 1 << 30]))
    def resize(self, capacity_bytes: int) -> None:
        """The disk gets full, or is given room."""
        self.disk._live.capacity_bytes = capacity_bytes

    @rule(sync=st.sampled_from(SyncMode))
    def stop(self, sync: SyncMode) -> None:
        """A clean stop and a new start: nothing is lost, acknowledged or not."""
        self.run(self.running.__aexit__())
        self.acknowledged_lsn = self.running.last_lsn
        self.disk._live.capacity_bytes = 1 << 30
        self.live(self.disk, sync)

    @rule(sync=st.sampled_from(SyncMode), choice=st.integers(0, 1 << 30))
    def power_cut(self, sync: SyncMode, choice: int) -> None:
        """The power goes at this moment, or went at one of the last steps, and leaves one of the states that it can."""
        self.acknowledged_lsn = max(self.acknowledged_lsn, self.running.synced_lsn)
        states = list(self.disk.crash_states(self.disk.steps - 1))
        self.leave()
        self.live(RecordingDisk.after(states[choice % len(states)]), sync)

    @rule(offset=st.integers(0, 1 << 20), bit=st.integers(0, 7))
    def damage(self, offset: int, bit: int) -> None:
        """A bit flips in a file: refused by type, or everything acknowledged is there. (The flip is taken back.)"""
        if self.running.sync is not SyncMode.ALWAYS:
            return
        self.wait()
        self.idle()
        state = next(iter(self.disk.crash_states(self.disk.steps - 1)))
        disk = state.disk()
        path = max(path for path in state.files if path.startswith(FOLDER) and not path.endswith(".tmp"))
        data = bytearray(state.files[path])
        data[offset % len(data)] ^= 1 << bit
        disk.write(path, bytes(data))
        try:
            journal = Journal.open(
                FOLDER,
                state_id=STATE,
                disk=disk,
                options=self.options(),
                checkpoint_lsn=self.checkpoints[-1],
            )
            got = [(record.lsn, record.epoch, record.payload) for record in journal.read(self.checkpoints[-1])]
        except JournalError:
            return
        assert got == [record for record in self.wanted if record[0] > self.checkpoints[-1]]

    @precondition(lambda self: self.journal is not None)
    @invariant()
    def counters_agree(self) -> None:
        assert self.running.synced_lsn <= self.running.last_lsn
        assert self.running.last_lsn == (self.wanted[-1][0] if self.wanted else self.checkpoints[-1])
        assert self.running.failure is None, repr(self.running.failure.__cause__)

    def leave(self) -> None:
        """Take the journal away as a kill would: nothing more is written."""
        if self.journal is not None and self.journal._writer is not None:
            self.journal._writer._thread.stop()
            self.journal._writer._stopped = True

    def teardown(self) -> None:
        self.leave()
        self.run(asyncio.sleep(0))
        self.loop.close()


TestJournalModel = JournalModel.TestCase
TestJournalModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
