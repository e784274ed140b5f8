"""One cut's pickling: what each service's graph holds, what it refers to, and the bytes.

A `Session` is one look at state that does not change meanwhile (a fork's child, or the parent between two commands). It
remembers what each service's own graph reaches, so that every dump of the cut agrees on what is a reference.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from holdfast.daemon.services.moto import backends, outside, reducers
from holdfast.daemon.services.moto.allowlist import moto_allow_list
from holdfast.daemon.services.moto.kinds import Kind, kind_of
from holdfast.daemon.services.moto.links import CrossServiceError, define, links, listed_class, parts_of, shared
from holdfast.snapshot.allowlist import Use
from holdfast.snapshot.codec import Codec
from holdfast.snapshot.errors import NotPicklable
from holdfast.snapshot.reducers import Reducer

__all__ = ["Session", "UnpicklableState", "read"]

RECURSION_MAX = 20_000
"""Pickle calls itself three times for each object that holds the next: Python's 1,000 end at chains of 330, these at 6,000, well
within the 8 MB of stack that a thread has (tried with an endless chain)."""

Reduced = tuple[Any, ...]


class UnpicklableState(NotPicklable):
    """Raised when a service's state cannot be written, naming the service and the path to what cannot."""

    def __init__(self, service: str, path: str, reason: str) -> None:
        super().__init__(service, f"{path}: {reason}")
        self.path = path


class _Nowhere(io.BytesIO):
    """Takes bytes and keeps none. Whoever limits the time of a dump limits its walks too: each write asks the real file."""

    def __init__(self, file: BinaryIO | None = None) -> None:
        super().__init__()
        self._file = file

    def write(self, data: Any, /) -> int:
        if self._file is not None:
            self._file.write(b"")
        return len(data)


class _Watched(io.BytesIO):
    """A part's file, and whether it was the file that failed: a full disk is no fault of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.failed = False

    def write(self, data: Any, /) -> int:
        self.failed = True
        written = self._file.write(data)
        self.failed = False
        return written


class Session:
    """The dumps of one cut. `linked` says which services the images in use refer to, `held` which objects of a service images
    that are not loaded yet may refer to."""

    def __init__(self, linked: Mapping[str, frozenset[str]], held: Mapping[str, list[Any]]) -> None:
        self._linked = linked
        self._held = held
        self._reached: dict[str, dict[int, Any]] = {}
        self._file: BinaryIO | None = None

    def write(self, service: str, file: BinaryIO) -> set[str]:
        """Pickle the service's backends; returns the services they refer to."""
        self._file = file
        body: dict[str, Any] = {"backends": _body(service), "tail": self._tail(service)}
        return self._pickle(service, file, body)

    def write_store(self, service: str, file: BinaryIO) -> set[str]:
        """Pickle what the service keeps beside its backends."""
        return self._pickle(service, file, outside.capture(service))

    def _pickle(self, service: str, file: BinaryIO, body: Any) -> set[str]:
        dump = _Dump(self, service)
        watched = _Watched(file)
        try:
            dump.run(watched, body)
        except Exception as error:
            if watched.failed:
                raise
            path, reason = dump.explain(body, error)
            raise UnpicklableState(service, path, reason) from error
        return dump.linked

    def reached(self, service: str) -> dict[int, Any]:
        """By address, the service's own objects that its own graph reaches."""
        if service not in self._reached:
            walk = _Walk(self, service, guests=False)
            walk.run(_Nowhere(self._file), _body(service))
            self._reached[service] = walk.own
        return self._reached[service]

    def index(self, service: str) -> dict[int, Any]:
        """By key, the service's own objects that its own graph reaches."""
        return {links.key_of(obj): obj for obj in self.reached(service).values()}

    def _tail(self, service: str) -> list[Any]:
        """The service's objects that it no longer reaches but that other services' older images refer to."""
        lost: dict[int, Any] = {id(obj): obj for obj in self._held.get(service, ())}
        for other, linked in self._linked.items():
            if service in linked and other != service and backends.is_loaded(other):
                walk = _Walk(self, other, guests=True)
                walk.run(_Nowhere(self._file), _body(other))
                lost.update(walk.foreign.get(service, {}))
        if not lost:
            return []
        reached = self.reached(service)
        return [obj for address, obj in lost.items() if address not in reached]


