"""What an image may name: an exact list of (module, qualified name), each with the one use that is allowed.

A prefix is no list: `moto.settings` reaches `os`. So nothing is matched by pattern and nothing is reached through something
else: a dotted name stands in the list as a whole or is refused, and what it leads to must be defined there under that very name.

    use     an image may                                     given to the unpickler
    ------  -----------------------------------------------  ---------------------------------------------------------------
    NEW     have empty instances of the class, and fill them  a stand-in: neither `__init__` nor a `__new__` in Python is run
    CALL    call it with data                                 a stand-in that can be called and nothing else
    VALUE   hold the class or function itself                 the object; listing it says that calling it with anything, and
                                                              (if it is written in Python) setting its attributes, is harmless
    CODE    restore the function by its path as data, and     nothing: only `Restorer.function` and `Restorer.method` look here
            call what it restored
    MODULE  hold the module itself (qualified name "")        nothing: only `Restorer.module` looks here

The list is data: JSON, {module: {use: [qualified name, ...]}}, reviewed like code. `generic.json` beside this module holds what
any service may need of the standard library; the daemon brings one for the classes of its services.
"""

from __future__ import annotations

import enum
import importlib
import json
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from holdfast.snapshot.errors import NotAllowed

__all__ = ["GENERIC", "AllowList", "Use"]

GENERIC: Final = Path(__file__).with_name("generic.json")


NAMED: Final = (type, types.FunctionType, types.BuiltinFunctionType)
"""What knows the name it was defined under."""


class Use(enum.StrEnum):
    """What an image may do with a global."""

    NEW = "new"
    CALL = "call"
    VALUE = "value"
    CODE = "code"
    MODULE = "module"


class AllowList:
    """Exact (module, qualified name) pairs; immutable. `a | b` allows what either does; ValueError where they differ."""

    def __init__(self, entries: Mapping[tuple[str, str], Use]) -> None:
        self._entries = types.MappingProxyType(dict(entries))

    @classmethod
    def read(cls, *paths: Path) -> AllowList:
        """The lists of all `paths` together. Raises ValueError for a file that is not such a list, or names one global twice."""
        entries: dict[tuple[str, str], Use] = {}
        for path in paths:
            for name, use in _parse(path):
                if entries.setdefault(name, use) is not use:
                    raise ValueError(f"{path}: {name[0]}:{name[1]} is listed as {entries[name]} and as {use}")
        return cls(entries)

    @classmethod
    def of(cls, entries: Iterable[tuple[type | types.FunctionType, Use]]) -> AllowList:
        """A list of classes and functions at hand, for services and tests that are written in the program itself."""
        return cls({(item.__module__, item.__qualname__): use for item, use in entries})

    def __or__(self, other: AllowList) -> AllowList:
        both = {**self._entries, **other._entries}
        differing = [name for name, use in self._entries.items() if both[name] is not use]
        if differing:
            raise ValueError(f"two allow-lists differ on {differing[0][0]}:{differing[0][1]}")
        return AllowList(both)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._entries)

    def __contains__(self, name: tuple[str, str]) -> bool:
        return name in self._entries

    def use(self, module: str, qualname: str) -> Use | None:
        """The use that is allowed, or None."""
        return self._entries.get((module, qualname))

    def demand(self, service: str, module: str, qualname: str, *uses: Use) -> Use:
        """The use of a listed global, if it is one of `uses`; raises NotAllowed otherwise."""
        use = self._entries.get((module, qualname))
        if use is None:
            raise NotAllowed(service, module, qualname)
        if use not in uses:
            raise NotAllowed(service, module, qualname, f"is listed for {use}, not for {' or '.join(uses)}")
        return use


def resolve(service: str, module: str, qualname: str) -> Any:
    """The object a listed name stands for. Call it only after `demand`: it imports the module.

    Each step is looked up in the namespace of the one before, a class, never by `getattr`: no descriptor runs, nothing is
    inherited. The result must have been defined under this very name, so that neither an alias nor an import leads elsewhere.
    """
    try:
        found: Any = importlib.import_module(module)
        first, *inner = qualname.split(".")
        found = vars(found)[first]
        for name in inner:
            if not isinstance(found, type):
                raise NotAllowed(service, module, qualname, "leads through what is no class")
            found = vars(found)[name]
    except (ImportError, KeyError) as error:
        raise NotAllowed(service, module, qualname, f"is on the allow-list and not installed: {error!r}") from error
    if isinstance(found, types.ModuleType):
        raise NotAllowed(service, module, qualname, "is a module")
    if isinstance(found, NAMED) and (found.__module__, found.__qualname__) != (module, qualname):
        raise NotAllowed(service, module, qualname, f"is another name of {found.__module__}:{found.__qualname__}")
    return found


def _parse(path: Path) -> Iterator[tuple[tuple[str, str], Use]]:
    data = json.loads(path.read_text("utf-8"))
    if not isinstance(data, dict):
        raise ValueError(f"{path}: not a map of modules")
    for module, uses in data.items():
        for use, names in uses.items():
            if not isinstance(names, list):
                raise ValueError(f"{path}: {module}: {use} is not a list of names")
            for name in names:
                yield (module, str(name)), Use(use)
