"""Host names: what an authority says, and which service, region and bucket a name under a known suffix addresses.

Forms that are understood, each below `localhost.localstack.cloud`, `localhost`, the suffixes of AWS, and every suffix a user
allows (`*.example` in HOLDFAST_ALLOWED_HOSTS):

    s3.<suffix>  s3.<region>.<suffix>  <bucket>.s3[.<region>].<suffix>  <bucket>.<suffix>      dots in the bucket's name included
    <service>.<suffix>  <service>.<region>.<suffix>  sync-<service>...  data-<service>...  <account>.s3-control...
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from holdfast.daemon.gateway.addressing import BY_HOST_LABEL

__all__ = [
    "AWS_SUFFIXES",
    "HOST_PREFIX",
    "LOCAL_SUFFIXES",
    "REGION",
    "Address",
    "Authority",
    "is_loopback",
    "parse_authority",
    "resolve",
]

LOCAL_SUFFIXES: Final = ("localhost.localstack.cloud", "localhost")
"""Names that resolve to loopback everywhere: the first in DNS, the second by RFC 6761."""

AWS_SUFFIXES: Final = ("amazonaws.com", "amazonaws.com.cn", "api.aws")
"""AWS's own names: clients whose DNS or proxy leads them here keep them."""

REGION: Final = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d{1,2}")

AUTHORITY_BYTES_MAX: Final = 255 + 6
"""A DNS name (RFC 1035) and a port."""

_AUTHORITY = re.compile(r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>\d{1,5}))?")
_S3 = re.compile(
    rf"(?:(?P<bucket>.+)\.)?s3(?:-website|-external-1|-accelerate|-fips)?(?:[.-]dualstack|[.-]fips)?"
    rf"(?:[.-](?P<region>{REGION.pattern}))?"
)
HOST_PREFIX: Final = re.compile(r"(?:analytics|control-storage|data|query|runtime|storage|stream|sync|tags|workflows)-")
"""What botocore puts before an endpoint's own name for some operations (`hostPrefix` in its models)."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A host with its port, None when it was not given; `name` is lower case, a literal without its brackets."""

    name: str
    port: int | None

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """What a name addresses. `module` and `region` are empty when it does not say; `labels` is all that stands before the
    suffix, and `local` is true when that suffix is not one of AWS's."""

    module: str = ""
    region: str = ""
    bucket: str = ""
    labels: str = ""
    local: bool = False


def parse_authority(text: str) -> Authority:
    """Read a Host header. Raises ValueError when it is none."""
    match = _AUTHORITY.fullmatch(text) if len(text) <= AUTHORITY_BYTES_MAX else None
    if match is None:
        raise ValueError("not a host name")
    port = int(match["port"]) if match["port"] else None
    if port is not None and port > 0xFFFF:
        raise ValueError("not a port")
    name = str(ipaddress.IPv6Address(match["literal"])) if match["literal"] else match["name"].lower().rstrip(".")
    return Authority(name, port)


def is_loopback(name: str) -> bool:
    """True for `localhost`, everything below it, and the loopback addresses."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def resolve(name: str, suffixes: tuple[str, ...] = ()) -> Address:
    """What `name` addresses, with `suffixes` allowed beside the known ones."""
    for suffix in (*LOCAL_SUFFIXES, *suffixes, *AWS_SUFFIXES):
        if name.endswith(f".{suffix}"):
            return _address(name[: -len(suffix) - 1], local=suffix not in AWS_SUFFIXES)
    return Address()


def _address(labels: str, *, local: bool) -> Address:
    s3 = _S3.fullmatch(labels)
    if s3 is not None:
        return Address("s3", s3["region"] or "", s3["bucket"] or "", labels, local)
    names = labels.split(".")
    region = next((name for name in reversed(names) if REGION.fullmatch(name)), "")
    names = [name for name in names if name != region]
    for start in range(len(names)):
        label = ".".join(names[start:])
        service = BY_HOST_LABEL.get(label) or BY_HOST_LABEL.get(HOST_PREFIX.sub("", label, count=1))
        if service is not None:
            return Address(service.module, region, "", labels, local)
    return Address("", region, "", labels, local)
