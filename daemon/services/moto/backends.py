"""Where moto keeps state, and a gate in front of it.

moto holds everything of a service in `BackendDict`s: module-level dictionaries account -> region -> backend object. They are
named here "module:attribute" ("moto.s3.models:s3_backends"); `service_name` does not name them (two are called "lambda", two
"batch"). A service is moto's folder ("s3", "awslambda"), with variants counted to the service whose API they serve (VARIANTS).

`install()` puts hooks on the two dictionary classes, once, for every service present and future. A hook

- tells the caller which service was reached, so that a command's record names all it touched, side effects included;
- has a service's image loaded before the first access sees it, so that laziness cannot be noticed;
- runs the creation of a backend, which moto does on first access and which draws ids, inside the caller's context manager.

What the hooks cannot see: an object that keeps a backend of another service as an attribute calls it directly. Pickling
finds those, and reports them as links (links.py).

The list of all dictionaries is data (backends.json), so that nothing of moto need be imported to know what there is;
`python -m holdfast.daemon.services.moto.backends` writes it anew, and a test holds it to the moto that is installed.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "VARIANTS",
    "Place",
    "account_of",
    "backend_dict",
    "ensure_loaded",
    "imported",
    "install",
    "is_loaded",
    "key_of",
    "keys_of",
    "mark_loaded",
    "mark_unloaded",
    "owner_of",
    "quiet_items",
    "render",
    "scan",
    "service_of_key",
    "services",
    "shell",
    "start_over",
    "uninstall",
]

VARIANTS: Mapping[str, str] = {
    "awslambda_simple": "awslambda",
    "batch_simple": "batch",
    "dynamodb_v20111205": "dynamodb",
}
"""moto folders that serve another folder's API: their state is that service's."""

NOT_SERVICES = frozenset({"core", "moto_proxy", "moto_server", "packages", "utilities"})
"""moto folders that hold no service: their classes belong to whoever has an instance of them."""

DATA = Path(__file__).with_name("backends.json")


class Place(NamedTuple):
    """Where one backend lives."""

    key: str
    account: str
    region: str


# --- the inventory ---------------------------------------------------------------------------------------------------


@functools.cache
def _inventory() -> dict[str, dict[str, str]]:
    """service -> {"module:attribute" of the BackendDict -> "module:class" of its backends}"""
    inventory: dict[str, dict[str, str]] = json.loads(DATA.read_text("utf-8"))
    return inventory


@functools.cache
def _services_by_key() -> dict[str, str]:
    return {key: service for service, dicts in _inventory().items() for key in dicts}


@functools.cache
def _keys_by_class() -> dict[str, str]:
    return {cls: key for dicts in _inventory().values() for key, cls in dicts.items()}


def services() -> tuple[str, ...]:
    """All services of the installed moto, sorted; imports nothing."""
    return tuple(sorted(_inventory()))


def keys_of(service: str) -> tuple[str, ...]:
    """The keys of a service's BackendDicts; raises KeyError for a service that moto does not have."""
    return tuple(_inventory()[service])


def service_of_key(key: str) -> str:
    """The service that the BackendDict `key` belongs to; raises KeyError for a key that is not in the inventory."""
    return _services_by_key()[key]


def key_of(backend_type: type) -> str:
    """The key of the BackendDict whose backends are of `backend_type`; raises KeyError when there is none."""
    return _keys_by_class()[f"{backend_type.__module__}:{backend_type.__qualname__}"]


def backend_dict(key: str) -> Any:
    """The BackendDict named `key`, its module imported. A key may come from an image: only the inventory's are imported."""
    service_of_key(key)
    module, _, attribute = key.partition(":")
    return getattr(importlib.import_module(module), attribute)


def imported(service: str) -> list[tuple[str, Any]]:
    """The (key, BackendDict) of a service whose modules are imported; what is not imported has no state in memory."""
    found = []
    for key in keys_of(service):
        module, _, attribute = key.partition(":")
        if module in sys.modules and hasattr(sys.modules[module], attribute):
            found.append((key, getattr(sys.modules[module], attribute)))
    return found


def account_of(key: str, account: str) -> Any:
    """The account's part of the BackendDict `key`, past the hooks; made, and registered for moto's reset, when it is missing."""
    return _account_of(backend_dict(key), account)


