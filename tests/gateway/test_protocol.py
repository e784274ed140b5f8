"""Connections: what no client of ours sends is answered or cut off, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from holdfast.daemon.gateway import Limits
from holdfast.daemon.gateway.protocol import _OneWrite


class Wire:
    """A client that sends what it likes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)

    def send(self, data: bytes) -> Wire:
        self.socket.sendall(data)
        return self

    def read(self, until: bytes = b"") -> bytes:
        """Everything up to `until`, or until the server closes."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while not until or until not in data:
                piece = self.socket.recv(65536)
                if not piece:
                    break
                data += piece
        return data

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def wire(served: Any) -> Iterator[Callable[[], Wire]]:
    opened: list[Wire] = []

    def make(port: int = 0) -> Wire:
        opened.append(Wire(port or served.port))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


GET = b"GET /bucket-x/key HTTP/1.1\r\nHost: localhost\r\n"
HEALTH = b"GET /_localstack/health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def is_served(make: Callable[..., Wire], port: int = 0, within_s: float = 1.0) -> bool:
    started_s = time.monotonic()
    ok = make(port).send(HEALTH).read(b"{}").startswith(b"HTTP/1.1 200")
    return ok and time.monotonic() - started_s < within_s


def test_tls_hello_is_told_to_use_http(served: Any, wire: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that speaks TLS fails at once, and the log says what to change; repeats are not repeated there."""
    from holdfast.daemon.gateway.protocol import TLS_LOG_EVERY_S, EdgeProtocol

    monkeypatch.setattr(EdgeProtocol, "_tls_logged_s", time.monotonic() - TLS_LOG_EVERY_S)
    context = ssl.create_default_context()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", served.port), timeout=5) as plain:
                context.wrap_socket(plain, server_hostname="localhost")
    said = [entry["event"] for entry in logs if "http://" in entry["event"]]
    assert len(said) == 1
    assert is_served(wire)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\x03" * 100,
        b"HELLO\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    ],
)
def test_garbage_is_answered_and_closed(garbage: bytes, wire: Callable[..., Wire], served: Any) -> None:
    """What is not HTTP is told so and closed; it is never a 500 and reaches no backend."""
    before = len(served.executor.requests)
    answer = wire().send(garbage).read(b"</Error>")
    status = answer.split(b" ", 2)[1] if answer else b""
    assert status in {b"400", b"403"}, answer[:200]
    assert len(served.executor.requests) == before
    assert is_served(wire)


def test_head_over_its_limit_is_refused(wire: Callable[..., Wire], served: Any) -> None:
    """Headers without end are cut off at their limit, in size and in number, with a status that says so."""
    limits = Limits()
    for head in (
        GET + b"X: " + b"a" * limits.head_bytes_max,
        GET + b"X: 1\r\n" * (limits.headers_max + 1),
        b"GET /" + b"a" * limits.head_bytes_max,
    ):
        client = wire()
        with contextlib.suppress(ConnectionError):
            client.send(head)
        assert client.read(b"</Error>").startswith(b"HTTP/1.1 431"), head[:100]
    answer = (
        wire().send(b"GET /" + b"a" * limits.uri_bytes_max + b" HTTP/1.1\r\nHost: localhost\r\n\r\n").read(b"</Error>")
    )
    assert answer.startswith(b"HTTP/1.1 414")
    assert is_served(wire)


def test_slow_and_silent_clients_are_cut_off(serve_with: Callable[..., Any], wire: Callable[..., Wire]) -> None:
    """Who drips a head, stops in a body, or never asks is let go in time; others are served meanwhile."""
    limits = Limits(head_timeout_s=0.6, idle_timeout_s=1.0, body_timeout_s=0.6)
    with serve_with(limits) as served:
        silent = wire(served.port)
        dripping = [wire(served.port) for _ in range(100)]
        stopped = wire(served.port).send(
            b"PUT /bucket-x/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf"
        )
        started_s = time.monotonic()
        while time.monotonic() - started_s < 0.5:
            for byte in (b"G", b"E", b"T"):
                for client in dripping:
                    with contextlib.suppress(ConnectionError):
                        client.send(byte if time.monotonic() - started_s < 0.05 else b"")
            assert is_served(wire, served.port)
            time.sleep(0.05)
        for client in dripping:
            assert client.read().startswith(b"HTTP/1.1 408")
        assert time.monotonic() - started_s < 2
        assert b"RequestTimeout" in stopped.read(b"</Error>")
        assert silent.read() == b""
        assert time.monotonic() - started_s < 3
        assert served.gateway.in_work == 0


def test_bytes_before_a_request_do_not_hold_a_connection(
    serve_with: Callable[..., Any], wire: Callable[..., Wire]
) -> None:
    """Empty lines are allowed before a request; a client that sends nothing else is let go."""
    with serve_with(Limits(head_timeout_s=0.4)) as served:
        client = wire(served.port)
        started_s = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for _ in range(10):
                client.send(b"\r\n")
                time.sleep(0.1)
        assert client.read().startswith(b"HTTP/1.1 408") or time.monotonic() - started_s < 2


