"""Objects to pickle bytes and back, so that what is loaded cannot run anything and what is written can be loaded.

Both directions go through C: a pickler with a private `dispatch_table`, an unpickler whose `find_class` gives stand-ins.

Writing. The table starts with the generic reducers and asks `Codec.reducer_for` the first time it meets a class: the owner's
reducer, a generic one, or, if the allow-list has the class, its own `__reduce_ex__`. The answer is kept, so an object costs no
callback (persistent_id, which is one, measured 4 times slower on 100,000 messages). A class that is not on the list is refused
while writing, when the journal can still cover for it, not when somebody needs it back.

Reading. An opcode can do three things with a global: call it (REDUCE, INST, OBJ), make an empty instance (NEWOBJ), and set the
state of what it has in hand (BUILD), which on a class or function means setting attributes of the running program. So an image
never gets hold of a live class or function, but of a stand-in (allowlist.Use): one that makes empty instances without running
`__init__`, or one that can only be called. What comes back from NEWOBJ is a real instance; what cannot be told apart from it,
a class held as a plain value, would come back as a stand-in, and a load that leaves one behind is refused, naming it: list
such a class for VALUE. An image still chooses which methods named append, extend, add, __setitem__, __setstate__, __call__,
__hash__ and __eq__ of listed classes run, with data; whoever lists a class answers for those.
"""

from __future__ import annotations

import copyreg
import functools
import gc
import io
import operator
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, Protocol

from holdfast.snapshot.allowlist import AllowList, Use, resolve
from holdfast.snapshot.errors import CodecError, NotAllowed, NotLoadable, NotPicklable
from holdfast.snapshot.reducers import Reducer, Reductions, Restorer

__all__ = ["PROTOCOL", "Codec", "StatePickler", "StateUnpickler", "gc_paused"]

PROTOCOL: Final = 5

ReducerFor = Callable[[str, type], Reducer | None]
"""(service that is written, class) -> the reducer to use for it, or None to leave it to this package."""

_by_itself: Final[Reducer] = operator.methodcaller("__reduce_ex__", PROTOCOL)


class _Readable(Protocol):
    """What the C unpickler reads from."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self) -> bytes: ...


class Codec:
    """The allow-list and the owner's reducers, for any number of services. Immutable; used in the parent and in its forks."""

    def __init__(self, allow: AllowList, reducer_for: ReducerFor | None = None) -> None:
        self.allow = allow
        self._reducer_for = reducer_for

    def dump(self, service: str, state: object, file: BinaryIO, *, functions: bool = False) -> None:
        """Write `state` as one pickle. Raises CodecError naming the service; what was written to `file` is then worthless.

        With `functions`, lambdas, closures and classes that are held as values are written too (by path, and checked against the
        list); it costs a callback per object.
        """
        pickler = StatePickler(file, service, self, functions=functions)
        with _as(NotPicklable, service):
            pickler.dump(state)

    def load(self, service: str, data: bytes | memoryview) -> Any:
        """The state whose pickle is the whole of `data`. Raises CodecError; nothing but what the list allows was done."""
        unpickler = StateUnpickler(io.BytesIO(data), service, self.allow)
        with gc_paused(), _as(NotLoadable, service):
            return unpickler.load_all()

    def reducer_for(self, service: str, cls: type, reductions: Reductions) -> Reducer:
        """How an object of `cls` is written. Raises NotAllowed for a class that could not be read back."""
        reducer = self._reducer_for(service, cls) if self._reducer_for is not None else None
        reducer = reducer or reductions.table.get(cls) or reductions.lazily(cls)
        if reducer is not None:
            return reducer
        if issubclass(cls, type):
            return reductions.class_by_name
        if self.allow.use(cls.__module__, cls.__qualname__) not in (Use.NEW, Use.CALL, Use.VALUE):
            raise NotAllowed(service, cls.__module__, cls.__qualname__)
        return _by_itself


class _Table(dict[type, Reducer]):
    """A dispatch table that fills itself: C asks `__missing__` once for each class."""

    def __init__(self, service: str, codec: Codec, reductions: Reductions) -> None:
        super().__init__()
        self._service = service
        self._codec = codec
        self._reductions = reductions

    def __missing__(self, cls: type) -> Reducer:
        reducer = self[cls] = self._codec.reducer_for(self._service, cls, self._reductions)
        return reducer


class StatePickler(pickle.Pickler):
    """Writes one service's state. Use `Codec.dump`, which also types the errors."""

    def __init__(self, file: BinaryIO, service: str, codec: Codec, *, functions: bool = False) -> None:
        super().__init__(file, PROTOCOL)
        reductions = Reductions(service, codec.allow)
        self.dispatch_table = _Table(service, codec, reductions)
        if functions:
            # The C pickler looks this attribute up once a dump; without it, functions and classes never ask the table.
            self.reducer_override = _override(reductions)  # type: ignore[method-assign]


