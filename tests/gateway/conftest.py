"""What the gateway's tests share: fakes for the executor and the control routes, and an ASGI client without a socket."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from holdfast.daemon.bus import Bus
from holdfast.daemon.command import Reply, Request
from holdfast.daemon.events import StateDirty
from holdfast.daemon.gateway import Gateway, Guard, GuardSettings, Limits, LongPolls, Router, failure
from holdfast.daemon.gateway.message import HttpRequest
from holdfast.daemon.gateway.server import Server, build_server
from holdfast.daemon.services.moto import queues
from holdfast.daemon.services.moto.dispatch import Dispatch


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Refused(Exception):
    """Stands for the executor's Unavailable."""


class FakeExecutor:
    """Remembers what it was asked to run; answers with `reply`, or raises `error`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.reply = Reply(200, (("content-type", "text/plain"),), b"done")
        self.error: Exception | None = None

    async def run(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        return self.reply


class FakeControl:
    """Owns /_localstack/*; remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []

    def owns(self, request: HttpRequest) -> bool:
        return request.path.startswith(("/_localstack", "/_holdfast"))

    async def answer(self, request: HttpRequest) -> Reply:
        self.requests.append(request)
        return Reply(200, (("content-type", "application/json"),), b"{}")


@dataclass
class Answer:
    """What an ASGI application sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Edge:
    """A gateway with fakes behind it, and a client before it."""

    gateway: Gateway
    executor: FakeExecutor
    control: FakeControl

    async def ask(
        self,
        method: str = "GET",
        target: str = "/",
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        body: bytes = b"",
        **scope: Any,
    ) -> Answer:
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
        if not any(name.lower() == "host" for name, _ in pairs):
            pairs.append(("host", "localhost:4566"))
        path, _, query = target.partition("?")
        messages = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
        answer = Answer()

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
            else:
                answer.body += message.get("body", b"")

        await self.gateway(
            {
                "type": "http",
                "http_version": "1.1",
                "method": method,
                "raw_path": path.encode(),
                "query_string": query.encode(),
                "headers": [(name.lower().encode(), value.encode()) for name, value in pairs],
                "client": ("127.0.0.1", 50000),
                "server": ("127.0.0.1", 4566),
                **scope,
            },
            receive,
            send,
        )
        return answer


@pytest.fixture
def make_edge() -> Callable[..., Edge]:
    def make(settings: GuardSettings | None = None, limits: Limits | None = None, *, serving: bool = True) -> Edge:
        executor, control = FakeExecutor(), FakeControl()
        guard = Guard(settings)
        gateway = Gateway(
            executor,
            control,
            guard=guard,
            router=Router(suffixes=guard.suffixes),
            polls=LongPolls(executor.run, Bus(), peek=lambda *_: None),
            refusals=(Refused,),
            limits=limits,
        )
        if serving:
            gateway.serve()
        return Edge(gateway, executor, control)

    return make


@pytest.fixture
def edge(make_edge: Callable[..., Edge]) -> Edge:
    return make_edge()


@pytest.fixture
def refused() -> type[Exception]:
    return Refused


class MotoExecutor:
    """Runs requests in moto, with no journal, clock or seed, and tells the bus: what these tests need of the executor."""

    def __init__(self, bus: Bus) -> None:
        self._dispatch = Dispatch()
        self._bus = bus
        self.requests: list[Request] = []

    async def run(self, request: Request) -> Reply:
        self.requests.append(request)
        self._dispatch.prepare(request.service)
        try:
            reply = self._dispatch(request)
        except Exception as error:  # the executor turns what a service raises into its reply
            reply = failure(request, error)
        if not request.operation.startswith(("Get", "List", "Describe")):
            self._bus.publish(StateDirty(request.service, len(self.requests)))
        return reply


@dataclass
class Served:
    """A gateway on a port, in a thread of its own."""

    port: int
    executor: MotoExecutor
    gateway: Gateway

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"


@contextmanager
def serving(limits: Limits | None = None) -> Iterator[Served]:
    """moto behind the gateway, behind uvicorn, behind a socket."""
    limits = limits or Limits()
    listener = socket.create_server(("127.0.0.1", 0))
    ready: queue.Queue[tuple[Served, Server, asyncio.AbstractEventLoop]] = queue.Queue()

    async def serve() -> None:
        bus = Bus()
        executor = MotoExecutor(bus)
        gateway = Gateway(
            executor,
            FakeControl(),
            guard=Guard(GuardSettings()),
            router=Router(),
            polls=LongPolls(executor.run, bus, peek=queues.look),
            limits=limits,
        )
        gateway.serve()
        server = build_server(gateway, limits, drain_s=1)
        served = Served(listener.getsockname()[1], executor, gateway)
        ready.put((served, server, asyncio.get_running_loop()))
        await server.serve(sockets=[listener])

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    served, server, loop = ready.get(timeout=10)
    try:
        yield served
    finally:
        loop.call_soon_threadsafe(served.gateway.drain)
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    with serving() as running:
        yield running


@pytest.fixture
def serve_with() -> Callable[..., Any]:
    return serving