def _body(service: str) -> list[tuple[tuple[str, str, str], dict[str, Any]]]:
    """(place, attributes) of each backend. A shell that waits for its image is an error: saved, it would replace the image."""
    body = []
    for key, holder in backends.imported(service):
        for account, region, backend in backends.quiet_items(holder):
            attributes = _attributes(backend)
            if not attributes:
                raise UnpicklableState(service, f"{key}[{account}][{region}]", "its image has not been loaded")
            body.append(((key, account, region), outside.flatten(service, attributes)))
    return body


def _attributes(backend: Any) -> dict[str, Any]:
    # Batch's variant without Docker hands every attribute on to batch's own backend; it has no state of its own.
    found: dict[str, Any] = object.__getattribute__(backend, "__dict__")
    return found


# --- reductions of one dump ------------------------------------------------------------------------------------------


class _Dump:
    """The dump of one service: its reducer table, and the links it found."""

    def __init__(self, session: Session, service: str) -> None:
        self.session = session
        self.service = service
        self.linked: set[str] = set()
        self._guests: set[str] = set()
        self._by_kind: dict[Kind, Reducer | None] = {
            Kind.BACKEND: self.backend,
            Kind.HOLDER: self.holder,
            Kind.SHARED: self.owned,
            Kind.LEAF: self.leaf,
            Kind.CONTAINER: reducers.reduce_plain,
            Kind.PLAIN: None,
        }

    def run(self, file: BinaryIO, body: Any) -> None:
        """Pickle `body`."""
        usual = sys.getrecursionlimit()
        sys.setrecursionlimit(max(usual, RECURSION_MAX))
        try:
            Codec(moto_allow_list(), self.reducer_for).dump(self.service, body, file)
        finally:
            sys.setrecursionlimit(usual)

    def reducer_for(self, _service: str, cls: type) -> Reducer | None:
        """The codec asks once for each class that it meets."""
        if issubclass(cls, type):
            return _class_by_name
        special = reducers.SPECIAL.get((cls.__module__, cls.__qualname__))
        if special is not None:
            return special
        kind = kind_of(cls)
        if kind is Kind.LEAF and _owner(cls) == self.service:
            return reducers.leaf(cls)
        if kind in (Kind.SHARED, Kind.LEAF, Kind.CONTAINER):
            listed_class(cls.__module__, cls.__qualname__)  # what could not be read back is not written
        return self._by_kind[kind]

    def owned(self, obj: Any) -> Reduced:
        """An object of a service's class: definition or reference."""
        cls = type(obj)
        owner = _owner(cls)
        name = owner, links.key_of(obj), cls.__module__, cls.__qualname__
        if owner == self.service:
            return _definition(obj, name, owners=True)
        self.linked.add(owner)
        if id(obj) in self.session.reached(owner):
            return shared, name
        self._guests.add(owner)
        return _definition(obj, name, owners=False)

    def leaf(self, obj: Any) -> Reduced:
        """A leaf of another service: it has no key, so it can come only as part of a resource that its owner has forgotten."""
        owner = _owner(type(obj))
        if owner not in self._guests:
            raise CrossServiceError(f"holds a {type(obj).__qualname__} of {owner}, which cannot be referred to")
        return reducers.reduce_plain(obj)

    def backend(self, obj: Any) -> Reduced:
        """A backend, whoever holds it: by name."""
        place = self.place(obj)
        self._note(place.key)
        return reducers.backend, tuple(place)

    def place(self, obj: Any) -> backends.Place:
        key = backends.key_of(type(obj))
        for account, region, backend in backends.quiet_items(backends.backend_dict(key)):
            if backend is obj:
                return backends.Place(key, account, region)
        raise CrossServiceError(f"holds a {type(obj).__qualname__} that is in no BackendDict")

    def holder(self, obj: Any) -> Reduced:
        """A BackendDict, or an account's part of one: by name."""
        key = backends.key_of(obj.backend)
        self._note(key)
        if hasattr(obj, "account_id"):
            return reducers.account, (key, obj.account_id)
        return reducers.backends_of, (key,)

    def _note(self, key: str) -> None:
        owner = backends.service_of_key(key)
        if owner != self.service:
            self.linked.add(owner)

    def explain(self, body: Any, error: Exception) -> tuple[str, str]:
        """The path to the deepest thing that cannot be pickled by itself, and why."""
        return _explain(lambda part: type(self)(self.session, self.service).run(_Nowhere(), part), body, error)


