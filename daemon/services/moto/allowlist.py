"""What an image of moto's state may name, as data: allowlist.json, generated from moto's own classes and reviewed as data.

    python -m holdfast.daemon.services.moto.allowlist > allowlist.json

A class is listed as NEW: an image may hold empty objects of it and fill them; no `__init__` of moto is run, and no function of
moto's is listed at all, but for CODE: the lambdas and functions that moto gives to a `defaultdict`, found in the source.
Left out are the classes that state does not consist of: request handlers, exceptions, URL tables, parsers, and the backends
themselves, which an image can only name by their place (backends.json).
"""

from __future__ import annotations

import ast
import enum
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from holdfast.daemon.services.moto import backends
from holdfast.daemon.services.moto.kinds import classes_of
from holdfast.snapshot.allowlist import GENERIC, AllowList

__all__ = ["DATA", "factories", "generate", "moto_allow_list", "state_modules"]

DATA = Path(__file__).with_name("allowlist.json")

NOT_STATE = frozenset(
    {"exceptions", "responses", "urls", "url_paths", "config", "comparisons", "certificate_creator", "server", "proxy3"}
)
"""Names of modules whose classes no backend holds."""

PARSERS = ("moto.dynamodb.parsing", "moto.stepfunctions.parser")
"""Packages that work on a request and keep nothing."""

NEUTRAL_MODULES = (
    "moto.core.base_backend",
    "moto.core.common_models",
    "moto.core.resource_tagging",
    "moto.core.types",
    "moto.core.utils",
    "moto.moto_api._internal.managed_state_model",
    "moto.utilities",
)
"""Outside the services' folders: what any of them may hold."""

OURS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "holdfast.daemon.services.moto.links": {"call": ("define", "fill", "shared")},
    "holdfast.daemon.services.moto.outside": {"new": ("Addresses",)},
    "holdfast.daemon.services.moto.reducers": {
        "call": (
            "account",
            "backend",
            "backends_of",
            "body",
            "closed_body",
            "json_web_key",
            "new",
            "new_dict",
            "nothing",
            "service_model",
            "set_factory",
            "zone",
        )
    },
}
"""Our own functions and classes that images name: each takes data and makes one harmless thing."""

EXTRA: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "moto.core.parse": {"new": ("XFormedDict",)},
    "requests.structures": {"new": ("CaseInsensitiveDict",)},
}
"""What state was found to hold beside classes of moto."""


@cache
def moto_allow_list() -> AllowList:
    """What an image of any of moto's services may name."""
    return AllowList.read(GENERIC, DATA)


def generate() -> dict[str, dict[str, list[str]]]:
    """The list for the installed moto, found by importing all of it."""
    found: dict[str, dict[str, set[str]]] = {}
    for module in state_modules():
        for cls in classes_of(module):
            use = _use(cls)
            if use is not None:
                found.setdefault(module.__name__, {}).setdefault(use, set()).add(cls.__qualname__)
        for path in _code(module):
            found.setdefault(module.__name__, {}).setdefault("code", set()).add(path)
    for name, uses in (*OURS.items(), *EXTRA.items()):
        for use, names in uses.items():
            found.setdefault(name, {}).setdefault(use, set()).update(names)
    return {
        module: {use: sorted(names) for use, names in sorted(uses.items())} for module, uses in sorted(found.items())
    }


def state_modules() -> Iterator[Any]:
    """The modules of moto whose classes state may consist of, imported."""
    import moto

    root = Path(moto.__path__[0])
    for path in sorted(root.rglob("*.py")):  # not by pkgutil: some of moto's folders have no __init__.py
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(("moto", *parts)).removesuffix(".__init__")
        if not parts[1:] or NOT_STATE.intersection(parts[1:]) or name.startswith(PARSERS):
            continue
        service = parts[0] not in backends.NOT_SERVICES and parts[0] != "moto_api"
        if service or name.startswith(NEUTRAL_MODULES):
            yield importlib.import_module(name)


def _use(cls: type) -> str | None:
    from moto.core.base_backend import BackendDict, BaseBackend
    from moto.core.responses import BaseResponse

    if (
        issubclass(cls, (BaseBackend, BackendDict, BaseResponse, BaseException, type))
        or cls.__name__ == "AccountSpecificBackend"
    ):
        return None
    if issubclass(cls, enum.Enum):
        return "call"
    return "new"


def factories(module: Any) -> Iterator[tuple[str, str, str]]:
    """What the module gives to `defaultdict(...)`: ("lambda", module, path), or ("named", module, name) for what moto named."""
    for path, call in _calls(_tree(module), ()):
        if ast.unparse(call.func).rpartition(".")[2] != "defaultdict" or not call.args:
            continue
        factory = call.args[0]
        if isinstance(factory, ast.Lambda):
            yield "lambda", module.__name__, _qualname((*path, "<lambda>"))
        elif isinstance(factory, ast.Attribute) and ast.unparse(factory.value) == "self":
            yield "named", module.__name__, f"{path[0]}.{factory.attr}"
        elif isinstance(factory, ast.Name):
            found = _named(module, factory.id)
            if getattr(found, "__module__", "").startswith("moto."):
                yield "named", found.__module__, found.__qualname__


def _named(module: Any, name: str) -> Any:
    """What `name` means in a module, or in a function of it that imports it."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), module.__package__)
            return getattr(importlib.import_module(source), name)
    return vars(module).get(name)


def _code(module: Any) -> Iterator[str]:
    """What of the module's code state holds: the lambdas given to a `defaultdict`, and the methods kept as a dict's values or
    handed on by keyword (EC2's security groups keep one for each filter, Prometheus' workspaces one that lists tags)."""
    yield from (path for kind, _, path in factories(module) if kind == "lambda")
    for cls in ast.walk(_tree(module)):
        if isinstance(cls, ast.ClassDef):
            methods = {node.name for node in cls.body if isinstance(node, ast.FunctionDef) and not node.decorator_list}
            for value in _kept(cls):
                if isinstance(value, ast.Attribute) and ast.unparse(value.value) == "self" and value.attr in methods:
                    yield f"{cls.name}.{value.attr}"


def _kept(cls: ast.ClassDef) -> Iterator[ast.AST]:
    for node in ast.walk(cls):
        if isinstance(node, ast.Dict):
            yield from node.values
        elif isinstance(node, ast.keyword):
            yield node.value


def _tree(module: Any) -> ast.AST:
    source = module.__spec__.loader.get_source(module.__name__) if module.__spec__ and module.__spec__.loader else None
    return ast.parse(source or "")


def _calls(node: ast.AST, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ast.Call]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield path, child
        inner = path
        if isinstance(child, ast.ClassDef):
            inner = (*path, child.name)
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner = (*path, f"{child.name}()")
        elif isinstance(child, ast.Lambda):
            inner = (*path, "<lambda>()")
        yield from _calls(child, inner)


def _qualname(path: Iterable[str]) -> str:
    """A path as Python spells it: what is defined inside a function has ".<locals>" before it."""
    return ".".join(path).replace("()", ".<locals>")


def render(listed: dict[str, dict[str, list[str]]]) -> str:
    """The file's text: one line a module and use, so that a review sees what came and went."""
    return json.dumps(listed, indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render(generate()))
