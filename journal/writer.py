"""The writer: gathers what commands append, commits it in batches, and wakes those who wait for it.

Group commit. `append` only packs and queues. Once per turn of the event loop the whole queue becomes one batch: one
joined write, one sync for all that wait. While syncs are fast the batch is committed right there, on the loop; when
they are not (smoothed, see `JournalOptions.inline_sync_max_s`), or when the batch is large or needs a new segment, it
goes to a dedicated thread, and what is appended meanwhile is the next batch. The lane is chosen for each batch, only
while none is in flight: the file has one writer.

Waiters have a future each, so that one that is cancelled harms no other; its record stays where it is.

Fail-stop. The first error of a write or sync is final: every waiter gets it, and nothing is acknowledged any more.
Trying again would be wrong: after a failed sync the kernel marks the pages clean, and the next sync succeeds without
having written them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial

from holdfast.journal.appender import Appender
from holdfast.journal.errors import JournalFailed
from holdfast.journal.lane import LaneThread
from holdfast.journal.options import JournalOptions, Lane, SyncMode

__all__ = ["Writer"]

SMOOTHING = 1 / 8
"""Weight of the newest sync in the smoothed time: one outlier costs about twenty batches on the thread, a slow disk keeps it."""

INLINE_AGAIN = 0.8
"""Of the limit: below this the loop takes syncs back from the thread, so that the lane does not flutter around the limit."""


class Writer:
    """The loop's side of the journal. Belongs to the thread of the event loop that is running when it is made."""

    def __init__(self, appender: Appender, sync: SyncMode, options: JournalOptions) -> None:
        self.sync = sync
        self.failure: JournalFailed | None = None
        self.last_lsn = self.durable_lsn = self.written_lsn = appender.next_lsn - 1
        self.lane = Lane.INLINE
        self.sync_s = 0.0
        self.batch_records = 0.0
        self.on_durable: list[Callable[[int], None]] = []
        self.on_synced: list[Callable[[int], None]] = []
        self.on_failure: list[Callable[[JournalFailed], None]] = []
        self._loop = asyncio.get_running_loop()
        self._thread = LaneThread(self._loop)
        self._appender = appender
        self._options = options
        self._queue: list[bytes] = []
        self._queue_bytes = 0
        self._flight_bytes = 0
        self._scheduled = False
        self._committing = False
        self._syncing = False
        self._stopped = False
        self._told_synced_lsn = appender.synced_lsn
        self._unsynced_since_s: float | None = None
        self._written_since_s: float | None = None
        self._sync_asked_lsn = 0
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._waiters: dict[int, list[asyncio.Future[None]]] = {}
        self._sync_waiters: dict[int, list[asyncio.Future[None]]] = {}

    @property
    def synced_lsn(self) -> int:
        """The highest LSN that a sync covers."""
        return self._told_synced_lsn

    @property
    def pending_bytes(self) -> int:
        """Bytes appended but not known to be written."""
        return self._queue_bytes + self._flight_bytes

    def append(self, packed: bytes, lsn_count: int) -> int:
        """Queue a packed record that takes `lsn_count` LSNs, 0 or 1; returns the last LSN now. Raises JournalFailed."""
        self.refuse_if_failed()
        assert not self._stopped, "the journal has been left"
        self._queue.append(packed)
        self._queue_bytes += len(packed)
        self.last_lsn += lsn_count
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)
        return self.last_lsn

    async def durable(self, lsn: int) -> None:
        """Return when `lsn` may be acknowledged in this sync mode; raises JournalFailed."""
        if lsn > self.durable_lsn and self.sync is not SyncMode.OFF:
            await self._wait(self._waiters, lsn)

    async def synced(self, lsn: int) -> None:
        """Return when `lsn` has been synced, in every mode; raises JournalFailed."""
        if lsn > self.synced_lsn:
            self._sync_asked_lsn = max(self._sync_asked_lsn, lsn)
            self._schedule()
            await self._wait(self._sync_waiters, lsn)

    def refuse_if_failed(self) -> None:
        """Raise JournalFailed after a failure."""
        if self.failure is not None:
            raise self._refusal()

    def stop(self) -> None:
        """Commit what is queued, sync, and seal; or, after a failure, close the file as it is. Blocks."""
        self._thread.drain()
        self._stopped = True
        for timer in (self._timer, self._idle):
            if timer is not None:
                timer.cancel()
        if self.failure is None:
            try:
                self._commit_rest()
            except Exception as error:  # as in a batch: whatever it is, what is queued is not durable
                self._fail(error)
        self._thread.stop()
        if self.failure is not None:
            self._appender.abandon()

    # One turn of the loop.

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._committing or self._stopped or self.failure is not None:
            return
        if self._queue:
            self._commit()
        if not self._committing and not self._syncing and self._sync_asked_lsn > self.synced_lsn:
            self._sync_on_thread()

    def _commit(self) -> None:
        sync = self.sync is SyncMode.ALWAYS
        inline = self._goes_inline(sync)
        if not inline and self._syncing:
            return  # the thread is at a sync of its own; its end comes back here
        records, self._queue = self._queue, []
        self._flight_bytes, self._queue_bytes = self._queue_bytes, 0
        self.batch_records += (len(records) - self.batch_records) * SMOOTHING
        lsn = self.last_lsn
        commit = partial(self._appender.commit, records, sync=sync)
        if not inline:
            self.lane = Lane.THREAD
            self._committing = True
            self._thread.submit(commit, partial(self._committed, lsn))
            return
        self.lane = Lane.INLINE
        try:
            sync_s = commit()
        except Exception as error:  # a commit that raised, whatever it raised, may have left half a group behind
            self._fail(error)
        else:
            self._committed(lsn, sync_s, None)

    def _goes_inline(self, sync: bool) -> bool:
        """The lane for the next batch: the thread for what would hold the loop up."""
        if self._options.lane is not Lane.AUTO:
            return self._options.lane is Lane.INLINE and not self._syncing
        if not self._appender.fits(self._queue_bytes) or self._queue_bytes > self._options.inline_bytes_max:
            return False
        if not sync:
            return True
        limit_s = self._options.inline_sync_max_s
        return self.sync_s <= (limit_s if self.lane is Lane.INLINE else limit_s * INLINE_AGAIN)

    def _committed(self, lsn: int, sync_s: float, error: Exception | None) -> None:
        self._committing = False
        self._flight_bytes = 0
        if error is not None:
            self._fail(error)
            return
        self.written_lsn = lsn
        now_s = time.perf_counter()
        if self._appender.synced_lsn >= lsn:
            self._unsynced_since_s = None
        else:
            self._unsynced_since_s = self._unsynced_since_s or now_s
            self._written_since_s = self._written_since_s or now_s
        if sync_s:
            self.sync_s += (sync_s - self.sync_s) * SMOOTHING
        self._advance(now_s)
        self._go_on()

    def _sync_on_thread(self) -> None:
        self._syncing = True
        self._written_since_s = None
        self._thread.submit(self._appender.sync, self._synced)

    def _synced(self, sync_s: float, error: Exception | None) -> None:
        self._syncing = False
        if error is not None:
            self._fail(error)
            return
        self.sync_s += (sync_s - self.sync_s) * SMOOTHING
        # What was written while the sync ran is not covered by it, and is as old as its first byte.
        self._unsynced_since_s = self._written_since_s if self._appender.synced_lsn < self.written_lsn else None
        self._advance(time.perf_counter())
        self._go_on()

    def _go_on(self) -> None:
        """See to what comes next: the queue, the sync that is due, the watermark of an idle queue."""
        if self._stopped:
            return
        if self._queue or self._sync_asked_lsn > self.synced_lsn:
            self._schedule()
        if self.sync is SyncMode.INTERVAL and self._unsynced_since_s is not None and self._timer is None:
            due_s = self._unsynced_since_s + self._options.sync_interval_s - time.perf_counter()
            self._timer = self._loop.call_later(max(due_s, 0.0), self._interval_over)
        if self._idle is None and self._appender.marked_lsn < self.synced_lsn:
            self._idle = self._loop.call_later(self._options.idle_mark_s, self._mark_if_idle)

    def _interval_over(self) -> None:
        self._timer = None
        if self.failure is None and self._unsynced_since_s is not None:
            self._sync_asked_lsn = max(self._sync_asked_lsn, self.written_lsn)
            self._schedule()

    def _mark_if_idle(self) -> None:
        """Protect the last acknowledged group by a watermark, once no other group is about to."""
        self._idle = None
        if self.failure is not None or self._committing or self._syncing or self._queue:
            return
        try:
            self._appender.mark()
        except OSError as error:
            self._fail(error)

    def _commit_rest(self) -> None:
        while self._queue and self.failure is None:
            records, self._queue = self._queue, []
            self._queue_bytes = 0
            self._committed(self.last_lsn, self._appender.commit(records, sync=True), None)
        self._appender.close()
        self._advance(time.perf_counter())

    # Those who wait.

    async def _wait(self, waiters: dict[int, list[asyncio.Future[None]]], lsn: int) -> None:
        self.refuse_if_failed()
        assert lsn <= self.last_lsn, "nobody can wait for a record that was not appended"
        future = self._loop.create_future()
        waiters.setdefault(lsn, []).append(future)
        await future

    def _advance(self, now_s: float) -> None:
        """Release those whose records got far enough."""
        synced_lsn = self._appender.synced_lsn
        if synced_lsn > self._told_synced_lsn:
            before, self._told_synced_lsn = self._told_synced_lsn, synced_lsn
            _release(self._sync_waiters, before, synced_lsn)
            for listener in self.on_synced:
                listener(synced_lsn)
        durable_lsn = max(self._acknowledged(now_s), self.durable_lsn)
        if durable_lsn > self.durable_lsn:
            before, self.durable_lsn = self.durable_lsn, durable_lsn
            _release(self._waiters, before, durable_lsn)
            for listener in self.on_durable:
                listener(durable_lsn)

    def _acknowledged(self, now_s: float) -> int:
        if self.sync is SyncMode.ALWAYS:
            return self._told_synced_lsn
        if self.sync is SyncMode.INTERVAL and self._unsynced_since_s is not None:
            overdue = now_s - self._unsynced_since_s > self._options.loss_bound_s
            return self._told_synced_lsn if overdue else self.written_lsn
        return self.written_lsn

    def _fail(self, error: Exception) -> None:
        """Fail-stop, once and for all."""
        if self.failure is not None:
            return
        self.failure = JournalFailed(f"the journal could not be written and is closed for good: {error}")
        self.failure.__cause__ = error
        for waiting in (*self._waiters.values(), *self._sync_waiters.values()):
            _refuse(waiting, self._refusal)
        self._waiters.clear()
        self._sync_waiters.clear()
        for listener in self.on_failure:
            listener(self.failure)

    def _refusal(self) -> JournalFailed:
        """The failure for one more raise: an exception of its own, since each raise adds its traceback."""
        assert self.failure is not None
        refusal = JournalFailed(str(self.failure))
        refusal.__cause__ = self.failure.__cause__
        return refusal


def _release(waiters: dict[int, list[asyncio.Future[None]]], before_lsn: int, lsn: int) -> None:
    """Wake those who wait for an LSN in (before_lsn, lsn], in order."""
    if not waiters:
        return
    for reached in range(before_lsn + 1, lsn + 1):
        for future in waiters.pop(reached, ()):
            if not future.done():
                future.set_result(None)


def _refuse(futures: Iterable[asyncio.Future[None]], refusal: Callable[[], JournalFailed]) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(refusal())
