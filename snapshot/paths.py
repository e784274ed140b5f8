"""Functions that have no name to be imported by, found by their path: "Store.__init__.<locals>.<lambda>".

Nothing is run to find one: a path is followed through namespaces and the constants of code objects. What it cannot be is moved:
where several functions share a path, an image says which of how many, and another number is refused.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from holdfast.snapshot.errors import NotLoadable, NotPicklable

__all__ = ["codes_at", "path_of"]


def path_of(service: str, function: types.FunctionType) -> tuple[str, str, int, int]:
    """(module, qualified name, which, of how many): several lambdas of one function share a name."""
    module, qualname = function.__module__, function.__qualname__
    found = [code for code, _ in codes_at(service, module, qualname)]
    if function.__code__ not in found:
        raise NotPicklable(service, f"{module}:{qualname} is not where its name says")
    return module, qualname, found.index(function.__code__), len(found)


def codes_at(service: str, module: str, qualname: str) -> list[tuple[types.CodeType, dict[str, Any]]]:
    """Every code object at a path such as "Store.__init__.<locals>.<lambda>", in the order of the source."""
    __import__(module)
    namespace = vars(sys.modules[module])
    outer, *inner = qualname.split(".<locals>.")
    codes = [code for code in _outer_codes(namespace, module, outer) if code.co_qualname == outer]
    for depth in range(len(inner)):
        path = ".<locals>.".join((outer, *inner[: depth + 1]))
        codes = [code for parent in codes for code in _children(parent) if code.co_qualname == path]
    if not codes:
        raise NotLoadable(service, f"{module}:{qualname} is no longer there")
    return [(code, namespace) for code in codes]


def _outer_codes(namespace: Mapping[str, Any], module: str, qualname: str) -> Iterable[types.CodeType]:
    """The code of the outermost function on a path: a module's function or lambda, or a class's, by its namespace alone."""
    *owners, name = qualname.split(".")
    found: Any = namespace
    for owner in owners:
        cls = found.get(owner)
        if not isinstance(cls, type):
            return
        found = vars(cls)
    # A lambda has no name to be found by: look at all that the namespace holds.
    candidates = found.values() if name == "<lambda>" else (found.get(name),)
    for candidate in candidates:
        function = (
            getattr(candidate, "__func__", candidate)
            if isinstance(candidate, (staticmethod, classmethod))
            else candidate
        )
        if isinstance(function, types.FunctionType) and function.__module__ == module:
            yield function.__code__


def _children(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            # In a class body, which has no namespace of its own to make, functions are one level down.
            if "." in constant.co_qualname and not constant.co_flags & inspect.CO_NEWLOCALS:
                yield from _children(constant)
