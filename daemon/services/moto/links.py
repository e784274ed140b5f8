"""Identity across services, although each service is pickled by itself.

moto's services hold one another's objects: a CloudFormation stack holds the queue itself, not its name; an event source mapping
lies in lambda and in the queue. Pickled apart and read back, one object would become two that drift. So:

    an object belongs to the service in whose folder its class is defined (`owner_of`)
    met by its owner's dump     it is written with its state as a definition: shared(owner, key, class) + state
    met by another's dump       if the owner's own graph holds it, only the reference shared(owner, key, class) is written;
                                if not (the owner has forgotten it, a stack still holds it) the definition is, as a guest
    met while loading           shared() returns one shell per (owner, key), whichever image comes first; a definition fills
                                it in place, and the owner's definition wins over a guest's

The key of an object is its address, which no other object shares while it lives, plus a number of this life of the process, so
that keys of different lives never meet. An object that was loaded keeps the key it was loaded under. So a key needs no table
in the process that forks, the child that pickles agrees with its parent without a word, and an image that is carried forward
stays valid: a service that is clean still holds, in memory, all that its image refers to.

One thing remains: an owner may drop an object that a clean service still holds. Its next image must define it all the same,
because the clean service's older image only refers to it. `Session.tail` finds those by walking the services that hold
links to the owner; cut at the borders they are small.

A walk is a dump whose bytes go nowhere. What is known to lead to no shared object (messages, items, bodies: LEAVES) is left
out of it. An object of such a class met by another service is an error that names it, never a silent copy.
"""

from __future__ import annotations

import functools
import secrets
import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from holdfast.daemon.services.moto.allowlist import moto_allow_list
from holdfast.daemon.services.moto.backends import owner_of
from holdfast.snapshot.allowlist import Use, resolve

__all__ = [
    "CrossServiceError",
    "Links",
    "Loading",
    "blank",
    "define",
    "fill",
    "links",
    "listed_class",
    "parts_of",
    "shared",
]

THREAD_ATTRIBUTES = frozenset(vars(threading.Thread()))


class CrossServiceError(TypeError):
    """Raised when a service holds an object of another one that cannot be referred to."""


class _Adopted(weakref.ref[Any]):
    """A weak reference to an object that was loaded, with the name it was loaded under."""

    __slots__ = ("address", "name")

    address: int
    name: tuple[str, int]


class Links:
    """The table of shared objects of this process."""

    def __init__(self) -> None:
        self.life = secrets.randbits(63)
        self._by_address: dict[int, _Adopted] = {}
        self._by_name: dict[tuple[str, int], _Adopted] = {}
        self.loading: Loading | None = None

    def key_of(self, obj: Any) -> int:
        """The object's key: the one it was loaded under, or this life's number and its address."""
        known = self._by_address.get(id(obj))
        if known is not None and known() is obj:
            return known.name[1]
        return self.life << 64 | id(obj)

    def adopt(self, owner: str, key: int, obj: Any) -> None:
        """Note that `obj` was loaded under `key`, for as long as it lives."""
        adopted = _Adopted(obj, self._forget)
        adopted.address, adopted.name = id(obj), (owner, key)
        self._by_address[adopted.address] = self._by_name[adopted.name] = adopted

    def find(self, owner: str, key: int) -> Any:
        """The living object that was loaded as (owner, key), or None."""
        known = self._by_name.get((owner, key))
        return None if known is None else known()

    def _forget(self, adopted: Any) -> None:
        for table, name in ((self._by_address, adopted.address), (self._by_name, adopted.name)):
            if table.get(name) is adopted:
                del table[name]


class Loading:
    """One load of one or several images: which shells were made and which were filled.

    Between the first and the last image of a load the shells are held here, so that none vanishes before its definition comes.
    """

    def __init__(self, links: Links, index: Callable[[str], Mapping[int, Any]]) -> None:
        self._links = links
        self._index = index
        self.shells: dict[tuple[str, int], Any] = {}
        self.filled: dict[tuple[str, int], bool] = {}
        self._by_address: dict[int, tuple[str, int]] = {}

    def shell(self, owner: str, key: int, cls: type) -> Any:
        """The one object known as (owner, key): living, or a new empty one of `cls`."""
        name = owner, key
        found = self.shells.get(name)
        if found is None:
            found = self._living(owner, key)
            if found is None:
                found = blank(cls)
                self._links.adopt(owner, key, found)
            else:
                self.filled[name] = False
            self.shells[name] = found
            self._by_address[id(found)] = name
        if type(found) is not cls:
            raise CrossServiceError(
                f"{owner} has a {type(found).__qualname__} where a {cls.__qualname__} is referred to"
            )
        return found

    def _living(self, owner: str, key: int) -> Any:
        found = self._links.find(owner, key)
        if found is None and key >> 64 == self._links.life:
            found = self._index(owner).get(key)
        return found

    def dangling(self) -> list[tuple[str, int, str]]:
        """(owner, key, class) of every shell that no image defined."""
        return [
            (owner, key, type(obj).__qualname__)
            for (owner, key), obj in self.shells.items()
            if (owner, key) not in self.filled
        ]

    def wants(self, obj: Any, owners: bool) -> bool:
        """Whether a definition may fill `obj`: the owner's always, a guest's only if nothing has."""
        name = self._by_address[id(obj)]
        if not owners and name in self.filled:
            return False
        self.filled[name] = owners
        return True


