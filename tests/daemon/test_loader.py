"""The loader: a service is read once, when it is first used, together with what it holds parts of."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from holdfast.daemon.bus import Bus
from holdfast.daemon.events import ServiceLoaded
from holdfast.daemon.loader import Loader


class Shelf:
    """Images that note when they are read; one can be broken."""

    def __init__(self) -> None:
        self.services = frozenset("abcd")
        self.loaded: set[str] = set()
        self.reads: list[str] = []
        self.broken = ""

    def load(self, service: str) -> tuple[str, ...]:
        self.reads.append(service)
        if service == self.broken:
            raise OSError(f"{service} cannot be read")
        self.loaded.add(service)
        return (service,)


def make(shelf: Shelf, bus: Bus | None = None) -> Loader:
    return Loader(bus or Bus(), shelf, aside=lambda *_: nullcontext())


def test_service_is_read_once_and_others_stay_stored() -> None:
    """Only what is used is read, and only once; what the checkpoint does not hold is not asked for."""
    shelf = Shelf()
    loader = make(shelf)
    for service in ("a", "a", "unknown"):
        loader.load(service)
    assert shelf.reads == ["a"]
    assert loader.stored == {"b", "c", "d"}


def test_without_a_checkpoint_nothing_is_stored() -> None:
    """A fresh volume, or none at all, has nothing to load."""
    loader = Loader(Bus(), None, aside=lambda *_: nullcontext())
    loader.load("a")
    loader.load_all()
    loader.forget("a")
    assert loader.stored == frozenset()


def test_unreadable_image_stays_stored_and_is_reported() -> None:
    """An image that cannot be read is never taken for an empty service: the error is raised, each time."""
    shelf = Shelf()
    shelf.broken = "a"
    loader = make(shelf)
    for _ in range(2):
        with pytest.raises(OSError, match="a cannot be read"):
            loader.load("a")
    assert "a" in loader.stored


def test_reset_service_is_not_brought_back() -> None:
    """What was reset is not read from its old image when it is next used."""
    shelf = Shelf()
    loader = make(shelf)
    loader.forget("b")
    loader.load("b")
    assert shelf.reads == []


async def _told(loader: Loader, bus: Bus) -> list[object]:
    with bus.subscribe(ServiceLoaded) as viewer:
        loader.load_all()
        return [await anext(viewer) for _ in range(4)]


@pytest.mark.anyio
async def test_loaded_services_are_told_on_the_bus() -> None:
    """Viewers see which service came into memory."""
    bus = Bus()
    assert await _told(make(Shelf(), bus), bus) == [ServiceLoaded(service) for service in "abcd"]


def test_links_are_followed_in_circles_too() -> None:
    """What a service holds parts of is found however long the chain is, and even if it leads back."""
    loader = make(Shelf())
    loader.link({"a": ["b"], "b": ["c"], "c": ["a"]})
    assert loader.linked("a") == {"b", "c"}
    assert loader.linked("d") == frozenset()
