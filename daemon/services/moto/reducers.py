"""How what moto keeps is written and read back: the reductions that know moto. The general ones are snapshot.reducers'.

what                                  how
------------------------------------  -------------------------------------------------------------------------------
a backend, a BackendDict, an          by name: backend("moto.ec2.models:ec2_backends", account, region)
  account's part of one
an object of a class of a service     by definition or reference (links.py)
a dict, list or set subclass          raw: moto overrides `items` (S3's versions) and `__setitem__` (sizes, callables)
an S3 body                            its bytes
EC2's availability zones              by name: they are constants of the class, shared by all
threads (Batch jobs, DynamoDB         a thread that never started, with the class's own attributes
  exports and imports), SWF's timers  (timers.py arms SWF's again)
docker clients                        None: made again on demand
"""

from __future__ import annotations

import importlib
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

from holdfast.daemon.services.moto import backends
from holdfast.daemon.services.moto.allowlist import moto_allow_list
from holdfast.daemon.services.moto.links import blank, fill, listed_class, parts_of
from holdfast.snapshot.errors import NotAllowed
from holdfast.snapshot.reducers import Reductions, default_dict

__all__ = [
    "FACTORIES",
    "SPECIAL",
    "account",
    "backend",
    "backends_of",
    "body",
    "closed_body",
    "json_web_key",
    "leaf",
    "new",
    "new_dict",
    "nothing",
    "service_model",
    "set_factory",
    "zone",
]

Reduced = tuple[Any, ...]


# --- named in images: each makes one harmless thing -------------------------------------------------------------------


def backends_of(key: str) -> Any:
    """A BackendDict."""
    return backends.backend_dict(key)


def account(key: str, account_id: str) -> Any:
    """An account's part of a BackendDict."""
    return backends.account_of(key, account_id)


def backend(key: str, account_id: str, region: str) -> Any:
    """A backend, as an empty shell when its own image has not been read yet."""
    return backends.shell(backends.Place(key, account_id, region))


def new(module: str, qualname: str) -> Any:
    """An object of a listed class as it is before its `__init__`."""
    return blank(listed_class(module, qualname))


def new_dict(module: str, qualname: str, items: dict[Any, Any]) -> Any:
    """A dict of a listed subclass with its items, put in past its `__setitem__`."""
    made: Any = dict.__new__(listed_class(module, qualname))
    dict.update(made, items)
    return made


def nothing() -> None:
    """What stands for something that is made again on demand."""
    return


def body(data: bytes, max_size: int) -> Any:
    """The body of an S3 object."""
    file = tempfile.SpooledTemporaryFile(max_size)  # noqa: SIM115 - moto closes it when the object goes
    file.write(data)
    return file


def closed_body(max_size: int) -> Any:
    """The body of an S3 object that was deleted."""
    file = tempfile.SpooledTemporaryFile(max_size)  # noqa: SIM115
    file.close()
    return file


def service_model(name: str) -> Any:
    """The description of an AWS API that moto reads from its data, once for all."""
    from moto.core.utils import get_service_model

    if not re.fullmatch("[a-z0-9-]+", name):
        raise NotAllowed("moto", "moto.core.utils", "get_service_model", f"has no service {name!r}")
    return get_service_model(name)


def json_web_key(data: dict[str, Any]) -> Any:
    """The RSA key with which Cognito signs its tokens."""
    from joserfc import jwk

    return jwk.RSAKey.import_key(data)


FACTORIES: frozenset[tuple[str, str]] = frozenset(
    {
        ("moto.apigateway.integration_parsers.unknown_parser", "TypeUnknownParser"),
        ("moto.apigatewaymanagementapi.models", "Connection"),
        ("moto.lakeformation.models", "default_settings"),
        ("moto.meteringmarketplace.models", "CustomerDeque"),
        ("moto.meteringmarketplace.models", "ResultDeque"),
        ("moto.sdb.models", "FakeItem"),
        ("moto.xray.models", "SegmentCollection._new_trace_item"),
    }
)
"""What of its own moto gives to a `defaultdict`, lambdas aside: called with nothing when a key is missing."""


def set_factory(target: Any, described: tuple[str, str, Any]) -> None:
    """Give a defaultdict its factory, one of FACTORIES; a method's object comes with it."""
    module, qualname, owner = described
    if (module, qualname) not in FACTORIES or not isinstance(target, defaultdict):
        raise NotAllowed("moto", module, qualname, "is no factory of moto's")
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = vars(found)[name]
    target.default_factory = found if owner is None else MethodType(found, owner)


def zone(region: str, name: str) -> Any:
    """EC2's one object for an availability zone."""
    from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend

    return next(known for known in RegionsAndZonesBackend.zones[region] if known.name == name)


# --- reductions ------------------------------------------------------------------------------------------------------


def reduce_plain(obj: Any) -> Reduced:
    """An object that needs no identity beyond its own image."""
    cls = type(obj)
    return new, (cls.__module__, cls.__qualname__), parts_of(obj), None, None, fill


def leaf(cls: type) -> Callable[[Any], Any] | None:
    """How a class of which there may be 100,000 objects is written: by C alone if it can be."""
    if issubclass(cls, dict):
        name = cls.__module__, cls.__qualname__
        return lambda obj: (new_dict, (*name, dict(dict.items(obj))))
    return reduce_plain if "__getstate__" in vars(cls) else None


def reduce_nothing(_: Any) -> Reduced:
    return nothing, ()


def reduce_body(file: Any) -> Reduced:
    """A body in memory. moto would spool a large one to a file, whose offset a child shares with its parent and whose last
    bytes may be unwritten: keep_bodies_in_memory() sees to it that none does."""
    if file.closed:
        return closed_body, (file._max_size,)
    if file._rolled:
        raise TypeError("an S3 body that was spooled to disk cannot be read in a child; install() keeps them in memory")
    return body, (file._file.getvalue(), file._max_size)


def reduce_default_dict(obj: defaultdict[Any, Any]) -> Reduced:
    """A defaultdict; the factory last, for it may hold what holds the dictionary."""
    factory: Any = obj.default_factory
    owner = getattr(factory, "__self__", None) if isinstance(factory, MethodType) else None
    name = getattr(factory, "__module__", ""), getattr(factory, "__qualname__", "")
    if name in FACTORIES:
        return default_dict, (), (*name, owner), None, iter(dict.items(obj)), set_factory
    return Reductions("moto", moto_allow_list()).default_dict(obj)


def reduce_zone(obj: Any) -> Reduced:
    return zone, (obj.region_name, obj.name)


def reduce_service_model(obj: Any) -> Reduced:
    return service_model, (obj.service_name,)


def reduce_json_web_key(obj: Any) -> Reduced:
    return json_web_key, (obj.as_dict(private=True),)


SPECIAL: Mapping[tuple[str, str], Callable[[Any], Any]] = {
    ("collections", "defaultdict"): reduce_default_dict,
    ("tempfile", "SpooledTemporaryFile"): reduce_body,
    ("moto.core.model", "ServiceModel"): reduce_service_model,
    ("joserfc._rfc7518.rsa_key", "RSAKey"): reduce_json_web_key,
    ("docker.client", "DockerClient"): reduce_nothing,
    ("holdfast.daemon.services.moto.timers", "DaemonTimer"): reduce_nothing,
    ("moto.ec2.models.availability_zones_and_regions", "Zone"): reduce_zone,
}
"""By (module, class), so that nothing is imported for it."""
