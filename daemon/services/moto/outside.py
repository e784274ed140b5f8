"""State that moto keeps outside its backends, by service: saved as part "store", restored and reset with the service.

s3             s3_backends.bucket_accounts: which account owns a bucket name
organizations  organizations_backends.master_accounts: which organisation an account is in
securityhub    SecurityHubBackend._org_configs
logs           LogEvent._event_id, which numbers events, and LogStream._log_ids
ec2            DEFAULT_VPC_ENDPOINT_SERVICES (ids drawn at the first describe); where each subnet's address iterator
               stands (a cached generator: moved into the subnet); the weak references of VPC, peering and transit
               gateway backends, which are derived again
moto_api       custom ids and state transitions set through moto's own interface
"""

from __future__ import annotations

import importlib
import os
import sys
import weakref
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from holdfast.daemon.services.moto import backends, caches, timers
from holdfast.daemon.services.moto.links import listed_class

__all__ = ["Addresses", "capture", "flatten", "prepare", "reset", "restore", "unflatten", "unsettle"]


class _Holder(NamedTuple):
    """Something outside the backends, by import path."""

    module: str
    path: str

    def find(self) -> Any:
        """The value, or None while its module is not imported: then it is as it was at the start."""
        return self._follow(self.path)

    def put(self, value: Any) -> None:
        """Give the value back: a dict is filled in place, for others hold it; a number is assigned."""
        owner, _, name = self.path.rpartition(".")
        if isinstance(value, dict):
            held = self.find()
            held.clear()
            held.update(value)
        else:
            setattr(self._follow(owner), name, value)

    def _follow(self, path: str) -> Any:
        found = sys.modules.get(self.module)
        for name in path.split("."):
            found = getattr(found, name, None)
        return found


_COUNTERS: Mapping[str, tuple[_Holder, ...]] = {
    "logs": (_Holder("moto.logs.models", "LogEvent._event_id"), _Holder("moto.logs.models", "LogStream._log_ids")),
}
_DICTS: Mapping[str, tuple[_Holder, ...]] = {
    "s3": (_Holder("moto.s3.models", "s3_backends.bucket_accounts"),),
    "organizations": (_Holder("moto.organizations.models", "organizations_backends.master_accounts"),),
    "securityhub": (_Holder("moto.securityhub.models", "SecurityHubBackend._org_configs"),),
    "ec2": (_Holder("moto.ec2.models.vpcs", "DEFAULT_VPC_ENDPOINT_SERVICES"),),
    "moto_api": (
        _Holder("moto.utilities.id_generator", "moto_id_manager._custom_ids"),
        _Holder("moto.moto_api", "state_manager._transitions"),
    ),
}


def capture(service: str) -> dict[str, Any]:
    """What the service keeps outside its backends, as plain data."""
    dicts = {holder.path: dict(holder.find() or {}) for holder in _DICTS.get(service, ())}
    return dicts | {holder.path: holder.find() or 0 for holder in _COUNTERS.get(service, ())}


def restore(service: str, store: Mapping[str, Any]) -> None:
    """Put back what `capture` took, after the backends are filled."""
    for holders, empty in ((_DICTS, {}), (_COUNTERS, 0)):
        for holder in holders.get(service, ()):
            if store.get(holder.path):
                importlib.import_module(holder.module)  # what was saved has a place to go, imported already or not
            if holder.find() is not None:
                holder.put(store.get(holder.path, empty))
    settle(service)


def reset(service: str) -> None:
    """Forget what the service keeps outside its backends."""
    restore(service, {})


def flatten(service: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """A backend's attributes without what an image may not hold: RDS keeps a dict by class, and no image gets a class in hand."""
    if service != "rds":
        return attributes
    by_class = [(cls.__module__, cls.__qualname__, held) for cls, held in attributes["resource_map"].items()]
    return {**attributes, "resource_map": by_class}


def unflatten(service: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """The reverse of `flatten`."""
    if service != "rds":
        return attributes
    by_class = {listed_class(module, qualname): held for module, qualname, held in attributes["resource_map"]}
    return {**attributes, "resource_map": by_class}


def unsettle(service: str) -> None:
    """Stop what runs by itself and would change the state that is about to be replaced."""
    if service == "swf":
        timers.disarm()


def settle(service: str) -> None:
    """Derive again what follows from the backends."""
    if service == "ec2":
        _refer_weakly()
    elif service == "swf":
        timers.arm()


def prepare(service: str) -> None:
    """Arrange, before a service's first backend exists, that its state lies where it can be saved."""
    if service == "s3":
        # moto spools bodies over 5 MB to files, whose offset a forked child would share with its parent.
        os.environ.setdefault("MOTO_S3_DEFAULT_KEY_BUFFER_SIZE", str(1 << 40))
    elif service == "swf":
        timers.prepare()
    elif service == "sns":
        caches.MENDS["moto.sns.models"](sys.modules["moto.sns.models"])
    elif service == "ec2":
        from moto.ec2.models.subnets import Subnet

        Subnet._base_avail_ip_iterator = _addresses_of


class Addresses:
    """The addresses of a subnet that were not handed out yet, in order: `network.hosts()`, with a position that can be saved."""

    def __init__(self, network: Any) -> None:
        hosts = network.hosts()
        if isinstance(hosts, list):  # networks of one or two addresses
            self.position, self.last = int(hosts[0]), int(hosts[-1])
        else:
            self.position = int(network.network_address) + 1
            self.last = int(network.broadcast_address) - (network.version == 4)
        self.version = network.version

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.position > self.last:
            raise StopIteration
        self.position += 1
        return (IPv4Address if self.version == 4 else IPv6Address)(self.position - 1)


def _addresses_of(subnet: Any) -> Addresses:
    """Stands in for `Subnet._base_avail_ip_iterator`, which keeps a generator in a cache outside the subnet."""
    try:
        found: Addresses = subnet.holdfast_addresses
    except AttributeError:
        found = subnet.holdfast_addresses = Addresses(subnet.cidr)
    return found


_EC2_REFERENCES = (
    ("moto.ec2.models.vpcs", "VPCBackend", "vpc_refs"),
    ("moto.ec2.models.vpc_peering_connections", "VPCPeeringConnectionBackend", "vpc_pcx_refs"),
    ("moto.ec2.models.transit_gateway_attachments", "TransitGatewayAttachmentBackend", "backend_refs"),
)


def _refer_weakly() -> None:
    """EC2 finds its backends of all accounts and regions through weak references kept on three classes."""
    for _, holder in backends.imported("ec2"):
        known = [backend for _, _, backend in backends.quiet_items(holder)]
        for module, cls, attribute in _EC2_REFERENCES:
            references = getattr(getattr(sys.modules[module], cls), attribute)
            references.clear()
            references[holder.backend].update(weakref.ref(backend) for backend in known)
