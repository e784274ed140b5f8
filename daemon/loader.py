"""The loader: brings services from their images into memory, each when it is first used.

Laziness is for images only (DESIGN section 5): a service that is not loaded has no pending changes, so loading it in the middle
of a command only fills in data. What a loaded service holds of another must be there too, so loading follows the links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

import structlog

from holdfast.daemon.bus import Bus
from holdfast.daemon.events import ServiceLoaded

__all__ = ["Loader"]

log = structlog.get_logger(__name__)


class Loader:
    """Services that lie in images, and the links between services.

    `read` gives the parts of a service's image, verified; `fill` puts them into memory; `aside` is the context in which that
    happens, so that a command which happens to be the first to touch a service draws what it would have drawn anyway; `together`
    is held around services that are loaded as one, because they hold parts of one another.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        read: Callable[[str], Mapping[str, bytes]],
        fill: Callable[[str, Mapping[str, bytes]], None],
        aside: Callable[[str, str], AbstractContextManager[None]],
        together: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._bus = bus
        self._read = read
        self._fill = fill
        self._aside = aside
        self._together = together
        self._stored: set[str] = set()
        self._links: dict[str, frozenset[str]] = {}

    def offer(self, stored: Iterable[str]) -> None:
        """These services have an image that is not in memory yet."""
        self._stored.update(stored)

    def link(self, links: Mapping[str, Iterable[str]]) -> None:
        """Each of these services holds parts of the others named beside it."""
        for service, others in links.items():
            self._links[service] = frozenset(others)

    @property
    def stored(self) -> frozenset[str]:
        """Services whose image was not needed so far."""
        return frozenset(self._stored)

    def load(self, service: str) -> None:
        """Bring `service`, and all it is linked to, into memory, if it is not there. Raises what reading the image raises."""
        wanted = [each for each in (service, *sorted(self.linked(service))) if each in self._stored]
        if not wanted:
            return
        self._stored.difference_update(wanted)
        try:
            with self._aside("load", service), self._together():
                for each in wanted:
                    self._fill(each, self._read(each))
        except BaseException:
            self._stored.update(wanted)
            raise
        for each in wanted:
            self._bus.publish(ServiceLoaded(each))
        log.debug("loaded from images", services=wanted)

    def load_all(self) -> None:
        """Bring everything into memory."""
        for service in sorted(self._stored):
            self.load(service)

    def forget(self, service: str) -> None:
        """The image of `service` is not wanted any more: it was reset."""
        self._stored.discard(service)

    def linked(self, service: str) -> frozenset[str]:
        """The services of which `service` holds parts, theirs included: a change to it may have changed them."""
        seen: set[str] = set()
        waiting = [service]
        while waiting:
            for other in self._links.get(waiting.pop(), ()):
                if other not in seen and other != service:
                    seen.add(other)
                    waiting.append(other)
        return frozenset(seen)
