"""Listening: where, what a port in use is answered with, and sockets that systemd passes."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from harness import free_port

from holdfast.daemon.errors import ListenError
from holdfast.daemon.listen import bind, endpoint_of
from holdfast.daemon.values import Address


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for each in sockets:
        each.close()


def test_localhost_is_both_loopback_addresses(opened: list[socket.socket]) -> None:
    """A client reaches `localhost` by either family, so both listen, on the same port, and nothing else does."""
    opened += bind([Address("localhost", 0)], {})
    port = opened[0].getsockname()[1]
    assert [each.getsockname()[:2] for each in opened] == [("127.0.0.1", port)] + [("::1", port)] * has_ipv6()
    for each in opened:
        socket.create_connection(each.getsockname()[:2], timeout=5).close()
    assert endpoint_of(opened) == f"http://localhost:{port}"


def test_a_machine_without_ipv6_listens_on_the_other(
    opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers often have no ::1: that is fine."""
    real = socket.socket.bind

    def without_ipv6(self: socket.socket, address: tuple[str, int]) -> None:
        if self.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        real(self, address)

    monkeypatch.setattr(socket.socket, "bind", without_ipv6)
    opened += bind([Address("localhost", 0)], {})
    assert [each.getsockname()[0] for each in opened] == ["127.0.0.1"]


def test_a_port_of_another_program_is_named(opened: list[socket.socket]) -> None:
    """A port in use is one sentence that names it, and what was bound before is given back."""
    opened += bind([Address("127.0.0.1", 0)], {})
    port, free = opened[0].getsockname()[1], free_port()
    with pytest.raises(ListenError, match=rf"port {port} on 127\.0\.0\.1 is in use by another program"):
        bind([Address("127.0.0.1", free), Address("127.0.0.1", port)], {})
    opened += bind([Address("127.0.0.1", free)], {})


def test_a_port_of_another_holdfast_says_so() -> None:
    """The commonest reason is a daemon that already runs: then the sentence says how to end it."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(b'{"features": {"holdfast": {}}}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(ListenError, match="in use by another holdfast; `holdfast stop`"):
                bind([Address("127.0.0.1", server.server_port)], {})
        finally:
            server.shutdown()
            thread.join()


def test_an_address_of_another_machine_is_refused() -> None:
    """Listening where this machine is not reachable is a mistake of the user's, said in a sentence."""
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(ListenError, match=f"cannot listen on {host}:1234"):
            bind([Address(host, 1234)], {})


ACTIVATED = """
import os, socket
from holdfast.daemon.values import Address
from holdfast.daemon.listen import bind
os.environ["LISTEN_PID"] = str(os.getpid())
sockets = bind([Address("localhost", 1)], os.environ)
assert not sockets[0].get_inheritable() and os.get_inheritable(3)
print(len(sockets), sockets[0].getsockname()[1])
"""


def test_sockets_that_systemd_passes_are_used(opened: list[socket.socket]) -> None:
    """With socket activation the passed socket serves and settings.listen is not bound; a restart finds it again."""
    opened += bind([Address("127.0.0.1", 0)], {})
    passed = opened[0].fileno()
    done = subprocess.run(
        [sys.executable, "-c", ACTIVATED],
        env={**os.environ, "LISTEN_FDS": "1"},
        preexec_fn=lambda: os.dup2(passed, 3),
        close_fds=False,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"1 {opened[0].getsockname()[1]}\n", "")


def test_sockets_meant_for_another_process_are_not_taken(opened: list[socket.socket]) -> None:
    """LISTEN_PID of another process: its variables were inherited by accident."""
    opened += bind([Address("127.0.0.1", 0)], {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid() + 1)})
    assert opened[0].fileno() != 3