class _Walk(_Dump):
    """A dump that writes nothing and only looks: which objects are the service's own, which are another's."""

    def __init__(self, session: Session, service: str, *, guests: bool) -> None:
        super().__init__(session, service)
        self._into_guests = guests
        self.own: dict[int, Any] = {}
        self.foreign: dict[str, dict[int, Any]] = {}

    def owned(self, obj: Any) -> Reduced:
        owner = _owner(type(obj))
        if owner == self.service:
            self.own[id(obj)] = obj
            return _NOTHING, (), parts_of(obj), None, None, _nothing
        self.foreign.setdefault(owner, {})[id(obj)] = obj
        if self._into_guests and id(obj) not in self.session.reached(owner):
            return _NOTHING, (), parts_of(obj), None, None, _nothing
        return _NOTHING, ()

    def reducer_for(self, service: str, cls: type) -> Reducer | None:
        return _reduce_to_nothing if kind_of(cls) is Kind.LEAF else super().reducer_for(service, cls)


_NOTHING = object


def _reduce_to_nothing(_: Any) -> Reduced:
    return _NOTHING, ()


def _nothing(*_: object) -> None:
    return None


def _class_by_name(cls: type) -> str:
    """A class with a metaclass (all models have one), which pickle writes like any object. Objects of most kinds come back by
    functions of ours, so their class is written only where it is held as a value; and no image gets such a class in hand."""
    if kind_of(cls) not in (Kind.LEAF, Kind.PLAIN):
        raise TypeError(f"the class {cls.__qualname__} is held as a value")
    moto_allow_list().demand("moto", cls.__module__, cls.__qualname__, Use.NEW, Use.CALL, Use.VALUE)
    return cls.__qualname__


def _owner(cls: type) -> str:
    owner = backends.owner_of(cls)
    assert owner is not None, cls
    return owner


def _definition(obj: Any, name: tuple[str, int, str, str], owners: bool) -> Reduced:
    return shared, name, (owners, *parts_of(obj)), None, None, define


# --- naming what cannot be pickled -----------------------------------------------------------------------------------


def _explain(attempt: Callable[[Any], None], part: Any, error: Exception) -> tuple[str, str]:
    path, seen = "", {id(part)}
    for _ in range(PATH_LENGTH_MAX):
        for name, child in _children(part):
            if id(child) not in seen:
                seen.add(id(child))
                try:
                    attempt(child)
                except Exception as inner:
                    path, part, error = path + name, child, inner
                    break
        else:
            break
    return path or "its backends", f"a {type(part).__module__}.{type(part).__qualname__}: {error}"


PATH_LENGTH_MAX = 50
"""Steps from a service to what cannot be pickled: deeper than anything in moto, and an end to a cycle."""


def _children(part: Any) -> list[tuple[str, Any]]:
    if isinstance(part, dict):
        return [(f"[{name!r}]", child) for name, child in dict.items(part)]
    if isinstance(part, (list, tuple, set, frozenset)):
        return [(f"[{number}]", child) for number, child in enumerate(part)]
    attributes = getattr(part, "__dict__", None)
    if isinstance(attributes, dict) and not isinstance(part, type):
        return [(f".{name}", child) for name, child in attributes.items()]
    return []


def read(service: str, data: bytes) -> Any:
    """Read a part back, inside `MotoSource.loading()`."""
    return Codec(moto_allow_list()).load(service, data)
