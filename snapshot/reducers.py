"""How what pickle cannot write is written all the same, and read back: what any service may hold. Nothing here knows a service.

    what                                     comes back as
    ---------------------------------------  ------------------------------------------------------------------------------
    Lock, RLock, Condition, Semaphore        fresh and free; a Condition keeps the lock it shares
    Event                                    fresh, with its flag
    weakref.ref, proxy                       the same, to the same object; a dead one is dead again; callbacks are not kept
    WeakValue-, WeakKeyDictionary, WeakSet   the same, rebuilt
    defaultdict                              the same; its factory by name, a lambda or closure by module and path (paths.py)
    bound method                             the object's method of that name, if it is on the allow-list
    module                                   the module, if it is on the allow-list
    generator                                an exhausted one, if it was; otherwise it cannot be written and is refused
    keys, certificates, signing requests     from DER (keys.py)
    re.Pattern, ZoneInfo                     from their arguments

The first half of this module writes; `Restorer` and the plain functions read. The plain functions are listed in generic.json and
take data alone. What has to look at the allow-list while loading is a method of `Restorer`: in an image it has the name
"Restorer.function", and each unpickler puts its own Restorer's method in that place.
"""

from __future__ import annotations

import collections
import queue
import re
import sys
import threading
import types
import weakref
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from holdfast.snapshot.allowlist import AllowList, Use, resolve
from holdfast.snapshot.errors import NotAllowed, NotLoadable, NotPicklable
from holdfast.snapshot.keys import key_reducer
from holdfast.snapshot.paths import codes_at, path_of

__all__ = ["GENERIC_REDUCERS", "Reducer", "Reductions", "Restorer"]

Reduced = tuple[Any, ...]
Reducer = Callable[[Any], Any]
"""Takes an object, returns what `object.__reduce__` may return (Python's pickle documentation)."""

# --- locks, weak references and the like -------------------------------------------------------------------------------


def lock() -> Any:
    """Named in images: a free lock."""
    return threading.Lock()


def rlock() -> Any:
    """Named in images: a free reentrant lock."""
    return threading.RLock()


def condition(held: Any) -> threading.Condition:
    """Named in images: a condition on the given lock, with nobody waiting."""
    return threading.Condition(held)


def event(flag: bool) -> threading.Event:
    """Named in images: an event, set or not."""
    made = threading.Event()
    if flag:
        made.set()
    return made


def semaphore(value: int) -> threading.Semaphore:
    """Named in images: a semaphore with `value` places free."""
    return threading.Semaphore(value)


def simple_queue(items: list[Any]) -> queue.SimpleQueue[Any]:
    """Named in images: a queue that holds `items`."""
    made: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for item in items:
        made.put(item)
    return made


class _Gone:
    """What a dead weak reference once pointed to."""

    __slots__ = ("__weakref__",)


def reference(target: Any) -> weakref.ref[Any]:
    """Named in images: a weak reference."""
    return weakref.ref(target)


def proxy(target: Any) -> Any:
    """Named in images: a weak proxy."""
    return weakref.proxy(target)


def dead_reference() -> weakref.ref[Any]:
    """Named in images: a weak reference whose object is gone."""
    return weakref.ref(_Gone())


def weak_value_dictionary() -> weakref.WeakValueDictionary[Any, Any]:
    """Named in images: an empty one; its items follow."""
    return weakref.WeakValueDictionary()


def weak_key_dictionary() -> weakref.WeakKeyDictionary[Any, Any]:
    """Named in images: an empty one; its items follow."""
    return weakref.WeakKeyDictionary()


def weak_set(items: list[Any]) -> weakref.WeakSet[Any]:
    """Named in images: a weak set of `items`."""
    return weakref.WeakSet(items)


def default_dict() -> collections.defaultdict[Any, Any]:
    """Named in images: an empty one; its items follow, then its factory (Restorer.set_factory)."""
    return collections.defaultdict()


def exhausted() -> Iterator[Any]:
    """Named in images: a generator that has nothing more to give."""
    nothing: tuple[Any, ...] = ()
    made = (item for item in nothing)
    next(made, None)
    return made


def pattern(source: str | bytes, flags: int) -> re.Pattern[Any]:
    """Named in images: a compiled regular expression."""
    return re.compile(source, flags)


def zone(key: str) -> zoneinfo.ZoneInfo:
    """Named in images: a time zone by its name in the zone database."""
    return zoneinfo.ZoneInfo(key)


def _reduce_condition(obj: threading.Condition) -> Reduced:
    return condition, (vars(obj)["_lock"],)


def _reduce_semaphore(obj: threading.Semaphore) -> Reduced:
    return semaphore, (vars(obj)["_value"],)


