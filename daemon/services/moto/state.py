"""moto's state, saved and restored service by service: the `Source` that the snapshotter reads from and writes to.

`dump(service)` writes, in the fork's child or between two commands,

    part "backend"   {"backends": [(place, attributes), ...], "tail": [...]}   everything that hangs on the service's backends
    part "store"     {name: value}                                             what moto keeps beside them (outside.py)

and returns the services that these refer to. `load(service)` reads them back by shells: every backend is made empty, then
filled in place, so that references resolve whichever service comes first.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

from holdfast.daemon.services.moto import backends, outside
from holdfast.daemon.services.moto.links import Loading, links
from holdfast.daemon.services.moto.pickling import Session, read

__all__ = ["BACKEND", "STORE", "MotoSource", "forget_instances"]

BACKEND = "backend"
STORE = "store"


class MotoSource:
    """Implements `holdfast.snapshot.Source` for all of moto's services."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._links: dict[str, frozenset[str]] = {}

    # --- saving ------------------------------------------------------------------------------------------------------

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Dump several services of one state: what is learned about the links between them is learned once."""
        self._session = Session(self._links)
        try:
            yield
        finally:
            self._session = None

    def dump(self, service: str, open_part: Callable[[str], BinaryIO]) -> frozenset[str]:
        """Write the service's parts; returns the services it refers to. Raises `UnpicklableState` naming service and path."""
        session = self._session or Session(self._links)
        with open_part(BACKEND) as file:
            linked = session.write(service, file)
        with open_part(STORE) as file:
            linked |= session.write_store(service, file)
        return frozenset(linked)

    def noted(self, service: str, linked: Iterable[str]) -> None:
        """Note which services the image of `service` that is now in use refers to (its manifest entry's links)."""
        self._links[service] = frozenset(linked)

    # --- loading -----------------------------------------------------------------------------------------------------

    @contextmanager
    def loading(self) -> Iterator[Loading]:
        """Load several images as one: an object that two of them share is one object, whichever comes first."""
        if links.loading is not None:
            yield links.loading
            return
        links.loading = Loading(links, lambda owner: Session(self._links).index(owner))
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield links.loading
        finally:
            links.loading = None
            if enabled:
                gc.enable()
            forget_instances()

    def load(self, service: str, parts: Mapping[str, bytes]) -> None:
        """Replace the service's state by an image's. Load what it links to in the same `loading()` block."""
        with self.loading():
            image = read(service, parts[BACKEND])
            store = read(service, parts[STORE]) if STORE in parts else {}
            kept = set()
            for place, attributes in image["backends"]:
                kept.add(place)
                held = object.__getattribute__(backends.shell(backends.Place(*place)), "__dict__")
                held.clear()
                held.update(attributes)
            self._reset_backends(service, kept)
            outside.restore(service, store)
            backends.mark_loaded(service)

    def reset(self, service: str) -> None:
        """Give the service the state of a moto that was just started."""
        self._reset_backends(service, frozenset())
        outside.reset(service)
        backends.mark_loaded(service)
        forget_instances()

    def _reset_backends(self, service: str, kept: Iterable[tuple[str, str, str]]) -> None:
        """Start every backend over that is not in `kept`, in place: others may hold it."""
        for key, holder in backends.imported(service):
            for account, region, backend in list(backends.quiet_items(holder)):
                if (key, account, region) not in kept:
                    backends.start_over(backends.Place(key, account, region), backend)


def forget_instances() -> None:
    """Empty the lists in which moto keeps every model object ever made; nothing that is served reads them. Call it regularly."""
    from moto.core.model_instances import reset_model_data

    reset_model_data()
