"""The guard: who may ask for what, before anything of the request is read but its head.

A developer's browser runs pages of strangers, and any of them can send requests to a port on this machine. Two checks keep
them out (DESIGN section 8, FIELD.md):

- **host**: a page that rebinds its own domain to 127.0.0.1 sends that domain as Host. Only names that cannot belong to a
  stranger are let in.
- **origin**: a page can send simple requests (a form, text/plain, an image) to any host without asking. Browsers name the page
  in Origin or Referer, and say in Sec-Fetch-Site when they name none. A request that names none of these was not sent by a
  page: the SDKs and command lines.

Control routes change whole states, so they need the page's own origin, and a token when the client is not on this machine.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from holdfast.daemon.gateway.errors import ForeignHost, ForeignOrigin, TokenNeeded
from holdfast.daemon.gateway.hosts import (
    AWS_SUFFIXES,
    HOST_PREFIX,
    LOCAL_SUFFIXES,
    Authority,
    is_loopback,
    parse_authority,
)

if TYPE_CHECKING:
    from holdfast.daemon.gateway.message import HttpRequest

__all__ = ["Guard", "GuardSettings"]

OPEN_ROUTES = re.compile(r"(?:/_localstack)?/(?:health|info)|/_localstack/(?:health|info)/?")
"""Control routes that anyone who reaches the port may read: clients wait on them before they know a token."""

_PREFIXED_LOCALHOST = re.compile(rf"{HOST_PREFIX.pattern}localhost(?:\.localstack\.cloud)?")
"""What botocore makes of an endpoint `localhost` for operations with a host prefix: `sync-localhost`."""


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """`allowed_hosts`: names, or `*.name` for all below one. `allowed_origins`: whole origins, or `*` for any.

    `disable_cors_checks` (LocalStack's DISABLE_CORS_CHECKS) lets every origin use AWS routes; control routes stay guarded.
    `token` opens control routes to other machines; `insecure` opens them without.
    """

    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    disable_cors_checks: bool = False
    token: str | None = None
    insecure: bool = False


class Guard:
    """Checks heads of requests; raises ForeignHost, ForeignOrigin or TokenNeeded for what may not come in."""

    def __init__(self, settings: GuardSettings | None = None) -> None:
        self._settings = settings or GuardSettings()
        names = [name.lower() for name in self._settings.allowed_hosts]
        self._names = frozenset(name for name in names if not name.startswith("*."))
        self.suffixes = tuple(name[2:] for name in names if name.startswith("*."))
        self._origins = frozenset(origin.lower().rstrip("/") for origin in self._settings.allowed_origins)

    def host(self, request: HttpRequest) -> Authority:
        """The authority that was asked for. Raises ForeignHost when it is not one of ours."""
        values = request.all("host")
        if not values and request.http_version == "1.0":
            return Authority(request.local or "localhost", None)  # no browser speaks HTTP/1.0
        if len(values) != 1:
            raise ForeignHost("a request needs exactly one Host header")
        try:
            authority = parse_authority(values[0])
        except ValueError:
            raise ForeignHost("the Host header is not a host name") from None
        if not self._is_ours(authority.name, request.local):
            raise ForeignHost(
                f"the host {authority.name!r} is not served here; HOLDFAST_ALLOWED_HOSTS names others to accept"
            )
        return authority

    def _is_ours(self, name: str, local: str | None) -> bool:
        if is_loopback(name) or name in self._names or name in LOCAL_SUFFIXES:
            return True
        if any(name.endswith(f".{suffix}") for suffix in (*LOCAL_SUFFIXES, *self.suffixes, *AWS_SUFFIXES)):
            return True
        if _PREFIXED_LOCALHOST.fullmatch(name):
            return True
        # The literal address that the connection came to: a page that reached it by rebinding would send a name.
        return local is not None and name == local

    def aws(self, request: HttpRequest, authority: Authority) -> str | None:
        """Check a request to an AWS route; returns the page's origin if it may read the reply, None if there is no page.

        Raises ForeignOrigin for a page that may not; the gateway then asks whether the resource's own CORS lets it.
        """
        origin = page_origin(request)
        if origin is None:
            site = request.get("sec-fetch-site")
            # A page of the same site as a loopback name is on this machine; below localstack.cloud it need not be.
            foreign = site == "cross-site" or (site == "same-site" and not is_loopback(authority.name))
            if foreign and not self._settings.disable_cors_checks:
                raise ForeignOrigin("a page of another site may not send this request")
            return None
        if self._settings.disable_cors_checks or self._allowed(origin) or _is_same(origin, authority):
            return origin
        parts = _split(origin)
        if parts is not None and is_loopback(parts.name):
            return origin
        raise ForeignOrigin(
            f"the origin {_printable(origin)} may not use this endpoint; EXTRA_CORS_ALLOWED_ORIGINS names others to accept"
        )

    def control(self, request: HttpRequest, authority: Authority) -> str | None:
        """Check a request to a control route; returns the page's origin, None if there is no page."""
        if any(authority.name == suffix or authority.name.endswith(f".{suffix}") for suffix in AWS_SUFFIXES):
            raise ForeignHost("control routes are not served at AWS's names")
        origin = page_origin(request)
        if origin is None:
            if request.get("sec-fetch-site") in {"cross-site", "same-site"}:
                raise ForeignOrigin("a page of another site may not use control routes")
        elif not _is_same(origin, authority) and origin.lower() not in self._origins:
            raise ForeignOrigin("control routes answer pages of the same origin only")
        if not OPEN_ROUTES.fullmatch(request.path) or request.method not in {"GET", "HEAD"}:
            self._token(request)
        return origin

    def _allowed(self, origin: str) -> bool:
        return "*" in self._origins or origin.lower() in self._origins

    def _token(self, request: HttpRequest) -> None:
        if request.peer is None or is_loopback(request.peer) or self._settings.insecure:
            return
        if self._settings.token is None or not _carries(request.get("authorization"), self._settings.token):
            raise TokenNeeded("control routes need the daemon's token when they are asked for from another machine")


def page_origin(request: HttpRequest) -> str | None:
    """The origin of the page that sent the request, from Origin or else Referer; None when neither is there.

    Two Origin headers, or a Referer that cannot be read, count as a stranger's.
    """
    origins = request.all("origin")
    if origins:
        return origins[0] if len(origins) == 1 else "null"
    referers = request.all("referer")
    if not referers:
        return None
    try:
        parts = urlsplit(referers[0])
    except ValueError:
        return "null"
    return f"{parts.scheme}://{parts.netloc}" if len(referers) == 1 and parts.scheme and parts.netloc else "null"


def _split(origin: str) -> Authority | None:
    """The authority of an origin; None when it is not an http or https origin (`null`, an extension's)."""
    scheme, separator, rest = origin.partition("://")
    if not separator or scheme.lower() not in {"http", "https"}:
        return None
    try:
        return parse_authority(rest)
    except ValueError:
        return None


def _is_same(origin: str, authority: Authority) -> bool:
    """True when `origin` is this very endpoint, which speaks plain HTTP only."""
    parts = _split(origin)
    if parts is None or not origin.lower().startswith("http://"):
        return False
    return (parts.name, parts.port or 80) == (authority.name, authority.port or 80)


def _carries(authorization: str, token: str) -> bool:
    """True when the header holds the token: as a bearer, or as the password of Basic (SDK and lstk can send that)."""
    scheme, _, value = authorization.partition(" ")
    given = value.strip()
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode("utf-8").partition(":")[2]
        except ValueError:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _printable(text: str) -> str:
    return repr(text[:200])