def _reduce_simple_queue(obj: queue.SimpleQueue[Any]) -> Reduced:
    # Only in a forked child or between commands: nobody else takes from the queue meanwhile.
    items = [obj.get_nowait() for _ in range(obj.qsize())]
    for item in items:
        obj.put(item)
    return simple_queue, (items,)


def _reduce_reference(obj: weakref.ref[Any]) -> Reduced:
    target = obj()
    return (dead_reference, ()) if target is None else (reference, (target,))


def _reduce_proxy(obj: Any) -> Reduced:
    try:
        # Every bound method of the target carries the target itself; a proxy has no other way to it.
        target = obj.__repr__.__self__
    except ReferenceError:
        raise NotPicklable("?", "a weak proxy to an object that is gone") from None
    return proxy, (target,)


def _reduce_weak_values(obj: weakref.WeakValueDictionary[Any, Any]) -> Reduced:
    return weak_value_dictionary, (), None, None, iter(list(obj.items()))


def _reduce_weak_keys(obj: weakref.WeakKeyDictionary[Any, Any]) -> Reduced:
    return weak_key_dictionary, (), None, None, iter(list(obj.items()))


def _reduce_generator(obj: types.GeneratorType[Any, Any, Any]) -> Reduced:
    if obj.gi_frame is not None:
        raise NotPicklable("?", f"a generator that is under way ({obj.__qualname__})")
    return exhausted, ()


def _reduce_zone(obj: zoneinfo.ZoneInfo) -> Reduced:
    if obj.key is None:
        raise NotPicklable("?", "a time zone that was read from a file and has no name")
    return zone, (obj.key,)


GENERIC_REDUCERS: Final[Mapping[type, Reducer]] = types.MappingProxyType(
    {
        type(Ellipsis): lambda _: "Ellipsis",
        type(NotImplemented): lambda _: "NotImplemented",
        type(threading.Lock()): lambda _: (lock, ()),
        type(threading.RLock()): lambda _: (rlock, ()),
        threading.Condition: _reduce_condition,
        threading.Event: lambda obj: (event, (obj.is_set(),)),
        threading.Semaphore: _reduce_semaphore,
        threading.BoundedSemaphore: _reduce_semaphore,
        queue.SimpleQueue: _reduce_simple_queue,
        weakref.ref: _reduce_reference,
        weakref.ProxyType: _reduce_proxy,
        weakref.CallableProxyType: _reduce_proxy,
        weakref.WeakValueDictionary: _reduce_weak_values,
        weakref.WeakKeyDictionary: _reduce_weak_keys,
        weakref.WeakSet: lambda obj: (weak_set, (list(obj),)),
        types.GeneratorType: _reduce_generator,
        re.Pattern: lambda obj: (pattern, (obj.pattern, obj.flags)),
        zoneinfo.ZoneInfo: _reduce_zone,
    }
)

# --- what needs the allow-list -----------------------------------------------------------------------------------------


class Reductions:
    """The reducers that look at the allow-list while writing, so that nothing is written that would be refused when read."""

    def __init__(self, service: str, allow: AllowList) -> None:
        self._service = service
        self._allow = allow
        self.table: Mapping[type, Reducer] = {
            **GENERIC_REDUCERS,
            collections.defaultdict: self.default_dict,
            types.MethodType: self.method,
            types.ModuleType: self.module,
        }

    def lazily(self, cls: type) -> Reducer | None:
        """A reducer for a class that is recognised rather than listed."""
        return key_reducer(cls)

    def default_dict(self, obj: collections.defaultdict[Any, Any]) -> Reduced:
        """Items first, the factory last: a closure may hold the dictionary itself."""
        factory = obj.default_factory
        described = None if factory is None else self.describe(factory)
        # The state setter of a reduction is pickled by name: "Restorer.set_factory".
        return default_dict, (), described, None, iter(obj.items()), Restorer.set_factory

    def describe(self, factory: Any) -> tuple[Any, ...]:
        """A class or function as data: ("name", module, qualified name) or ("code", *path, cells, defaults)."""
        if isinstance(factory, types.FunctionType) and "<" in factory.__qualname__:
            self._allow.demand(self._service, factory.__module__, factory.__qualname__, Use.CODE)
            cells = tuple(cell.cell_contents for cell in factory.__closure__ or ())
            return ("code", *path_of(self._service, factory), cells, factory.__defaults__, factory.__kwdefaults__)
        if not isinstance(factory, (type, types.FunctionType)):
            raise NotPicklable(self._service, f"a defaultdict whose factory is a {type(factory).__qualname__}")
        self._allow.demand(self._service, factory.__module__, factory.__qualname__, Use.VALUE)
        return ("name", factory.__module__, factory.__qualname__)

    def function(self, obj: types.FunctionType) -> Reduced | str:
        """A function: by name where it has one, by path where it is a lambda or a closure."""
        if "<" not in obj.__qualname__:
            if obj not in Restorer.functions():
                self._allow.demand(self._service, obj.__module__, obj.__qualname__, Use.CALL, Use.VALUE)
            return obj.__qualname__
        described = self.describe(obj)[1:]
        return Restorer.function, described[:4], described[4:], None, None, Restorer.fill_function

    def class_by_name(self, obj: type) -> str:
        """A class, which may stand for its instances or for itself: the latter is refused when read, unless listed for VALUE."""
        self._allow.demand(self._service, obj.__module__, obj.__qualname__, Use.NEW, Use.CALL, Use.VALUE)
        return obj.__qualname__

    def method(self, obj: types.MethodType) -> Reduced:
        """A bound method: its object and its name."""
        function: Any = obj.__func__
        self._allow.demand(self._service, function.__module__, function.__qualname__, Use.CODE)
        return Restorer.method, (obj.__self__, function.__name__)

    def module(self, obj: types.ModuleType) -> Reduced:
        """A module: its name."""
        self._allow.demand(self._service, obj.__name__, "", Use.MODULE)
        return Restorer.module, (obj.__name__,)


