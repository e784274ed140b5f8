"""Long polls: an SQS ReceiveMessage that waits does so here, never in the executor.

moto's own wait looks at the clock in a loop, and under the executor's frozen clock that would never end. So every
ReceiveMessage is executed with `WaitTimeSeconds=0`; between looks this waits on the bus for a change of SQS, or for the moment
the queue's next message becomes visible. A look that would find nothing is not executed (it would be journalled): the queue is
peeked at first, and only at the deadline an empty receive is executed, for its reply.
"""

from __future__ import annotations

import gzip
import io
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar
from urllib.parse import parse_qsl, urlencode

import anyio

from holdfast.daemon.bus import Bus
from holdfast.daemon.command import Reply, Request
from holdfast.daemon.events import StateDirty
from holdfast.daemon.gateway.errors import BodyTooLarge, MalformedRequest

__all__ = ["WAIT_S_MAX", "LongPolls", "QueueState"]

T = TypeVar("T")

WAIT_S_MAX = 20
"""AWS's limit for WaitTimeSeconds; moto refuses more."""

BODY_BYTES_MAX = 1024 * 1024
"""Of a ReceiveMessage, decompressed: it names a queue and attributes. AWS allows 1 MiB for any SQS request."""

EMPTY_LOOK_EVERY_S = 0.25
"""After a receive that found nothing where the peek saw a message: so that a difference between the two cannot spin."""