def _account_of(holder: Any, account: str) -> Any:
    """What moto's `_create_account_specific_backend` does, past the hooks, and without its search when the account is there."""
    from moto.core.base_backend import AccountSpecificBackend, BackendDict, backend_lock

    with backend_lock:
        if not dict.__contains__(holder, account):
            # It draws an id: not one that the running command would have drawn, had somebody else been here first.
            with _gate.creating(_service_of_holder(holder), account, ""):
                made = AccountSpecificBackend(
                    service_name=holder.service_name,
                    account_id=account,
                    backend=holder.backend,
                    use_boto3_regions=holder._use_boto3_regions,
                    additional_regions=holder._additional_regions,
                )
            dict.__setitem__(holder, account, made)
        if not any(known is holder for known in BackendDict._instances):
            BackendDict._instances.append(holder)
    return dict.__getitem__(holder, account)


def shell(place: Place) -> Any:
    """The backend at `place`, past the hooks; when there is none yet, an empty one that its image will fill."""
    regions = account_of(place.key, place.account)
    if not dict.__contains__(regions, place.region):
        dict.__setitem__(regions, place.region, object.__new__(regions.backend))
    return dict.__getitem__(regions, place.region)


def start_over(place: Place, backend: Any) -> None:
    """Give `backend`, which may still be a shell, the state of one that was just made, in place."""
    with _gate.creating(*place):
        if object.__getattribute__(backend, "__dict__"):
            backend.reset()
        else:
            backend.__init__(place.region, place.account)


def quiet_items(backends: Any) -> Iterator[tuple[str, str, Any]]:
    """(account, region, backend) of a BackendDict, past the hooks: looking at state to save it is no access."""
    for account, regions in dict.items(backends):
        for region, backend in dict.items(regions):
            yield account, region, backend


@functools.cache
def _owner_of_module(module: str) -> str | None:
    root, _, rest = module.partition(".")
    folder = rest.partition(".")[0]
    if root != "moto" or not folder or folder in NOT_SERVICES:
        return None
    service = VARIANTS.get(folder, folder)
    return service if service in _inventory() else None


def owner_of(cls: type) -> str | None:
    """The service whose resources are instances of `cls`, None for a class that belongs to nobody in particular."""
    return _owner_of_module(cls.__module__)


# --- the gate --------------------------------------------------------------------------------------------------------

Creating = Callable[[str, str, str], AbstractContextManager[Any]]


class _Gate:
    """What the hooks consult. There is one, as there is one moto in a process."""

    def __init__(self) -> None:
        self.touched: Callable[[str], None] = _ignore
        self.load: Callable[[str], None] = _ignore
        self.creating: Creating = _creating_freely
        self.loaded: set[str] = set()
        self.originals: list[tuple[type, str, Any]] = []

    def reach(self, holder: Any) -> None:
        """Called by every hook, before the access: about 0.2 us when the service is loaded."""
        try:
            service: str = holder.holdfast_service
        except AttributeError:
            service = holder.holdfast_service = _service_of_holder(holder)
        self.touched(service)
        if service not in self.loaded:
            self.open(service)

    def open(self, service: str) -> None:
        """Load `service`. While its image is filled in, accesses to it go through; a failure leaves it unloaded."""
        from holdfast.daemon.services.moto import outside

        self.loaded.add(service)
        try:
            outside.prepare(service)
            self.load(service)
        except BaseException:
            self.loaded.discard(service)
            raise


def _ignore(_service: str) -> None:
    return None


def _creating_freely(_key: str, _account: str, _region: str) -> AbstractContextManager[Any]:
    return nullcontext()


def _service_of_holder(holder: Any) -> str:
    service = owner_of(holder.backend)
    if service is None:
        raise LookupError(f"{holder.backend.__module__} keeps state that backends.json does not list; generate it anew")
    return service


_gate = _Gate()


def ensure_loaded(service: str) -> None:
    """Load `service` now, if it has an image that is not in memory, without that counting as an access."""
    if service not in _gate.loaded:
        _gate.open(service)


def mark_loaded(service: str) -> None:
    """Let accesses to `service` through without loading: it is in memory, or there is nothing to load."""
    _gate.loaded.add(service)


def is_loaded(service: str) -> bool:
    """True when `service` is in memory, or was found to have nothing to load."""
    return service in _gate.loaded


def mark_unloaded(service: str) -> None:
    """Have `service` loaded (again) before the next access."""
    _gate.loaded.discard(service)


