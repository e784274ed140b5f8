"""What a class of moto's is to a dump: a backend, a resource that services share, a leaf of one service, a container."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from types import ModuleType

from holdfast.daemon.services.moto import backends

__all__ = ["LEAVES", "Kind", "classes_of", "kind_of"]

LEAVES: frozenset[tuple[str, str]] = frozenset(
    {
        ("moto.cloudwatch.models", "MetricDatum"),
        ("moto.dynamodb.models.dynamo_type", "DynamoType"),
        ("moto.dynamodb.models.dynamo_type", "Item"),
        ("moto.dynamodb.models.dynamo_type", "LimitedSizeDict"),
        ("moto.dynamodb.models.table", "StreamRecord"),
        ("moto.kinesis.models", "Record"),
        ("moto.logs.models", "LogEvent"),
        ("moto.s3.models", "FakeAcl"),
        ("moto.s3.models", "FakeGrant"),
        ("moto.s3.models", "FakeGrantee"),
        ("moto.s3.models", "FakeKey"),
        ("moto.sqs.models", "Message"),
    }
)
"""Classes of which there may be 100,000 objects and that no other service was found to hold: no key, no place in a walk."""


class Kind(enum.Enum):
    """How objects of a class are written."""

    BACKEND = "by its place"
    HOLDER = "a BackendDict, or an account's part of one: by name"
    SHARED = "by definition or reference"
    LEAF = "as it is, by its own service only"
    CONTAINER = "past the methods it overrides"
    PLAIN = "as pickle would"


def kind_of(cls: type) -> Kind:
    """The kind of a class, moto's or not."""
    if not cls.__module__.startswith("moto."):
        return Kind.PLAIN
    from moto.core.base_backend import AccountSpecificBackend, BackendDict, BaseBackend

    if issubclass(cls, (BackendDict, AccountSpecificBackend)):
        return Kind.HOLDER
    if issubclass(cls, BaseBackend):
        return Kind.BACKEND
    if (cls.__module__, cls.__qualname__) in LEAVES:
        return Kind.LEAF
    if issubclass(cls, VALUES):
        return Kind.PLAIN
    if backends.owner_of(cls) is not None:
        return Kind.SHARED
    return Kind.CONTAINER if issubclass(cls, (dict, list, set)) else Kind.PLAIN


VALUES = (tuple, str, bytes, int, float, frozenset, enum.Enum, BaseException, type)
"""What lives in the arguments it was made with: it cannot be made empty first and filled later, and needs no identity."""


def classes_of(module: ModuleType) -> Iterator[type]:
    """The classes that `module` defines, nested ones included."""
    todo = [value for value in vars(module).values() if isinstance(value, type)]
    seen: set[type] = set()
    while todo:
        cls = todo.pop()
        if cls.__module__ == module.__name__ and cls not in seen:
            seen.add(cls)
            todo.extend(value for value in vars(cls).values() if isinstance(value, type))
            yield cls