class Restorer:
    """What an image may ask for that only the allow-list can answer. One for each load; methods take data alone."""

    def __init__(self, service: str, allow: AllowList) -> None:
        self._service = service
        self._allow = allow
        self._made: set[int] = set()

    def set_factory(self, target: Any, described: tuple[Any, ...]) -> None:
        """Named in images: give a defaultdict its factory."""
        if type(target) is not collections.defaultdict:
            raise NotLoadable(self._service, "a factory for what is no defaultdict")
        kind, *path = described
        if kind == "name":
            module, qualname = path
            self._allow.demand(self._service, module, qualname, Use.VALUE)
            target.default_factory = resolve(self._service, module, qualname)
        elif kind == "code":
            module, qualname, ordinal, count, cells, defaults, kwdefaults = path
            made = self.function(module, qualname, ordinal, count)
            self.fill_function(made, (cells, defaults, kwdefaults))
            target.default_factory = made
        else:
            raise NotLoadable(self._service, "a factory of an unknown kind")

    def function(self, module: str, qualname: str, ordinal: int, count: int) -> types.FunctionType:
        """Named in images: the function whose code lies at this path, with empty cells and no defaults."""
        self._allow.demand(self._service, module, qualname, Use.CODE)
        found = codes_at(self._service, module, qualname)
        if len(found) != count or not 0 <= ordinal < count:
            raise NotLoadable(
                self._service, f"{module}:{qualname} was one of {count} functions, and there are {len(found)}"
            )
        code, namespace = found[ordinal]
        cells = tuple(types.CellType() for _ in code.co_freevars)
        made = types.FunctionType(code, namespace, code.co_name, None, cells)
        made.__qualname__ = qualname
        self._made.add(id(made))
        return made

    def fill_function(self, made: types.FunctionType, state: tuple[Any, Any, Any]) -> None:
        """Named in images: the cells and defaults of a function that this load has made, of no other."""
        if id(made) not in self._made:
            raise NotLoadable(self._service, "the cells of a function that this image did not make")
        cells, defaults, kwdefaults = state
        for cell, content in zip(made.__closure__ or (), cells, strict=True):
            cell.cell_contents = content
        made.__defaults__ = defaults
        made.__kwdefaults__ = kwdefaults

    def method(self, target: Any, name: str) -> types.MethodType:
        """Named in images: the method `name` of `target`, found in its class without running anything."""
        for cls in type(target).__mro__:
            function = vars(cls).get(name)
            if isinstance(function, types.FunctionType):
                self._allow.demand(self._service, function.__module__, function.__qualname__, Use.CODE)
                return types.MethodType(function, target)
        raise NotAllowed(
            self._service, type(target).__module__, f"{type(target).__qualname__}.{name}", "is not a method"
        )

    def module(self, name: str) -> types.ModuleType:
        """Named in images: a module."""
        self._allow.demand(self._service, name, "", Use.MODULE)
        __import__(name)
        return sys.modules[name]

    @classmethod
    def functions(cls) -> tuple[Callable[..., Any], ...]:
        """The methods that an image may name."""
        return cls.set_factory, cls.function, cls.fill_function, cls.method, cls.module

    def named(self) -> dict[str, Callable[..., Any]]:
        """Those methods of this one, under the names that an image uses."""
        return {function.__qualname__: types.MethodType(function, self) for function in self.functions()}
