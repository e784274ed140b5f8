"""CORS: what a page that may use this endpoint is told, so that its browser lets it (https://fetch.spec.whatwg.org).

The guard has decided before; nothing here lets anybody in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.daemon.command import Reply

if TYPE_CHECKING:
    from holdfast.daemon.gateway.message import HttpRequest

__all__ = ["is_preflight", "preflight", "with_cors"]

METHODS = "HEAD,GET,PUT,POST,DELETE,OPTIONS,PATCH"

PREFLIGHT_LIFE_S = 600
"""How long a browser may remember a preflight: Chromium's own limit is two hours, ten minutes follow a changed setting soon."""

EXPOSED = (
    "etag,location,retry-after,x-amz-bucket-region,x-amz-delete-marker,x-amz-id-2,x-amz-request-id,x-amz-version-id,"
    "x-amzn-errortype,x-amzn-requestid"
)
"""Reply headers that scripts may read, which SDKs in a browser do."""


def is_preflight(request: HttpRequest) -> bool:
    """True for the question that a browser asks before a request of a page."""
    return request.method == "OPTIONS" and bool(request.get("origin") and request.get("access-control-request-method"))


def preflight(request: HttpRequest, origin: str) -> Reply:
    """Yes: `origin` may send what it asks about."""
    headers = [
        ("access-control-allow-methods", METHODS),
        ("access-control-allow-headers", request.get("access-control-request-headers") or "*"),
        ("access-control-max-age", str(PREFLIGHT_LIFE_S)),
    ]
    if request.get("access-control-request-private-network") == "true":
        headers.append(("access-control-allow-private-network", "true"))
    return with_cors(Reply(204, tuple(headers), b""), origin)


def with_cors(reply: Reply, origin: str) -> Reply:
    """`reply`, readable by a page of `origin`; what the service itself said about origins is replaced."""
    kept = tuple(
        pair
        for pair in reply.headers
        if pair[0].lower() not in {"access-control-allow-origin", "access-control-allow-credentials", "vary"}
    )
    allowed = (
        ("access-control-allow-origin", origin),
        ("access-control-expose-headers", EXPOSED),
        ("vary", "Origin"),
    )
    return Reply(reply.status, kept + allowed, reply.body)
