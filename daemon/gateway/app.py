"""The gateway: an ASGI application that turns HTTP requests into commands, and the replies back.

    head ─▶ guard ─▶ control route? ─▶ control
                  └▶ recovered? ─▶ body ─▶ router ─▶ executor (long polls wait first) ─▶ reply

Everything that goes wrong on the way is a GatewayError, answered in the client's own AWS protocol; anything else is a bug: the
client gets InternalFailure, the log the traceback.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import re
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from email.utils import formatdate
from typing import Any, Protocol

import anyio
import structlog

from holdfast.daemon.command import Reply, Request
from holdfast.daemon.gateway.body import Bodies, ClientGone
from holdfast.daemon.gateway.bucket_cors import BucketCors, asked_headers
from holdfast.daemon.gateway.cors import is_preflight, preflight, with_cors
from holdfast.daemon.gateway.errors import (
    ForeignOrigin,
    GatewayError,
    InternalFailure,
    Overloaded,
    ServiceUnavailable,
    UnknownService,
    UriTooLong,
    render,
)
from holdfast.daemon.gateway.guard import Guard
from holdfast.daemon.gateway.limits import Limits
from holdfast.daemon.gateway.message import HOP_BY_HOP, HttpRequest
from holdfast.daemon.gateway.router import Router
from holdfast.daemon.gateway.waiting import LongPolls
from holdfast.daemon.services.moto.dispatch import UnknownService as NoSuchService

__all__ = ["Control", "Executor", "Gateway", "Phase"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = structlog.get_logger(__name__)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Phase(enum.Enum):
    """What the gateway does with AWS requests."""

    RECOVERING = "recovering"
    """They wait until recovery is over, and then run."""
    SERVING = "serving"
    """They run."""
    DRAINING = "draining"
    """Those inside run to their end, long polls end now, new ones are told to come again."""


class Executor(Protocol):
    """What runs commands (holdfast.daemon.executor)."""

    async def run(self, request: Request) -> Reply:
        """Execute `request`; raises UnknownService, and what the gateway was told are refusals."""


class Control(Protocol):
    """What answers control routes (holdfast.daemon.control)."""

    def owns(self, request: HttpRequest) -> bool:
        """True when the request is for a control route and not for AWS."""

    async def answer(self, request: HttpRequest) -> Reply:
        """The reply to a request that `owns` and the guard let in."""


class Gateway:
    """The ASGI application. It starts in Phase.RECOVERING; `serve` and `drain` move it on.

    `refusals` are the exceptions by which the executor says that it did not take a command, or cannot acknowledge it.
    """

    def __init__(
        self,
        executor: Executor,
        control: Control,
        *,
        guard: Guard,
        router: Router,
        polls: LongPolls,
        refusals: tuple[type[Exception], ...] = (),
        limits: Limits | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._executor = executor
        self._control = control
        self._guard = guard
        self._router = router
        self._polls = polls
        self._refusals = refusals
        self._limits = limits or Limits()
        self._bodies = Bodies(self._limits)
        self._bucket_cors = BucketCors(self._run)
        self._now_s = now_s
        self._recovered = anyio.Event()
        self.phase = Phase.RECOVERING
        self.in_work = 0
        self._idle = anyio.Event()
        self.served = 0

    def serve(self) -> None:
        """Recovery is over: let AWS requests run."""
        self.phase = Phase.SERVING
        self._recovered.set()

    def drain(self) -> None:
        """Take no new AWS request, and let those that wait have their replies."""
        self.phase = Phase.DRAINING
        self._recovered.set()
        self._polls.end()

    async def drained(self) -> None:
        """Return when no request is in work; after `drain` there will be none again."""
        while self.in_work:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = HttpRequest.from_scope(scope)
        self.in_work += 1
        try:
            await self._send(await self._reply(request, receive), request, send)
        except ClientGone:
            pass
        finally:
            self.in_work -= 1
            self.served += 1
            if self.in_work == 0:
                self._idle.set()

    async def _reply(self, request: HttpRequest, receive: Receive) -> Reply:
        """The answer to `request`, whatever it is. Raises ClientGone alone."""
        try:
            return await self._answer(request, receive)
        except GatewayError as error:
            if error.status < 500:
                log.info("refused", reason=type(error).__name__, said=error.message, method=request.method)
            return render(error, request, self._router.service(request))
        except ClientGone:
            raise
        except Exception:
            log.exception("the gateway failed", method=request.method, path=request.path)
            return render(InternalFailure("something went wrong here; the log has the details"), request)

    async def _answer(self, request: HttpRequest, receive: Receive) -> Reply:
        if len(request.path) + len(request.query) > self._limits.uri_bytes_max:
            raise UriTooLong(f"path and query may have {self._limits.uri_bytes_max} bytes together")
        authority = self._guard.host(request)
        if self._control.owns(request):
            return await self._answer_control(request, self._guard.control(request, authority), receive)
        try:
            origin = self._guard.aws(request, authority)
        except ForeignOrigin as refusal:
            return await self._answer_stranger(refusal, request, receive)
        if origin is not None and is_preflight(request):
            return preflight(request, origin)
        reply = await self._answer_aws(request, receive)
        return with_cors(reply, origin) if origin is not None else reply

    async def _answer_stranger(self, refusal: ForeignOrigin, request: HttpRequest, receive: Receive) -> Reply:
        """A page that the guard turned away: only an S3 bucket's own CORS rules can let it in. Raises `refusal` otherwise."""
        origin = request.get("origin")
        if not origin or self._router.service(request) != "s3":
            raise refusal
        await self._admitted()
        rule = await self._bucket_cors.rule_for(await self._router.route(request), request, origin)
        if rule is None:
            raise refusal
        is_question = is_preflight(request)
        reply = Reply(200, (), b"") if is_question else await self._answer_aws(request, receive)
        return rule.mark(reply, origin, asked_headers(request))

    async def _answer_control(self, request: HttpRequest, origin: str | None, receive: Receive) -> Reply:
        if origin is not None and is_preflight(request):
            return preflight(request, origin)
        async with self._bodies.read(request, receive, self._limits.body_bytes_max):
            reply = await self._control.answer(request)
        return with_cors(reply, origin) if origin is not None else reply

    async def _answer_aws(self, request: HttpRequest, receive: Receive) -> Reply:
        if self.in_work > self._limits.requests_max:
            raise Overloaded(f"{self._limits.requests_max} requests are in work")
        await self._admitted()
        async with self._bodies.read(request, receive, self._body_bytes_max(request)):
            return await self._execute(await self._router.route(request), receive)

    def _body_bytes_max(self, request: HttpRequest) -> int:
        """The limit of this request's body. Whose it is matters only beyond the smaller one, so most are not asked."""
        length = request.get("content-length", "0")
        if not request.get("transfer-encoding") and length.isdigit() and int(length) <= self._limits.body_bytes_max:
            return self._limits.body_bytes_max
        is_object = self._router.service(request) == "s3"
        return self._limits.object_bytes_max if is_object else self._limits.body_bytes_max

    async def _admitted(self) -> None:
        if self.phase is Phase.RECOVERING:
            with anyio.move_on_after(self._limits.first_byte_s):
                await self._recovered.wait()
        if self.phase is not Phase.SERVING:
            raise ServiceUnavailable(f"the daemon is {self.phase.value}")

    async def _execute(self, request: Request, receive: Receive) -> Reply:
        if not LongPolls.concerns(request):
            return await self._run(request)
        with self._refusals_as_errors(request):
            reply = await self._polls.receive(request, functools.partial(_disconnected, receive))
        if reply is None:
            raise ClientGone
        return reply

    async def _run(self, request: Request) -> Reply:
        with self._refusals_as_errors(request):
            return await self._executor.run(request)

    @contextlib.contextmanager
    def _refusals_as_errors(self, request: Request) -> Iterator[None]:
        try:
            yield
        except self._refusals as error:
            raise ServiceUnavailable(str(error)) from error
        except NoSuchService as error:
            raise UnknownService(f"there is no service {request.service!r}") from error

    async def _send(self, reply: Reply, request: HttpRequest, send: Send) -> None:
        await send({"type": "http.response.start", "status": reply.status, "headers": self._headers(reply, request)})
        body = b"" if request.method == "HEAD" or reply.status in {204, 304} else reply.body
        await send({"type": "http.response.body", "body": body})

    def _headers(self, reply: Reply, request: HttpRequest) -> list[tuple[bytes, bytes]]:
        """The reply's headers as bytes, with the length of what is sent, and a date if the service gave none."""
        headers: list[tuple[bytes, bytes]] = []
        length = str(len(reply.body))
        names = set()
        for name, value in reply.headers:
            lower = name.lower()
            if lower == "content-length":
                # moto answers a HEAD with the length of the body it leaves out.
                length = value if request.method == "HEAD" else length
            elif lower not in HOP_BY_HOP:
                names.add(lower)
                headers.append((lower.encode("latin-1", "replace"), _header_value(value)))
        if "date" not in names:
            headers.append((b"date", _http_date(int(self._now_s()))))
        if reply.status not in {204, 304}:
            headers.append((b"content-length", length.encode()))
        if reply.status in {408, 413}:
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        return headers


async def _lifespan(receive: Receive, send: Send) -> None:
    # The composition root starts and stops the parts; the server only wants to hear that it may go on.
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@functools.lru_cache(maxsize=2)
def _http_date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


def _header_value(value: str) -> bytes:
    """A value as bytes that HTTP allows: control characters, which could end the header, become spaces."""
    clean = _CONTROL.sub(" ", value)
    try:
        return clean.encode("latin-1")  # as received: HttpRequest reads headers as Latin-1
    except UnicodeEncodeError:
        return clean.encode("utf-8", "replace")
