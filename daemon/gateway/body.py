"""Bodies: read whole, within limits, with a deadline between two pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from holdfast.daemon.gateway.errors import BodyTooLarge, MalformedRequest, Overloaded, RequestTimeout

if TYPE_CHECKING:
    from holdfast.daemon.gateway.limits import Limits
    from holdfast.daemon.gateway.message import HttpRequest

__all__ = ["Bodies", "ClientGone"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(Exception):
    """Raised when the client closed the connection: there is nobody to answer."""


class Bodies:
    """All bodies in work, and the bytes they hold together."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held_bytes = 0

    @asynccontextmanager
    async def read(self, request: HttpRequest, receive: Receive, bytes_max: int) -> AsyncIterator[None]:
        """Put the body into `request` for as long as the block lasts. Raises BodyTooLarge, Overloaded, RequestTimeout,
        MalformedRequest, ClientGone."""
        announced = _announced(request)
        if announced > bytes_max:
            # Before a byte is asked for: a client that sent `Expect: 100-continue` sends none.
            raise BodyTooLarge(f"the body has {announced} bytes; {bytes_max} are allowed")
        held = 0
        try:
            pieces: list[bytes] = []
            more = True
            while more:
                message = await self._next(receive)
                more = message.get("more_body", False)
                piece: bytes = message.get("body", b"")
                held += len(piece)
                self.held_bytes += len(piece)
                if held > bytes_max:
                    raise BodyTooLarge(f"the body has more than the {bytes_max} bytes that are allowed")
                if self.held_bytes > self._limits.bodies_bytes_max:
                    raise Overloaded("the bodies of the requests in work fill the memory set aside for them")
                pieces.append(piece)
            request.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            del pieces
            yield
        finally:
            self.held_bytes -= held
            request.body = b""

    async def _next(self, receive: Receive) -> MutableMapping[str, Any]:
        with anyio.move_on_after(self._limits.body_timeout_s):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            return message
        raise RequestTimeout(f"nothing of the body came for {self._limits.body_timeout_s:g} s")


def _announced(request: HttpRequest) -> int:
    lengths = set(request.all("content-length"))
    if len(lengths) > 1:
        raise MalformedRequest("two different Content-Length headers")
    length = lengths.pop() if lengths else "0"
    if not length.isdigit():
        raise MalformedRequest("Content-Length is not a number")
    return int(length)