def test_thousand_idle_connections_disturb_nobody(served: Any, wire: Callable[..., Wire]) -> None:
    """A thousand clients that hold a connection open: the next one is served as ever."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * 1000 + 200
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        idle = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(1000)]
        try:
            for _ in range(20):
                assert is_served(wire, within_s=2)
        finally:
            for each in idle:
                each.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_have_a_limit(serve_with: Callable[..., Any], wire: Callable[..., Wire]) -> None:
    """Beyond the limit a connection is told to come again; when one is free, the next is served."""
    with serve_with(Limits(connections_max=2)) as served:
        first, second = wire(served.port).send(HEALTH), wire(served.port).send(HEALTH)
        assert first.read(b"{}")
        assert second.read(b"{}")
        assert wire(served.port).read().startswith(b"HTTP/1.1 503")
        first.close()
        deadline_s = time.monotonic() + 2
        while not is_served(wire, served.port):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)


def test_expect_continue_is_kept(wire: Callable[..., Wire]) -> None:
    """A client that asks before it sends is told to go on; one that announces too much is told no, and sends nothing."""
    head = b"PUT /bucket-x/k HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    client = wire().send(head % 4)
    assert client.read(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert client.send(b"data").read(b"</Error>").startswith(b"HTTP/1.1 404")
    answer = wire().send(head % (Limits().object_bytes_max + 1)).read(b"</Error>")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"EntityTooLarge" in answer


def test_chunked_and_pipelined_requests_are_answered_in_order(wire: Callable[..., Wire], served: Any) -> None:
    """A body in chunks is one body; requests that are sent without waiting get their replies in order."""
    chunked = b"PUT /bucket-x/chunked HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire().send(chunked + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").read(b"</Error>")
    assert served.executor.requests[-1].body == b"abcde"
    assert served.executor.requests[-1].header("transfer-encoding") == ""
    client = wire().send(HEALTH + GET + b"\r\n" + HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    statuses = [part[:3] for part in client.read().split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"404", b"200"]


def test_offer_of_http2_is_declined(wire: Callable[..., Wire]) -> None:
    """Java's client offers h2c on every plain connection: it is served over HTTP/1.1."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    assert wire().send(GET + offer + b"\r\n").read(b"</Error>").startswith(b"HTTP/1.1 404")
    put = b"PUT /bucket-x/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n" + offer + b"\r\ndata"
    assert wire().send(put).read(b"</Error>").startswith(b"HTTP/1.1 404")


def test_client_that_leaves_in_a_body_leaves_nothing(wire: Callable[..., Wire], served: Any) -> None:
    """A request whose client went before its body was whole is not executed."""
    before = len(served.executor.requests)
    client = wire().send(b"PUT /bucket-x/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
    time.sleep(0.1)
    assert served.gateway.in_work == 1
    client.close()
    deadline_s = time.monotonic() + 2
    while served.gateway.in_work:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert len(served.executor.requests) == before


def test_client_that_leaves_a_long_poll_ends_it(served: Any, wire: Callable[..., Wire]) -> None:
    """A wait ends with its client, and no message is lost to it."""
    base = b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: AmazonSQS.%b\r\nContent-Length: %d\r\n\r\n%b"
    create = b'{"QueueName": "left-alone"}'
    url = wire().send(base % (b"CreateQueue", len(create), create)).read(b"left-alone")
    assert url.startswith(b"HTTP/1.1 200")
    receive = b'{"QueueUrl": "http://localhost/000000000000/left-alone", "WaitTimeSeconds": 20}'
    client = wire().send(base % (b"ReceiveMessage", len(receive), receive))
    wait_until(lambda: served.gateway.in_work == 1)
    client.close()
    wait_until(lambda: served.gateway.in_work == 0)


def test_slow_reader_does_not_hold_up_others(served: Any, wire: Callable[..., Wire]) -> None:
    """A client that does not read its reply waits alone."""
    slow = wire()
    slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(200):
        slow.send(GET + b"\r\n")
    errors: list[BaseException] = []

    def others() -> None:
        try:
            for _ in range(20):
                assert is_served(wire)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=others)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert not errors


def wait_until(holds: Callable[[], bool], within_s: float = 2.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


class Written:
    """A transport that notes what was written at once."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.writes.append(b"".join(parts))

    def close(self) -> None:
        self.writes.append(b"closed")


@pytest.mark.anyio
async def test_head_and_body_of_a_reply_go_out_in_one_write() -> None:
    """A kill between two writes would leave a head without its body, which boto3 takes for an empty success."""
    wire = Written()
    one = _OneWrite(wire, asyncio.get_running_loop())  # type: ignore[arg-type]
    one.write(b"head ")
    one.write(b"body")
    one.write(b"alone")
    assert wire.writes == [b"head body"]
    await asyncio.sleep(0)
    assert wire.writes == [b"head body", b"alone"]
    one.write(b"last")
    one.close()
    assert wire.writes[2:] == [b"last", b"closed"]