class QueueState(Protocol):
    """What a peek tells of a queue (holdfast.daemon.services.moto.queues)."""

    @property
    def wait_s(self) -> int: ...
    @property
    def next_at_s(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class _Poll:
    """A ReceiveMessage that does not wait, and how long the client wants to: None leaves it to the queue."""

    request: Request
    queue: str
    wait_s: int | None


class LongPolls:
    """Runs ReceiveMessage requests.

    `run` executes a request; `peek(account, region, queue, now_s)` looks at a queue without executing anything; `account_of` says
    which account a request speaks for; `now_s` is the wall clock that moto's message times are in.
    """

    def __init__(
        self,
        run: Callable[[Request], Awaitable[Reply]],
        bus: Bus,
        *,
        peek: Callable[[str, str, str, float], QueueState | None],
        account_of: Callable[[Request], str] = lambda request: request.account,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._run = run
        self._bus = bus
        self._peek = peek
        self._account_of = account_of
        self._now_s = now_s
        self._ending = anyio.Event()
        self.waiting = 0

    def end(self) -> None:
        """Let all who wait, and all who come later, have their reply now: the daemon is going down."""
        self._ending.set()

    @staticmethod
    def concerns(request: Request) -> bool:
        """True for the requests that `receive` is for."""
        return request.service == "sqs" and request.operation == "ReceiveMessage"

    async def receive(self, request: Request, gone: Callable[[], Awaitable[None]]) -> Reply | None:
        """The reply to a ReceiveMessage, after the wait it asks for; None when `gone` returned first: the client left."""
        poll = _parse(request)
        self.waiting += 1
        try:
            return await _unless(gone, lambda: self._wait(poll))
        finally:
            self.waiting -= 1

    async def _wait(self, poll: _Poll) -> Reply:
        started_s = time.monotonic()
        with self._bus.subscribe(StateDirty, limit=1, service="sqs") as changes:
            view = self._look(poll)
            if view is None:
                # No such queue, or SQS is not in memory yet: this tells the client, or loads it.
                reply = await self._run(poll.request)
                if not _is_empty(reply):
                    return reply
                view = self._look(poll)
            wait_s = poll.wait_s if poll.wait_s is not None else (view.wait_s if view else 0)
            until_s = started_s + min(wait_s, WAIT_S_MAX)
            while True:
                changes.clear()
                left_s = until_s - time.monotonic()
                view = self._look(poll)
                if view is None or left_s <= 0 or self._ending.is_set() or self._is_due(view):
                    reply = await self._run(poll.request)
                    if not _is_empty(reply) or view is None or left_s <= 0 or self._ending.is_set():
                        return reply
                    await self._pause(min(EMPTY_LOOK_EVERY_S, left_s))
                    continue
                seconds = self._until_next(view, left_s)
                await _unless(self._ending.wait, lambda: changes.wait(seconds))  # noqa: B023 - awaited at once

    def _look(self, poll: _Poll) -> QueueState | None:
        return self._peek(self._account_of(poll.request), poll.request.region, poll.queue, self._now_s())

    def _is_due(self, view: QueueState) -> bool:
        return view.next_at_s is not None and view.next_at_s < self._now_s()

    def _until_next(self, view: QueueState, left_s: float) -> float:
        if view.next_at_s is None:
            return left_s
        # A millisecond later: moto's messages are visible after their time, not at it.
        return min(left_s, max(0.0, view.next_at_s - self._now_s()) + 0.001)

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._ending.wait()


async def _unless(stop: Callable[[], Awaitable[object]], work: Callable[[], Awaitable[T]]) -> T | None:
    """What `work` returns or raises; None when `stop` returned first, and `work` was cancelled."""
    result: T | None = None
    error: Exception | None = None
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await stop()
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        try:
            result = await work()
        except Exception as raised:
            error = raised
        tasks.cancel_scope.cancel()
    if error is not None:
        raise error
    return result


def _parse(request: Request) -> _Poll:
    request = _decompressed(request)
    if request.header("content-type").startswith("application/x-www-form-urlencoded") or not request.header(
        "x-amz-target"
    ):
        return _parse_form(request)
    return _parse_json(request)


def _parse_json(request: Request) -> _Poll:
    try:
        fields = json.loads(request.body or b"{}")
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return _Poll(request, "", 0)  # moto says what is wrong with it
    asked = fields.get("WaitTimeSeconds")
    poll = _Poll(request, _queue_name(fields.get("QueueUrl"), request), _seconds(asked))
    if poll.wait_s is not None and not 0 <= poll.wait_s <= WAIT_S_MAX:
        return replace(poll, wait_s=0)
    body = json.dumps({**fields, "WaitTimeSeconds": 0}).encode()
    return replace(poll, request=replace(request, body=body))


def _parse_form(request: Request) -> _Poll:
    path, _, query = request.target.partition("?")
    in_query = parse_qsl(query, keep_blank_values=True)
    in_body = parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True)
    fields = dict(reversed([*in_query, *in_body]))
    poll = _Poll(request, _queue_name(fields.get("QueueUrl"), request), _seconds(fields.get("WaitTimeSeconds")))
    if poll.wait_s is not None and not 0 <= poll.wait_s <= WAIT_S_MAX:
        return replace(poll, wait_s=0)
    target, body = path, request.body
    if any(name == "Action" for name, _ in in_body):
        body = _without_wait(in_body).encode()
        target = f"{path}?{_kept(in_query)}" if in_query else path
    else:
        target = f"{path}?{_without_wait(in_query)}"
        body = _kept(in_body).encode()
    return replace(poll, request=replace(request, target=target, body=body))


def _kept(fields: list[tuple[str, str]]) -> str:
    return urlencode([pair for pair in fields if pair[0] != "WaitTimeSeconds"])


def _without_wait(fields: list[tuple[str, str]]) -> str:
    return urlencode([*(pair for pair in fields if pair[0] != "WaitTimeSeconds"), ("WaitTimeSeconds", "0")])


def _seconds(asked: object) -> int | None:
    """What moto makes of WaitTimeSeconds: anything that `int` takes; None leaves it to the queue."""
    if asked is None or asked == "":
        return None
    try:
        return int(asked)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        return -1


def _queue_name(url: object, request: Request) -> str:
    # As moto does it: the last part of the queue's URL, which is the request's own path in the older protocol.
    named = url if isinstance(url, str) and url else request.target.partition("?")[0]
    return named.rpartition("/")[2]


def _is_empty(reply: Reply) -> bool:
    """True for a successful receive without messages, in either protocol."""
    if reply.status != 200:
        return False
    return b"<Message>" not in reply.body and b'"Messages"' not in reply.body


def _decompressed(request: Request) -> Request:
    if request.header("content-encoding") != "gzip":
        return request
    try:
        body = gzip.GzipFile(fileobj=io.BytesIO(request.body)).read(BODY_BYTES_MAX + 1)
    except (OSError, EOFError) as error:
        raise MalformedRequest("the body is not gzip, as Content-Encoding says it is") from error
    if len(body) > BODY_BYTES_MAX:
        raise BodyTooLarge("a ReceiveMessage is never so large")
    headers = tuple(pair for pair in request.headers if pair[0] not in {"content-encoding", "content-length"})
    return replace(request, body=body, headers=headers)