def _override(reductions: Reductions) -> Reducer:
    def reducer_override(obj: Any) -> Any:
        if type(obj) is types.FunctionType:
            return reductions.function(obj)
        if type(obj) is type:
            return reductions.class_by_name(obj)
        return NotImplemented

    return reducer_override


# --- reading ----------------------------------------------------------------------------------------------------------


class _Callable:
    """The stand-in for something that may be called with data: it can be called, and has nothing that could be set."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("an image may not change what it calls")


class _StandInType(type):
    """The class of classes' stand-ins: their attributes cannot be set."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise TypeError("an image may not change a class")


def _stand_in(cls: type) -> type:
    """A class whose instances are empty instances of `cls`, made without its `__init__`, and without its `__new__` if in Python.

    It stands where `cls` stands in `cls.__new__(cls)` and in `cls()`: type.__call__ runs no `__init__` on an object of
    another class than it was asked for.
    """
    owner = next(base for base in cls.__mro__ if isinstance(vars(base).get("__new__"), types.BuiltinFunctionType))
    allocate: Any = owner.__new__
    whole: Any = cls.__new__  # for what lives in the arguments: str, int and tuple subclasses

    def new(_: type, *args: Any, **kwargs: Any) -> Any:
        return whole(cls, *args, **kwargs) if args or kwargs else allocate(cls)

    made: Any = new
    untyped: Any = cls
    if whole is object.__new__ and untyped.__init__ is not object.__init__:
        # The same without a Python frame, for object.__new__ ignores arguments where __init__ takes them: 0.77 -> 0.82 of
        # pickle.loads on 200,000 small objects.
        made = functools.partial(object.__new__, cls)
    return _StandInType(
        cls.__qualname__, (), {"__new__": staticmethod(made), "__slots__": (), "__module__": cls.__module__}
    )


class StateUnpickler(pickle.Unpickler):
    """Reads one service's state. Use `Codec.load`, which also types the errors."""

    def __init__(self, file: _Readable, service: str, allow: AllowList) -> None:
        super().__init__(file)
        self._file = file
        self._service = service
        self._allow = allow
        self._restorer = Restorer(service, allow).named()
        self._given: dict[tuple[str, str], Any] = {}
        self._references: dict[tuple[str, str], int] = {}

    def find_class(self, module: str, qualname: str, /) -> Any:
        """What the image gets for a global: never more than its use on the allow-list."""
        name = (module, qualname)
        if name in self._given:
            return self._given[name]
        found = self._given[name] = self._find(module, qualname)
        self._references[name] = sys.getrefcount(found)
        return found

    def _find(self, module: str, qualname: str) -> Any:
        if module == Restorer.__module__ and qualname in self._restorer:
            return _Callable(self._restorer[qualname])
        use = self._allow.demand(self._service, module, qualname, Use.NEW, Use.CALL, Use.VALUE)
        found = resolve(self._service, module, qualname)
        if use is Use.VALUE:
            return found
        if use is Use.CALL:
            return _Callable(found)
        if not isinstance(found, type):
            raise NotAllowed(self._service, module, qualname, "is listed for new and is no class")
        return _stand_in(found)

    def persistent_load(self, pid: Any, /) -> Any:
        """Refused: no image of ours has persistent ids."""
        raise NotLoadable(self._service, f"a persistent id ({pid!r:.40})")

    def load_all(self) -> Any:
        """The one object of the file; raises NotLoadable if anything follows it, or a stand-in is part of it."""
        # EXT opcodes look here before they ask find_class.
        copyreg.clear_extension_cache()
        state = self.load()
        if self._file.read(1):
            raise NotLoadable(self._service, "bytes follow the pickle")
        self.memo: Any = {}  # the last references that loading itself holds
        for name in self._given:  # not items(): the iterator would hold a reference of its own
            found = self._given[name]
            if isinstance(found, (_Callable, _StandInType)) and sys.getrefcount(found) > self._references[name]:
                raise NotAllowed(
                    self._service, *name, "is held as a value, which its use on the allow-list does not cover"
                )
        return state


@contextmanager
def gc_paused() -> Iterator[None]:
    """Keep the collector from walking what is being built: 12.6 s against 3.3 s for 100,000 items of DynamoDB."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _as(kind: type[CodecError], service: str) -> Iterator[None]:
    """Turn whatever goes wrong into a CodecError that names the service; MemoryError and RecursionError included."""
    try:
        yield
    except CodecError as error:
        if error.service == "?":  # raised where the service is not known
            raise kind(service, str(error).removeprefix("?: ")) from error
        raise
    except Exception as error:
        raise kind(service, f"{type(error).__name__}: {error}") from error