def install(touched: Callable[[str], None], load: Callable[[str], None], creating: Creating = _creating_freely) -> None:
    """Put the hooks on moto's two dictionary classes, or change what they call.

    `touched(service)` is called at every access and must be cheap; `load(service)` before the first one; a backend that is
    made on first access is made inside `creating(key, account, region)`.
    """
    _gate.touched, _gate.load, _gate.creating = touched, load, creating
    if not _gate.originals:
        from moto.core import base_backend

        _stop_tracking()
        _hook(base_backend.BackendDict, _get_account)
        _hook(base_backend.AccountSpecificBackend, _get_region)


def uninstall() -> None:
    """Give moto its own methods back and forget what was loaded (for tests)."""
    for cls, name, original in _gate.originals:
        if original is None:
            delattr(cls, name)
        else:
            setattr(cls, name, original)
    _gate.__init__()  # type: ignore[misc]


def _stop_tracking() -> None:
    """moto keeps every model object ever made in a list of its class, for its own dashboard: in a daemon, a leak."""
    from moto.core.common_models import BaseModel

    def untracked(cls: type, *args: Any, **kwargs: Any) -> Any:
        return super(BaseModel, cls).__new__(cls)

    _gate.originals.append((BaseModel, "__new__", vars(BaseModel)["__new__"]))
    BaseModel.__new__ = untracked


_ACCESSES = (
    "__iter__",
    "__len__",
    "__contains__",
    "__delitem__",
    "__setitem__",
    "items",
    "keys",
    "values",
    "get",
    "pop",
    "clear",
)


def _hook(cls: type, getitem: Callable[[Any, str], Any]) -> None:
    def replace(name: str, function: Any) -> None:
        _gate.originals.append((cls, name, vars(cls).get(name)))
        setattr(cls, name, function)

    for name in _ACCESSES:
        replace(name, _hooked(getattr(cls, name)))
    replace("__getitem__", getitem)


def _hooked(original: Callable[..., Any]) -> Callable[..., Any]:
    def access(self: Any, *args: Any) -> Any:
        _gate.reach(self)
        return original(self, *args)

    return functools.wraps(original)(access)


def _get_account(self: Any, account: str) -> Any:
    """`BackendDict.__getitem__`: what moto's does, without its lock and its search when the account is there."""
    _gate.reach(self)
    try:
        return dict.__getitem__(self, account)
    except KeyError:
        return _account_of(self, account)


def _get_region(self: Any, region: str) -> Any:
    """`AccountSpecificBackend.__getitem__`: what moto's does, but a new backend is made in the caller's context."""
    _gate.reach(self)
    if region == "global":
        region = "aws"
    try:
        return dict.__getitem__(self, region)
    except KeyError:
        return _create_region(self, region)


def _create_region(self: Any, region: str) -> Any:
    from moto.core.base_backend import backend_lock
    from moto.settings import allow_unknown_region

    with backend_lock:
        if not dict.__contains__(self, region) and (region in self.regions or allow_unknown_region()):
            with _gate.creating(key_of(self.backend), self.account_id, region):
                dict.__setitem__(self, region, self.backend(region, account_id=self.account_id))
    return dict.__getitem__(self, region)


# --- making the inventory --------------------------------------------------------------------------------------------


def scan() -> dict[str, dict[str, str]]:
    """The inventory of the installed moto, found by importing all of it (7 s, 200 MB)."""
    import pkgutil

    import moto
    from moto.core.base_backend import BackendDict

    found: dict[str, dict[str, str]] = {"moto_api": {}}  # moto's own interface: its state is outside any (outside.py)
    for info in pkgutil.walk_packages(moto.__path__, "moto."):
        folder, _, rest = info.name.removeprefix("moto.").partition(".")
        if folder in NOT_SERVICES or rest.rpartition(".")[2] != "models":
            continue
        for attribute, value in vars(importlib.import_module(info.name)).items():
            if isinstance(value, BackendDict) and value.backend.__module__.startswith(f"moto.{folder}."):
                service = VARIANTS.get(folder, folder)
                cls = f"{value.backend.__module__}:{value.backend.__qualname__}"
                found.setdefault(service, {})[f"{info.name}:{attribute}"] = cls
    return {service: dict(sorted(found[service].items())) for service in sorted(found)}


def render(found: Mapping[str, Mapping[str, str]]) -> str:
    """The file's text."""
    return json.dumps(found, indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render(scan()))
