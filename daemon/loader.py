"""The loader: brings services from the checkpoint into memory, each when it is first used.

Laziness is for images only (DESIGN section 5): a service that is not loaded has no pending changes, so loading it in the middle
of a command only fills in data. What a loaded service holds of another must be there too, so loading follows the links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import structlog

from holdfast.daemon.bus import Bus
from holdfast.daemon.events import ServiceLoaded

__all__ = ["Images", "Loader"]

log = structlog.get_logger(__name__)


class Images(Protocol):
    """Services that lie in images (holdfast.snapshot.Restore)."""

    loaded: set[str]

    @property
    def services(self) -> frozenset[str]:
        """All that the checkpoint holds."""

    def load(self, service: str) -> tuple[str, ...]:
        """Load a service and what it refers to, as far as that is not loaded; returns what was."""


class Loader:
    """Which services are still to be loaded, and which hold parts of which.

    `aside` is the context in which loading happens, so that a command which happens to be the first to touch a service draws
    what it would have drawn anyway; `together` is held around services that are loaded as one, since they hold parts of one
    another.
    """

    def __init__(
        self,
        bus: Bus,
        images: Images | None,
        *,
        aside: Callable[[str, str], AbstractContextManager[None]],
        together: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._bus = bus
        self._images = images
        self._aside = aside
        self._together = together
        self._links: dict[str, frozenset[str]] = {}

    @property
    def stored(self) -> frozenset[str]:
        """Services of the checkpoint that were not needed so far."""
        return self._images.services - self._images.loaded if self._images is not None else frozenset()

    def load(self, service: str) -> None:
        """Bring `service`, and all it is linked to, into memory, if it is not there. Raises what reading the image raises."""
        if self._images is None or service in self._images.loaded or service not in self._images.services:
            return
        with self._aside("load", service), self._together():
            loaded = self._images.load(service)
        for each in loaded:
            self._bus.publish(ServiceLoaded(each))
        log.debug("loaded from images", services=loaded)

    def load_all(self) -> None:
        """Bring everything into memory."""
        for service in sorted(self.stored):
            self.load(service)

    def forget(self, service: str) -> None:
        """The image of `service` is not wanted any more: it was reset."""
        if self._images is not None:
            self._images.loaded.add(service)

    def link(self, links: Mapping[str, Iterable[str]]) -> None:
        """Each of these services holds parts of the others named beside it."""
        for service, others in links.items():
            self._links[service] = frozenset(others)

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
