"""What of moto changes outside its backends when every service is used: prints the names, one a line.

    python hidden.py [copies]

With `copies`, prints instead what two services' images would each hold a copy of: objects that belong to no service, and so are
not kept as one.
"""

from __future__ import annotations

import collections
import json
import sys
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import flood
import twin
import world

from holdfast.daemon.services.moto import allowlist, pickling
from holdfast.daemon.services.moto.kinds import classes_of
from holdfast.snapshot.codec import Codec, StatePickler

CODE = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    property,
    classmethod,
    staticmethod,
)
DEPTH_MAX = 3
BREADTH_MAX = 200


def fingerprint(value: Any, depth: int = 0) -> str:
    """A text that changes when the value does, down to some depth."""
    if depth > DEPTH_MAX or isinstance(value, CODE):
        return ""
    if isinstance(value, (str, bytes, int, float, type(None))):
        return repr(value)[:BREADTH_MAX]
    if isinstance(value, dict):
        items = list(dict.items(value))
        return str(len(items)) + "".join(fingerprint(part, depth + 1) for pair in items[:BREADTH_MAX] for part in pair)
    if isinstance(value, (list, tuple, collections.deque)):
        return str(len(value)) + "".join(fingerprint(part, depth + 1) for part in list(value)[:BREADTH_MAX])
    if isinstance(value, (set, frozenset, weakref.WeakSet)):
        return str(len(value))
    if hasattr(value, "cache_info"):
        return str(value.cache_info().currsize)
    return type(value).__name__ + fingerprint(getattr(value, "__dict__", None), depth + 1)


def outside() -> dict[str, str]:
    """Everything that moto's modules and classes hold, but their backends."""
    return {name: fingerprint(value) for name, value in _values()}


def _values() -> Iterator[tuple[str, Any]]:
    from moto.core.base_backend import BackendDict

    for module in [module for name, module in sorted(sys.modules.items()) if name.startswith("moto.")]:
        for name, value in list(vars(module).items()):
            if not name.startswith("__") and not isinstance(value, (BackendDict, *CODE)):
                yield f"{module.__name__}:{name}", value
        for cls in classes_of(module):
            for name, value in list(vars(cls).items()):
                if not name.startswith("__") and name != "instances_tracked" and not isinstance(value, CODE):
                    yield f"{module.__name__}:{cls.__qualname__}.{name}", value


def use_everything() -> None:
    for recipe in world.RECIPES.values():
        recipe(twin.client)
    calls = json.loads(flood.CALLS.read_text())
    answers = flood.play(twin.client, calls["calls"])
    for name, method, parameters in calls["reads"]:
        try:
            getattr(twin.client(name), method)(**flood.resolve(parameters, answers))
        except Exception:
            continue


def changed() -> list[str]:
    list(allowlist.state_modules())  # all of moto is imported before the first look
    twin.start()
    before = outside()
    use_everything()
    after = outside()
    return sorted(name for name in after if name in before and before[name] != after[name])


def copies() -> list[str]:
    touched = twin.start()
    use_everything()
    holders: dict[int, dict[str, Any]] = collections.defaultdict(dict)
    session = pickling.Session({}, {})
    for service in touched:
        for obj in _written(session, service):
            if isinstance(obj, (dict, list, set)) or type(obj).__module__.startswith(("moto.core", "moto.utilities")):
                holders[id(obj)][service] = obj
    return [f"{sorted(found)}: {next(iter(found.values()))!r:.200}" for found in holders.values() if len(found) > 1]


def _written(session: pickling.Session, service: str) -> list[Any]:
    """Every object that the service's image holds itself."""
    dump = pickling._Dump(session, service)
    pickler = StatePickler(pickling._Nowhere(), service, Codec(allowlist.moto_allow_list(), dump.reducer_for))
    pickler.dump(pickling._body(service))
    return [obj for _, obj in pickler.memo.copy().values()]  # type: ignore[attr-defined]


if __name__ == "__main__":
    print("\n".join(copies() if sys.argv[1:] == ["copies"] else changed()))
