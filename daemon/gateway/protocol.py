"""Connections: uvicorn's HTTP/1.1 protocol with the limits that it does not have.

uvicorn reads headers of any length for any time. Here a head has a size, a number of lines and a deadline, a connection that
never asks for anything is closed, and a client that speaks TLS is told that this port does not.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from holdfast.daemon.gateway.limits import Limits

if TYPE_CHECKING:
    from typing import Any

__all__ = ["EdgeProtocol", "with_limits"]

TLS_HANDSHAKE = 0x16
"""First byte of a TLS client's first record (RFC 8446, section 5.1); no HTTP method starts with it."""

TLS_LOG_EVERY_S = 10.0
"""A client that is set up wrong tries again and again: say it once in a while."""

log = structlog.get_logger(__name__)


class HeadRefused(Exception):
    """Raised inside the parser when a head exceeds a limit; the parser stops, and `send_400_response` says why."""


class _OneWrite:
    """A transport that sends the head of a reply together with its body, in one system call.

    Not for speed alone: boto3 takes a reply whose body is missing for a success with nothing in it, so a daemon that is killed
    between two writes would seem to have answered. uvicorn writes head and body one after the other within a turn of the loop.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        else:
            self._head = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class EdgeProtocol(HttpToolsProtocol):
    """One connection."""

    limits: ClassVar[Limits] = Limits()
    _tls_logged_s: ClassVar[float] = -TLS_LOG_EVERY_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._first = True
        self._head_bytes = 0
        self._unparsed_bytes = 0
        self._reading_head = False
        self._refusal: tuple[HTTPStatus, str, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_OneWrite(transport, self.loop))  # type: ignore[arg-type]
        self._deadline = self.loop.call_later(self.limits.idle_timeout_s, self._idle)
        if len(self.connections) > self.limits.connections_max:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", "too many connections are open")
            self.send_400_response("")

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._first:
            self._first = False
            if data[0] == TLS_HANDSHAKE:
                self._answer_tls()
                return
        if not self._reading_head and (self.cycle is None or not self.cycle.more_body):
            self._reading_head = True
            self._cancel_deadline()
            self._deadline = self.loop.call_later(self.limits.head_timeout_s, self._slow_head)
        super().data_received(data)
        if self._reading_head and not self.transport.is_closing():
            # The parser hands over a header once it is whole, so one without an end is counted here.
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes > self.limits.head_bytes_max:
                self._refuse_head()
                self.send_400_response("")

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        if len(self.headers) >= self.limits.headers_max:
            self._refuse_head()
            raise HeadRefused
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._reading_head = False
        self._unparsed_bytes = 0
        self._cancel_deadline()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        status, code, said = self._refusal or (HTTPStatus.BAD_REQUEST, "BadRequest", "this is not an HTTP request")
        # Before the head is read nobody knows which AWS protocol the client speaks: this is the shape that needs no header.
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{said}</Message></Error>'
        ).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/xml\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        ).encode()
        self.transport.write(head + body)
        self.transport.close()

    def _count(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > self.limits.head_bytes_max:
            self._refuse_head()
            raise HeadRefused

    def _refuse(self, status: HTTPStatus, code: str, said: str) -> None:
        self._refusal = (status, code, said)

    def _refuse_head(self) -> None:
        said = f"a request may have {self.limits.headers_max} headers and {self.limits.head_bytes_max} bytes before its body"
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "RequestHeaderSectionTooLarge", said)

    def _answer_tls(self) -> None:
        now_s = time.monotonic()
        if now_s - EdgeProtocol._tls_logged_s >= TLS_LOG_EVERY_S:
            EdgeProtocol._tls_logged_s = now_s
            log.warning("a client spoke TLS to this port, which speaks plain HTTP: use http:// in the endpoint URL")
        # TLS clients take any HTTP reply for "wrong version number", the error that is known to mean plain HTTP.
        self._refuse(HTTPStatus.BAD_REQUEST, "BadRequest", "this port speaks plain HTTP: use http://")
        self.send_400_response("")

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _idle(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _slow_head(self) -> None:
        if self.transport.is_closing():
            return
        said = f"the headers did not come within {self.limits.head_timeout_s:g} s"
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "RequestTimeout", said)
        self.send_400_response("")


def with_limits(limits: Limits) -> type[EdgeProtocol]:
    """The protocol class under `limits`: uvicorn makes the connections, and takes a class only."""
    return type("LimitedEdgeProtocol", (EdgeProtocol,), {"limits": limits})
