"""When checkpoints are made (DESIGN section 7), and how those who wait for one share it.

    strategy      a checkpoint is made
    -----------   ----------------------------------------------------------------------------------------------------
    SCHEDULED     every `interval_s`, if anything is dirty
    ON_REQUEST    when a reply waits for one (`flushed`); those who come while one is under way share the next
    ON_SHUTDOWN   when the daemon asks at its end
    MANUAL        when somebody asks

`save` works under every strategy. One checkpoint is under way at a time and at most one more is wanted: whoever asks while a
checkpoint is being made may have changed something after its cut, so it is the next one that answers all of them.
"""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING, Final

import anyio

from holdfast.snapshot.errors import SnapshotFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdfast.snapshot.checkpoint import Checkpointer
    from holdfast.snapshot.manifest import Manifest

from contextlib import asynccontextmanager

__all__ = ["INTERVAL_S", "SaveStrategy", "Snapshotter"]

INTERVAL_S: Final = 15.0
"""LocalStack's SNAPSHOT_FLUSH_INTERVAL."""


class SaveStrategy(enum.StrEnum):
    """The values of SNAPSHOT_SAVE_STRATEGY."""

    SCHEDULED = "SCHEDULED"
    ON_REQUEST = "ON_REQUEST"
    ON_SHUTDOWN = "ON_SHUTDOWN"
    MANUAL = "MANUAL"


class _Ask:
    """One who waits. It has an event of its own: cancelling it harms nobody else who waits for the same checkpoint."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.answered = anyio.Event()
        self.manifest: Manifest | None = None
        self.failure: SnapshotFailed | None = None

    def answer(self, manifest: Manifest | None, failure: SnapshotFailed | None) -> None:
        self.manifest, self.failure = manifest, failure
        self.answered.set()


class Snapshotter:
    """Decides when; `checkpointer` knows how. Run `run()` in a task for as long as anybody may ask."""

    def __init__(
        self,
        checkpointer: Checkpointer,
        *,
        strategy: SaveStrategy = SaveStrategy.SCHEDULED,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.checkpointer = checkpointer
        self._strategy = strategy
        self._interval_s = interval_s
        self._asks: list[_Ask] = []
        self._wake = anyio.Event()
        self._busy = anyio.Lock()
        self._running = False
        self.failure: SnapshotFailed | None = None
        """Why the last attempt failed; None once one succeeded."""

    @property
    def strategy(self) -> SaveStrategy:
        """When checkpoints are made; may be changed while it runs."""
        return self._strategy

    @strategy.setter
    def strategy(self, strategy: SaveStrategy) -> None:
        self._strategy = strategy
        self._wake.set()

    @property
    def interval_s(self) -> float:
        """Of SCHEDULED, from start to start; may be changed while it runs, and then counts from the last start."""
        return self._interval_s

    @interval_s.setter
    def interval_s(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._wake.set()

    @property
    def checkpoint_lsn(self) -> int:
        """The LSN of the newest checkpoint; 0 while there is none."""
        checkpoint = self.checkpointer.checkpoint
        return checkpoint.lsn if checkpoint is not None else 0

    async def save(self, reason: str = SaveStrategy.MANUAL) -> Manifest:
        """A checkpoint of now, or of a moment after; shared with others who ask meanwhile. Look at its `failed`.

        Works without `run` too, as the last thing a daemon does. Raises SnapshotFailed when none came of it.
        """
        ask = _Ask(reason)
        self._asks.append(ask)
        self._wake.set()
        if not self._running:
            await self._serve(scheduled=False)
        try:
            await ask.answered.wait()
        finally:
            if ask in self._asks:
                self._asks.remove(ask)
        if ask.failure is not None:
            raise ask.failure
        assert ask.manifest is not None
        return ask.manifest

    async def flushed(self, lsn: int) -> None:
        """Return when a checkpoint holds everything up to `lsn`. What ON_REQUEST does before each reply.

        Raises SnapshotFailed when the checkpoint that should have held it failed or is partial.
        """
        if self.checkpoint_lsn >= lsn:
            return
        manifest = await self.save(SaveStrategy.ON_REQUEST)
        if not manifest.complete:
            raise SnapshotFailed(
                "it is partial: " + "; ".join(f"{name}: {why}" for name, why in manifest.failed.items())
            )
        assert manifest.lsn >= lsn, "the cut came after the question"

    @asynccontextmanager
    async def idle(self) -> AsyncIterator[None]:
        """A block during which no checkpoint is under way: for whoever collects garbage or swaps state."""
        async with self._busy:
            yield

    async def run(self) -> None:
        """Make checkpoints until cancelled; a failed one is kept in `failure`, reported by the host, and tried again when due."""
        self._running = True
        started = time.monotonic()
        try:
            await self._prepare()
            while True:
                scheduled = await self._due(started)
                started = time.monotonic()
                await self._serve(scheduled)
                if self.checkpointer.timing.forked:
                    await self._prepare()
        finally:
            self._running = False
            self._answer(self._asks, None, SnapshotFailed("the snapshotter has stopped"))

    async def _due(self, started: float) -> bool:
        """Wait until somebody asks (False) or the interval since `started` has passed (True)."""
        while not self._asks:
            self._wake = anyio.Event()
            left_s = float("inf")
            if self._strategy is SaveStrategy.SCHEDULED:
                left_s = started + self._interval_s - time.monotonic()
                if left_s <= 0:
                    return True
            with anyio.move_on_after(left_s):
                await self._wake.wait()
        return False

    async def _prepare(self) -> None:
        """Make the next fork cheap, unless somebody waits for it already."""
        await self.checkpointer.make_fork_cheap(lambda: bool(self._asks))

    async def _serve(self, scheduled: bool) -> None:
        """One checkpoint for all who ask before its cut."""
        async with self._busy:
            asks, self._asks = self._asks, []
            if not asks and not scheduled:
                return  # another has answered them while this one waited
            reason = asks[0].reason if asks else SaveStrategy.SCHEDULED
            manifest: Manifest | None = None
            failure: SnapshotFailed | None = SnapshotFailed("the snapshotter has stopped")
            try:
                manifest = await self.checkpointer.take(reason, only_if_dirty=not asks)
                failure = None
            except SnapshotFailed as error:
                failure = error
            finally:
                self.failure = failure
                self._answer(asks, manifest, failure)
            if manifest is not None:
                await self.checkpointer.collect()

    def _answer(self, asks: list[_Ask], manifest: Manifest | None, failure: SnapshotFailed | None) -> None:
        for ask in asks:
            ask.answer(manifest, failure)
