"""moto's state, saved and restored service by service: the `Source` that the snapshotter reads from and writes to.

`dump(service)` writes, in the fork's child or between two commands,

    part "backend"   {"backends": [(place, attributes), ...], "tail": [...]}   everything that hangs on the service's backends
    part "store"     {name: value}                                             what moto keeps beside them (outside.py)

and returns the services that these refer to. `load(service)` reads them back by shells: every backend is made empty, then
filled in place, so that references resolve whichever service comes first.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

from holdfast.daemon.services.moto import backends, outside
from holdfast.daemon.services.moto.allowlist import moto_allow_list
from holdfast.daemon.services.moto.links import Loading, links
from holdfast.daemon.services.moto.pickling import Session, read

__all__ = ["BACKEND", "STORE", "MotoSource"]

BACKEND = "backend"
STORE = "store"


class MotoSource:
    """Implements `holdfast.snapshot.Source` for all of moto's services."""

    def __init__(self) -> None:
        moto_allow_list()  # read now: a forked child opens no files but images
        self._pid = os.getpid()
        self._session: Session | None = None
        self._links: dict[str, frozenset[str]] = {}
        self._held: dict[str, list[Any]] = {}

    # --- saving ------------------------------------------------------------------------------------------------------

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Dump several services of one state: what is learned about the links between them is learned once."""
        self._session = Session(self._links, self._held)
        try:
            yield
        finally:
            self._session = None

    def dump(self, service: str, open_part: Callable[[str], BinaryIO]) -> frozenset[str]:
        """Write the service's parts; returns the services it refers to. Raises `UnpicklableState` naming service and path."""
        session = self._session or Session(self._links, self._held)
        if os.getpid() != self._pid:
            self._session = session  # in a child nothing changes any more
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
        links.loading = Loading(links, lambda owner: Session(self._links, self._held).index(owner))
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield links.loading
        finally:
            self._hold(links.loading)
            links.loading = None
            if enabled:
                gc.enable()

    def load(self, service: str, parts: Mapping[str, bytes]) -> None:
        """Replace the service's state by an image's. Load what it links to in the same `loading()` block."""
        with self.loading():
            self._import(service)
            outside.prepare(service)
            outside.unsettle(service)
            image = read(service, parts[BACKEND])
            store = read(service, parts[STORE]) if STORE in parts else {}
            kept = set()
            for place, attributes in image["backends"]:
                kept.add(place)
                held = object.__getattribute__(backends.shell(backends.Place(*place)), "__dict__")
                held.clear()
                held.update(outside.unflatten(service, attributes))
            self._reset_backends(service, kept)
            outside.restore(service, store)
            backends.mark_loaded(service)

    def _import(self, service: str) -> None:
        """Import what the image will name, before it is read: importing leaves frames behind, and so references that the codec
        takes for the image's."""
        for each in (service, *self._links.get(service, ())):
            for key in backends.keys_of(each):
                backends.backend_dict(key)

    def _hold(self, loading: Loading) -> None:
        """Keep loaded objects alive that images of services not loaded yet may refer to, as those services would if they were."""
        waiting = {
            owner for service, linked in self._links.items() if not backends.is_loaded(service) for owner in linked
        }
        for (owner, _), obj in loading.shells.items():
            if owner in waiting:
                self._held.setdefault(owner, []).append(obj)
        for owner in self._held.keys() - waiting:
            del self._held[owner]

    def reset(self, service: str) -> None:
        """Give the service the state of a moto that was just started."""
        if backends.imported(service):
            outside.prepare(service)
        outside.unsettle(service)
        self._reset_backends(service, frozenset())
        outside.reset(service)
        backends.mark_loaded(service)

    def _reset_backends(self, service: str, kept: Iterable[tuple[str, str, str]]) -> None:
        """Start every backend over that is not in `kept`, in place: others may hold it."""
        for key, holder in backends.imported(service):
            for account, region, backend in list(backends.quiet_items(holder)):
                if (key, account, region) not in kept:
                    backends.start_over(backends.Place(key, account, region), backend)
