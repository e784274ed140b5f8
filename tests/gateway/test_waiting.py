"""Long polls: a receive waits outside of the executor, and no longer than it must."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import anyio
import anyio.lowlevel
import pytest

from holdfast.daemon.bus import Bus
from holdfast.daemon.command import Reply, Request
from holdfast.daemon.events import StateDirty
from holdfast.daemon.gateway.errors import BodyTooLarge, MalformedRequest
from holdfast.daemon.gateway.waiting import LongPolls
from holdfast.daemon.services.moto.queues import QueueView

pytestmark = pytest.mark.anyio

EMPTY = Reply(200, (), b"{}")
FULL = Reply(200, (), b'{"Messages": [{"Body": "x"}]}')


class Queue:
    """A queue of which only the state matters that a peek sees; every receive is remembered."""

    def __init__(self, wait_s: int = 0) -> None:
        self.bus = Bus()
        self.view: QueueView | None = QueueView(wait_s, None)
        self.requests: list[Request] = []
        self.polls = LongPolls(self.run, self.bus, peek=self.peek)
        self.peeks = 0

    def peek(self, *_: object) -> QueueView | None:
        self.peeks += 1
        return self.view

    async def run(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.view is None:
            return Reply(400, (), b'{"__type": "QueueDoesNotExist"}')
        return FULL if self.view.next_at_s is not None and self.view.next_at_s < time.time() else EMPTY

    def send(self, *, visible_in_s: float = -0.001) -> None:
        assert self.view is not None
        self.view = QueueView(self.view.wait_s, time.time() + visible_in_s)
        self.bus.publish(StateDirty("sqs", 1))


def receive(body: dict[str, Any] | bytes, **headers: str) -> Request:
    raw = (
        body
        if isinstance(body, bytes)
        else json.dumps({"QueueUrl": "http://localhost/000000000000/q", **body}).encode()
    )
    named = (("x-amz-target", "AmazonSQS.ReceiveMessage"), *((k.replace("_", "-"), v) for k, v in headers.items()))
    return Request("sqs", "ReceiveMessage", "us-east-1", "000000000000", "POST", "/", named, raw)


@asynccontextmanager
async def polling(
    queue: Queue, request: Request, gone: Callable[[], Awaitable[None]] = anyio.sleep_forever
) -> AsyncIterator[Any]:
    """A poll in work; its reply and duration are in the object once the block is left."""

    class Outcome:
        reply: Reply | None = None
        took_s = 0.0

    outcome = Outcome()

    async def poll() -> None:
        started_s = time.monotonic()
        outcome.reply = await queue.polls.receive(request, gone)
        outcome.took_s = time.monotonic() - started_s

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poll)
        await anyio.sleep(0.02)
        yield outcome


async def test_receive_without_a_wait_returns_at_once() -> None:
    """A short poll is one command, empty or not."""
    queue = Queue()
    async with polling(queue, receive({})) as outcome:
        pass
    assert outcome.reply is EMPTY
    assert outcome.took_s < 0.015
    assert len(queue.requests) == 1


async def test_message_ends_the_wait() -> None:
    """A message that comes while a client waits is delivered at once, and nothing was executed before it came."""
    queue = Queue()
    async with polling(queue, receive({"WaitTimeSeconds": 20})) as outcome:
        assert queue.requests == []
        assert queue.polls.waiting == 1
        queue.send()
    assert outcome.reply is FULL
    assert outcome.took_s < 1
    assert len(queue.requests) == 1
    assert queue.polls.waiting == 0


async def test_executor_never_sees_a_wait() -> None:
    """moto's own wait would never end under a frozen clock: every spelling of one becomes 0."""
    queue = Queue()
    queue.send()
    for asked in (20, "20", 1.5, True, None):
        async with polling(queue, receive({"WaitTimeSeconds": asked, "MaxNumberOfMessages": 3})):
            pass
        fields = json.loads(queue.requests[-1].body)
        assert (fields["WaitTimeSeconds"], fields["MaxNumberOfMessages"]) == (0, 3)


async def test_form_is_served_alike() -> None:
    """The query protocol's wait is taken out too, wherever it stands and however it is spelled."""
    queue = Queue()
    queue.send()
    form = (("content-type", "application/x-www-form-urlencoded"),)
    in_body = Request(
        "sqs", "ReceiveMessage", "us-east-1", "0" * 12, "POST", "/000000000000/q", form,
        b"Action=ReceiveMessage&Wait%54imeSeconds=20&WaitTimeSeconds=5&AttributeName.1=All&X=a%26b",
    )  # fmt: skip
    in_query = Request(
        "sqs",
        "ReceiveMessage",
        "us-east-1",
        "0" * 12,
        "GET",
        "/000000000000/q?Action=ReceiveMessage&WaitTimeSeconds=7",
        (),
        b"",
    )
    for request in (in_body, in_query):
        async with polling(queue, request):
            pass
    first, second = queue.requests
    assert parse_qs(first.body.decode()) == {
        "Action": ["ReceiveMessage"], "AttributeName.1": ["All"], "X": ["a&b"], "WaitTimeSeconds": ["0"],
    }  # fmt: skip
    assert second.target == "/000000000000/q?Action=ReceiveMessage&WaitTimeSeconds=0"


async def test_wait_that_moto_refuses_is_left_for_moto() -> None:
    """An error of the service is the service's to word."""
    queue = Queue()
    for asked in (21, -1, "abc", [], 1e400):
        request = receive({"WaitTimeSeconds": asked})
        async with polling(queue, request):
            pass
        assert queue.requests[-1] == request


