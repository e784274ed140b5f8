"""The executor: runs commands one after another, and is the only place where state changes.

The life of a request here (DESIGN, promises 1 and 8):

1. admission: journal space for its record is reserved, a large body is made durable as a blob; otherwise nothing is executed;
2. its turn: commands run in one order, whichever of the two lanes they take: inline on the event loop, or, if known to be slow,
   on one worker thread while no other command starts;
3. execution under the command's clock and seed, then at once, with no await between, the append to the journal: journal order
   is execution order, and a cancelled client leaves a whole command behind;
4. the reply waits until the highest LSN that the request can have seen is durable, for reads too.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import anyio
import structlog
from anyio import CancelScope, to_thread

from holdfast.daemon.bus import Bus
from holdfast.daemon.command import Command, Reply, Request
from holdfast.daemon.events import StateDirty
from holdfast.daemon.services.determinism import Determinism
from holdfast.daemon.services.moto.classification import changes_state
from holdfast.daemon.services.moto.credentials import access_key_of, last_used_due
from holdfast.journal import BlobStore, Journal, JournalError, Kind, MemoryJournal

__all__ = ["BODY_INLINE_MAX_BYTES", "Backend", "Executor", "Outcome", "Unavailable"]

BODY_INLINE_MAX_BYTES = 256 * 1024
"""A larger body is stored once as a blob and named by its digest in the record (DESIGN section 4)."""

RECORD_OVERHEAD_BYTES = 16 * 1024
"""Reserved for a record beside request line, headers and body: names, digest, and a tape of up to six RSA-2048 keys."""

HELD_MAX_S = 0.020
"""An operation that holds the event loop for longer belongs on the executor thread: `held_s` lists those that did."""

log = structlog.get_logger(__name__)


class Unavailable(Exception):
    """Raised when a request was refused before anything was executed, or cannot be acknowledged. The text says why."""


class Backend(Protocol):
    """What the executor runs commands on: moto's dispatch, or a fake."""

    def ready(self, service: str) -> bool:
        """True when `service` can run a command without stalling for imports."""

    def slow(self, request: Request) -> bool:
        """True when `request` would hold the event loop for more than 20 ms."""

    def prepare(self, service: str) -> None:
        """Import and set up `service`; raises UnknownService."""

    def __call__(self, request: Request) -> Reply:
        """Run `request` now, on this thread."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running a command gave: the reply, the command as it would be recorded, and whether it may have changed state."""

    reply: Reply
    command: Command
    changed: bool


