"""The event bus: services and the executor publish, viewers and the snapshotter listen, nobody waits for anybody.

Two ways to listen, by what the listener needs (DESIGN section 3):

- a *viewer* (dashboard, metrics, a long poll) has a bounded queue; when it falls behind, the oldest events go and are counted;
- the *snapshotter* reads `dirty`, a map from service to the last LSN that changed it. It is coalesced, so however long a
  checkpoint takes it can miss nothing and it blocks nobody.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio

from holdfast.daemon.events import Event, StateDirty

__all__ = ["EVENTS_MAX", "Bus", "Viewer"]

EVENTS_MAX = 1024
"""Events that a viewer may lag behind before it loses the oldest: a second of a busy daemon, 100 KB at most."""


class Viewer(AsyncIterator[Event]):
    """One listener's queue: iterate it; `dropped` counts what it was too slow for."""

    def __init__(self, kinds: tuple[type[Event], ...], limit: int, service: str | None) -> None:
        self._kinds = kinds
        self._service = service
        self._events: deque[Event] = deque(maxlen=limit)
        self._arrived = anyio.Event()
        self.dropped = 0

    def offer(self, event: Event) -> None:
        """Take `event` if it is of a kind, and about the service, that this viewer asked for; never blocks."""
        if not isinstance(event, self._kinds):
            return
        if self._service is not None and getattr(event, "service", None) != self._service:
            return
        if len(self._events) == self._events.maxlen:
            self.dropped += 1
        self._events.append(event)
        self._arrived.set()

    async def wait(self, timeout_s: float = math.inf) -> bool:
        """Wait until an event is there; False when `timeout_s` passed first."""
        with anyio.move_on_after(timeout_s):
            while not self._events:
                self._arrived = anyio.Event()
                await self._arrived.wait()
        return bool(self._events)

    def clear(self) -> None:
        """Forget what has arrived so far."""
        self._events.clear()

    async def __anext__(self) -> Event:
        await self.wait()
        return self._events.popleft()


class Bus:
    """Publish and subscribe on the event loop's thread."""

    def __init__(self) -> None:
        self._viewers: list[Viewer] = []
        self.dirty: dict[str, int] = {}

    def publish(self, event: Event) -> None:
        """Hand `event` to every viewer. Never blocks, never raises, runs nobody's code but the queues' own."""
        if type(event) is StateDirty:
            self.dirty[event.service] = event.lsn
        for viewer in self._viewers:
            viewer.offer(event)

    @contextmanager
    def subscribe(self, *kinds: type[Event], limit: int = EVENTS_MAX, service: str | None = None) -> Iterator[Viewer]:
        """A viewer of the given kinds of event, of those about one `service` if given, for as long as the block lasts."""
        viewer = Viewer(kinds or (Event,), limit, service)
        self._viewers.append(viewer)
        try:
            yield viewer
        finally:
            self._viewers.remove(viewer)

    def take_dirty(self) -> dict[str, int]:
        """The services changed since the last call, each with the last LSN that changed it; they count as clean from here on."""
        taken, self.dirty = self.dirty, {}
        return taken

    def give_back(self, dirty: dict[str, int]) -> None:
        """Mark services dirty again whose checkpoint failed; what has changed since keeps its later LSN."""
        self.dirty = {**dirty, **self.dirty}