async def test_wait_ends_at_its_deadline() -> None:
    """Nothing came: after the asked time one empty receive is executed, for its reply."""
    queue = Queue()
    async with polling(queue, receive({"WaitTimeSeconds": 1})) as outcome:
        pass
    assert outcome.reply is EMPTY
    assert 0.95 < outcome.took_s < 1.3
    assert len(queue.requests) == 1


async def test_queues_own_wait_counts() -> None:
    """ReceiveMessageWaitTimeSeconds holds where the request says nothing; what the request says wins."""
    queue = Queue(wait_s=1)
    async with polling(queue, receive({})) as outcome:
        pass
    assert 0.95 < outcome.took_s < 1.3
    async with polling(queue, receive({"WaitTimeSeconds": 0})) as outcome:
        pass
    assert outcome.took_s < 0.015


async def test_delayed_message_wakes_the_wait_in_its_time() -> None:
    """A delayed message, or one whose visibility timeout passes, changes nothing when it becomes visible: a timer knows."""
    queue = Queue()
    queue.send(visible_in_s=0.3)
    async with polling(queue, receive({"WaitTimeSeconds": 20})) as outcome:
        pass
    assert outcome.reply is FULL
    assert 0.25 < outcome.took_s < 0.6
    assert len(queue.requests) == 1


async def test_peek_that_is_wrong_does_not_spin() -> None:
    """Where a peek sees a message and the receive does not, the next look is a quarter of a second away."""
    queue = Queue()

    async def always_empty(request: Request) -> Reply:
        queue.requests.append(request)
        return EMPTY

    queue.polls = LongPolls(always_empty, queue.bus, peek=lambda *_: QueueView(0, 0.0))
    async with polling(queue, receive({"WaitTimeSeconds": 1})) as outcome:
        pass
    assert outcome.reply is EMPTY
    assert 3 <= len(queue.requests) <= 6


async def test_unknown_queue_is_told_at_once() -> None:
    """Whoever waits on a queue that is not there, or goes away, has the service's error now."""
    queue = Queue()
    queue.view = None
    async with polling(queue, receive({"WaitTimeSeconds": 20})) as outcome:
        pass
    assert outcome.reply is not None
    assert outcome.reply.status == 400
    queue = Queue()
    async with polling(queue, receive({"WaitTimeSeconds": 20})) as outcome:
        queue.view = None
        queue.bus.publish(StateDirty("sqs", 1))
    assert outcome.reply is not None
    assert outcome.reply.status == 400


async def test_changes_of_other_services_wake_nobody() -> None:
    """Whatever else a busy daemon does, a poll is not asked; and it hides no change of SQS."""
    queue = Queue()
    async with polling(queue, receive({"WaitTimeSeconds": 20})) as outcome:
        before = queue.peeks
        for lsn in range(100):
            queue.bus.publish(StateDirty("dynamodb", lsn))
            await anyio.lowlevel.checkpoint()
        assert queue.peeks == before
        queue.send()
        for lsn in range(100):
            queue.bus.publish(StateDirty("dynamodb", lsn))
    assert outcome.reply is FULL


async def test_client_that_leaves_stops_its_wait() -> None:
    """Nobody is there to be answered: no receive is executed, so no message becomes invisible."""
    queue = Queue()
    left = anyio.Event()
    async with polling(queue, receive({"WaitTimeSeconds": 20}), left.wait) as outcome:
        left.set()
    assert outcome.reply is None
    assert queue.requests == []
    assert queue.polls.waiting == 0


async def test_daemon_that_goes_down_ends_all_waits() -> None:
    """Draining does not take 20 s: who waits has an empty reply, and who comes later does not wait."""
    queue = Queue()
    async with polling(queue, receive({"WaitTimeSeconds": 20})) as outcome:
        queue.polls.end()
    assert outcome.reply is EMPTY
    async with polling(queue, receive({"WaitTimeSeconds": 20})) as outcome:
        pass
    assert outcome.took_s < 0.015


async def test_error_of_a_run_is_the_callers() -> None:
    """What the executor raises comes out as itself, not wrapped in a group."""
    queue = Queue()
    queue.send()

    async def fails(request: Request) -> Reply:
        raise LookupError("x")

    queue.polls = LongPolls(fails, queue.bus, peek=lambda *_: queue.view)
    with pytest.raises(LookupError):
        await queue.polls.receive(receive({"WaitTimeSeconds": 20}), anyio.sleep_forever)
    assert queue.polls.waiting == 0


async def test_thousand_waiting_clients_cost_nothing() -> None:
    """A thousand polls wait at once, and one message makes each look once."""
    queue = Queue()
    replies: list[Reply | None] = []

    async def poll() -> None:
        replies.append(await queue.polls.receive(receive({"WaitTimeSeconds": 20}), anyio.sleep_forever))

    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(poll)
        await anyio.wait_all_tasks_blocked()
        assert queue.polls.waiting == 1000
        assert queue.requests == []
        queue.send()
    assert replies == [FULL] * 1000


async def test_compressed_receive_is_read() -> None:
    """A gzip body hides no wait from us; one that is none, or a bomb, is refused."""
    queue = Queue()
    queue.send()
    body = gzip.compress(json.dumps({"QueueUrl": "q", "WaitTimeSeconds": 9}).encode())
    async with polling(queue, receive(body, content_encoding="gzip")):
        pass
    assert json.loads(queue.requests[0].body)["WaitTimeSeconds"] == 0
    assert queue.requests[0].header("content-encoding") == ""
    with pytest.raises(MalformedRequest):
        await queue.polls.receive(receive(b"no gzip", content_encoding="gzip"), anyio.sleep_forever)
    bomb = gzip.compress(b"x" * (2 << 20))
    with pytest.raises(BodyTooLarge):
        await queue.polls.receive(receive(bomb, content_encoding="gzip"), anyio.sleep_forever)