class Executor:
    """One order, one writer of state.

    `failure` makes the AWS-shaped reply for whatever a backend raises. `links` says which services hold on to parts of which:
    a change through such a hold makes them dirty too. `settled` is what a changing command waits for beyond the journal (the
    flush under ON_REQUEST).
    """

    def __init__(
        self,
        backend: Backend,
        determinism: Determinism,
        journal: Journal | MemoryJournal,
        bus: Bus,
        *,
        failure: Callable[[Request, Exception], Reply],
        blobs: BlobStore | None = None,
        links: Callable[[str], Iterable[str]] = lambda _: (),
    ) -> None:
        self._backend = backend
        self._determinism = determinism
        self._journal = journal
        self._bus = bus
        self._blobs = blobs
        self._failure = failure
        self._links = links
        self._lane = anyio.Lock(fast_acquire=True)
        self._thread = anyio.CapacityLimiter(1)
        self._touched: set[str] = set()
        self._ticked = False
        self._started_us = 0
        self._last_lsn: dict[str, int] = {}
        self.settled: Callable[[int], Awaitable[None]] | None = None
        self.commands = 0
        self.held_s: dict[str, float] = {}

    def touch(self, service: str) -> None:
        """Note that the running command reached `service`: called by the backend's hooks."""
        self._touched.add(service)

    def tick(self) -> None:
        """Note that looking at a resource moved its life cycle: the running command changed state, whatever its name."""
        self._ticked = True

    @property
    def busy_since_us(self) -> int:
        """When the running command started by the real clock, 0 when none runs: the watchdog looks at it."""
        return self._started_us

    async def run(self, request: Request) -> Reply:
        """Execute `request` in its turn and return its reply once that may be acknowledged.

        Raises Unavailable when it was refused (nothing was executed) or when the journal failed for good, and UnknownService
        when there is no such service.
        """
        changing = changes_state(request)
        body_blob = b""
        if changing and len(request.body) > BODY_INLINE_MAX_BYTES and self._blobs is not None:
            body_blob = await self._keep(request.body)
        try:
            async with self._lane:
                await self._prepare(request.service)
                if changing:
                    self._admit(request)
                if self._backend.slow(request):
                    with CancelScope(shield=True):
                        outcome = await to_thread.run_sync(self._execute, request, changing, limiter=self._thread)
                        lsn = self._record(outcome, body_blob)
                else:
                    outcome = self._inline(request, changing)
                    lsn = self._record(outcome, body_blob)
            await self._acknowledge(outcome, lsn)
        finally:
            if body_blob and self._blobs is not None:
                self._blobs.unpin(body_blob)
        return outcome.reply

    @asynccontextmanager
    async def boundary(self) -> AsyncIterator[None]:
        """A moment between two commands: none runs while the block lasts."""
        async with self._lane:
            yield

    async def rerun(self, command: Command) -> Outcome:
        """Run a recorded command again under its own clock, seed and tape; nothing is journalled. For recovery only."""
        async with self._lane:
            if not self._backend.ready(command.request.service):
                self._import(command.request.service)
            self._touched.clear()
            outcome = self._under(command.request, command.clock_us, command.seed, command.tape, changing=True)
        self.commands += 1
        return outcome

    async def prepare(self, service: str) -> None:
        """Import `service` ahead of its first request. Raises UnknownService."""
        async with self._lane:
            await self._prepare(service)

    def replayed(self, outcome: Outcome, lsn: int) -> None:
        """Mark what a command that was run again touched as changed at `lsn`, as it was when it ran live."""
        self._mark(outcome.command.touched, lsn)

    def _admit(self, request: Request) -> None:
        """Make sure that the record will find room; what is reserved holds while the lane is ours, since nobody else appends."""
        size = (
            len(request.target) + sum(len(name) + len(value) for name, value in request.headers) + RECORD_OVERHEAD_BYTES
        )
        size += min(len(request.body), BODY_INLINE_MAX_BYTES)
        try:
            self._journal.reserve(size)
        except JournalError as error:
            raise Unavailable(str(error)) from error

    async def _keep(self, body: bytes) -> bytes:
        """Store a large body before the command that carries it; it stays pinned until the command is durable."""
        assert self._blobs is not None
        try:
            return await to_thread.run_sync(self._pinned, body)
        except OSError as error:
            raise Unavailable(f"the request's body could not be stored: {error}") from error

    def _pinned(self, body: bytes) -> bytes:
        assert self._blobs is not None
        return self._blobs.put(body, pin=True)

    async def _prepare(self, service: str) -> None:
        """Import a service on the worker thread, before its first command: it takes up to 1.5 s, and the loop goes on."""
        if not self._backend.ready(service):
            with CancelScope(shield=True):
                await to_thread.run_sync(self._import, service, limiter=self._thread)

    def _import(self, service: str) -> None:
        with self._determinism.aside("prepare", service):
            self._backend.prepare(service)
        # Modules stay for good: looking through 200 MB of them for garbage held the loop for 150 ms, again and again.
        gc.freeze()

    def _inline(self, request: Request, changing: bool) -> Outcome:
        """Execute on the event loop, and note the operation if it held the loop for longer than it should."""
        began = time.perf_counter()
        outcome = self._execute(request, changing)
        held_s = time.perf_counter() - began
        if held_s > HELD_MAX_S:
            operation = f"{request.service}:{request.operation}"
            self.held_s[operation] = max(held_s, self.held_s.get(operation, 0.0))
        return outcome

    def _execute(self, request: Request, changing: bool) -> Outcome:
        clock_us = self._determinism.next_clock_us()
        self._touched.clear()
        self._ticked = False
        self._started_us = clock_us
        changing = changing or last_used_due(access_key_of(request), clock_us)
        try:
            return self._under(request, clock_us, int.from_bytes(os.urandom(8), "little"), None, changing=changing)
        finally:
            self._started_us = 0
            self.commands += 1

    def _under(
        self, request: Request, clock_us: int, seed: int, tape: tuple[bytes, ...] | None, *, changing: bool
    ) -> Outcome:
        with self._determinism.command(clock_us, seed, tape) as keys:
            try:
                reply = self._backend(request)
            except Exception as error:  # whatever a service raises is that service's reply, and is journalled
                log.exception("a service raised", service=request.service, operation=request.operation)
                reply = self._failure(request, error)
        changed = changing or self._ticked
        command = Command(
            request,
            clock_us,
            seed,
            keys.recorded if tape is None else tape,
            tuple(sorted(self._touched)),
            reply.status,
            reply.digest() if changed else b"",
        )
        return Outcome(reply, command, changed)

    def _record(self, outcome: Outcome, body_blob: bytes) -> int:
        """Append a changing command to the journal and tell the bus; returns the highest LSN that the reply can have seen."""
        if not outcome.changed:
            return self._journal.last_lsn
        command = outcome.command
        if body_blob:
            command = replace(command, body_blob=body_blob)
        request = command.request
        lsn = self._journal.append(
            Kind.COMMAND,
            request.service,
            request.operation,
            command.clock_us * 1000,
            command.pack(),
            (body_blob,) if body_blob else (),
        )
        self._mark(command.touched, lsn)
        return lsn

    def _mark(self, touched: Iterable[str], lsn: int) -> None:
        dirty = set(touched)
        for service in touched:
            dirty.update(self._links(service))
        for service in dirty:
            self._last_lsn[service] = lsn
            self._bus.publish(StateDirty(service, lsn))

    async def _acknowledge(self, outcome: Outcome, lsn: int) -> None:
        journal = self._journal
        if journal.failure is not None and not outcome.changed:
            # After a failed sync reads go on, but only of services whose last change is durable: nobody acts on what may vanish.
            lsn = max((self._last_lsn.get(service, 0) for service in outcome.command.touched), default=0)
            if lsn <= journal.durable_lsn:
                return
        try:
            await journal.durable(lsn)
        except JournalError as error:
            raise Unavailable(str(error)) from error
        if outcome.changed and self.settled is not None:
            await self.settled(lsn)