links = Links()
"""The process's; module-level because an image's opcodes call `shared` by name."""


def shared(owner: str, key: int, module: str, qualname: str) -> Any:
    """Named in images: the one object known as (owner, key)."""
    if links.loading is None:
        raise CrossServiceError("a shared object is loaded outside a load")
    cls = listed_class(module, qualname)
    if owner_of(cls) != owner:
        raise CrossServiceError(f"{qualname} is not a class of {owner}")
    return links.loading.shell(owner, key, cls)


@functools.cache
def listed_class(module: str, qualname: str) -> type:
    """A class that images may have empty objects of; raises NotAllowed for any other."""
    moto_allow_list().demand("moto", module, qualname, Use.NEW)
    cls: type = resolve("moto", module, qualname)
    return cls


def define(obj: Any, definition: tuple[bool, Any, Any, str]) -> None:
    """Named in images: fill a shared object with its state, if this definition counts."""
    owners, *parts = definition
    if links.loading is None:
        raise CrossServiceError("a shared object is loaded outside a load")
    if links.loading.wants(obj, owners):
        fill(obj, (parts[0], parts[1], parts[2]))


def blank(cls: type) -> Any:
    """An object of `cls` as it is before its `__init__`, but usable as a base for `fill`: a thread is made, not started."""
    made: Any = cls.__new__(cls)  # type: ignore[call-overload]  # mypy takes `cls` for a metaclass
    if issubclass(cls, threading.Thread):
        threading.Thread.__init__(made)
    return made


FACTORIES: Mapping[str, Any] = {"": None, "dict": dict, "int": int, "list": list, "set": set}
"""What a subclass of defaultdict may make of a missing key (SSM's parameters: a list), by name."""


def parts_of(obj: Any) -> tuple[Any, Any, str]:
    """What `fill` takes: (attributes, content, factory). Attributes as they are, past any `__getstate__` (Lambda's drops one);
    the content of a dict, list or set subclass past its overridden methods (S3's `items` gives the latest versions only)."""
    content: Any = None
    factory = obj.default_factory if isinstance(obj, defaultdict) else None
    name = next((name for name, made in FACTORIES.items() if made is factory), None)
    if name is None:
        raise TypeError(f"{type(obj).__qualname__}: its factory {factory!r} is not one of {', '.join(FACTORIES)[2:]}")
    if isinstance(obj, dict):
        content = dict(dict.items(obj))
    elif isinstance(obj, set):
        content = list(set.__iter__(obj))
    elif isinstance(obj, (list, deque)):
        content = [*obj]
    state: Any = object.__getstate__(obj)  # the attributes, or (attributes, slots)
    if isinstance(obj, threading.Thread):
        state = {name: value for name, value in state.items() if name not in THREAD_ATTRIBUTES}
    return state, content, name


def fill(obj: Any, parts: tuple[Any, Any, str]) -> None:
    """Give `obj` its attributes and content, past every method that moto overrides, dropping what it had."""
    state, content, factory = parts
    listed_class(
        type(obj).__module__, type(obj).__qualname__
    )  # an image must not fill what is not an empty object of its own
    if isinstance(obj, defaultdict):
        obj.default_factory = FACTORIES[factory]
    if isinstance(obj, dict):
        dict.clear(obj)
        dict.update(obj, content)
    elif isinstance(obj, set):
        set.clear(obj)
        set.update(obj, content)
    elif isinstance(obj, (list, deque)):
        obj.clear()
        obj.extend(content)
    slots: Mapping[str, Any] = {}
    if isinstance(state, tuple):
        state, slots = state
    if hasattr(obj, "__dict__"):
        attributes = object.__getattribute__(obj, "__dict__")
        if not isinstance(obj, threading.Thread):
            attributes.clear()
        attributes.update(state or {})
    for name, value in slots.items():
        object.__setattr__(obj, name, value)
