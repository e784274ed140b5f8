"""An HTTP request as the gateway sees it: head first, the body once it was let in and read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["HOP_BY_HOP", "HttpRequest"]

HOP_BY_HOP = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that speak to the next hop and not to the service (RFC 9110, section 7.6.1)."""


@dataclass(slots=True)
class HttpRequest:
    """`path` and `query` are raw, as received; header names are lower case, values Latin-1 text (every byte has one).

    `peer` is the address of the client, `local` the one it reached; None for a Unix socket.
    """

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    peer: str | None = None
    local: str | None = None
    http_version: str = "1.1"
    _first: dict[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._first = {}
        for name, value in self.headers:
            self._first.setdefault(name, value)

    @classmethod
    def from_scope(cls, scope: Mapping[str, Any]) -> HttpRequest:
        """The head of the request that an ASGI scope describes."""
        headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
        return cls(
            method=scope["method"],
            path=scope["raw_path"].decode("latin-1") or "/",
            query=scope["query_string"].decode("latin-1"),
            headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers),
            peer=(scope.get("client") or (None,))[0],
            local=(scope.get("server") or (None,))[0],
            http_version=scope.get("http_version", "1.1"),
        )

    def get(self, name: str, default: str = "") -> str:
        """The first value of the header `name` (lower case)."""
        return self._first.get(name, default)

    def all(self, name: str) -> list[str]:
        """Every value of the header `name` (lower case)."""
        return [value for key, value in self.headers if key == name]

    @property
    def target(self) -> str:
        """Path and query as received."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def is_form(self) -> bool:
        """True when the body is a form: the query protocol, or a browser's."""
        return self.get("content-type").startswith("application/x-www-form-urlencoded")
