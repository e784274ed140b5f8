"""The loader: a service is read once, when it is first used, together with what it holds parts of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import pytest

from holdfast.daemon.bus import Bus
from holdfast.daemon.events import ServiceLoaded
from holdfast.daemon.loader import Loader


class Shelf:
    """Images that note when they are read; one can be broken."""

    def __init__(self) -> None:
        self.filled: list[str] = []
        self.broken = ""

    def read(self, service: str) -> Mapping[str, bytes]:
        if service == self.broken:
            raise OSError(f"{service} cannot be read")
        return {"backend": service.encode()}

    def fill(self, service: str, parts: Mapping[str, bytes]) -> None:
        assert parts == {"backend": service.encode()}
        self.filled.append(service)


def make(shelf: Shelf, bus: Bus | None = None) -> Loader:
    loader = Loader(bus or Bus(), read=shelf.read, fill=shelf.fill, aside=lambda *_: nullcontext())
    loader.offer(["a", "b", "c", "d"])
    return loader


def test_service_is_read_once_and_others_stay_stored() -> None:
    """Only what is used is read, and only once."""
    shelf = Shelf()
    loader = make(shelf)
    loader.load("a")
    loader.load("a")
    loader.load("unknown")
    assert shelf.filled == ["a"]
    assert loader.stored == {"b", "c", "d"}


def test_linked_services_come_along_in_circles_too() -> None:
    """What a service holds parts of is there when it is, however long the chain and even if it leads back."""
    shelf = Shelf()
    loader = make(shelf)
    loader.link({"a": ["b"], "b": ["c"], "c": ["a"]})
    loader.load("b")
    assert sorted(shelf.filled) == ["a", "b", "c"]
    assert loader.linked("a") == {"b", "c"}
    assert loader.linked("d") == frozenset()


def test_unreadable_image_stays_stored_and_is_reported() -> None:
    """An image that cannot be read is never taken for an empty service: the error is raised, each time."""
    shelf = Shelf()
    shelf.broken = "a"
    loader = make(shelf)
    for _ in range(2):
        with pytest.raises(OSError, match="a cannot be read"):
            loader.load("a")
    assert "a" in loader.stored


def test_loaded_services_are_told_on_the_bus() -> None:
    """Viewers see which service came into memory."""
    bus = Bus()
    with bus.subscribe(ServiceLoaded) as viewer:
        loader = make(Shelf(), bus)
        loader.load_all()
        assert viewer.dropped == 0
    assert loader.stored == frozenset()
