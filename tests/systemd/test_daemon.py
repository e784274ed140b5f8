"""A real daemon under what systemd gives it: a notify socket, a listening socket."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import pytest
from harness import Daemon, free_port


class Received(Protocol):
    path: str

    def until(self, key: str) -> list[dict[str, str]]: ...


def test_it_is_ready_alive_and_stopping_when_it_says_so(notify_socket: Received, tmp_path: Path) -> None:
    """READY only when it serves, pings while it lives, STOPPING when told to; each with a status to read."""
    with Daemon(tmp_path / "v", {"NOTIFY_SOCKET": notify_socket.path, "WATCHDOG_USEC": "300000"}) as daemon:
        *before, ready = notify_socket.until("READY")
        assert all("WATCHDOG" not in message for message in before)
        assert "LSN 0" in ready["STATUS"]
        assert daemon.get("/_localstack/health")["services"]
        notify_socket.until("WATCHDOG")
        notify_socket.until("WATCHDOG")
        daemon.client("sqs").create_queue(QueueName="q")
        assert daemon.stop() == 0
        notify_socket.until("STOPPING")


def ask(port: int, request: str) -> tuple[bytes, bytes]:
    """One request by hand, over a connection that waits until somebody accepts it; head and body of the reply."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(request.replace("\n", "\r\n").encode())
        reply = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = reply.partition(b"\r\n\r\n")
    return head.partition(b"\r\n")[0], body


def session_of(port: int) -> str | None:
    """Which life of the daemon answers; None when the old one took the connection and ended. Refused is never right."""
    try:
        body = ask(port, INFO)[1]
    except (ConnectionResetError, BrokenPipeError):
        return None
    session: str | None = json.loads(body)["session_id"] if body else None
    return session


INFO = "GET /_localstack/info HTTP/1.1\nHost: localhost\nConnection: close\n\n"
RESTART = (
    'POST /_localstack/health HTTP/1.1\nHost: localhost\nConnection: close\nContent-Length: 21\n\n{"action": "restart"}'
)


def test_the_first_request_starts_it_and_a_restart_keeps_the_port(tmp_path: Path) -> None:
    """Socket activation: systemd holds the port, a connection starts the daemon and is served; a restart refuses none."""
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd-socket-activate is not installed")
    port = free_port()
    holdfast = str(Path(sys.executable).parent / "holdfast")
    command = [activate, "-l", f"127.0.0.1:{port}", "-E", "HOME", holdfast, "start", "--volume", str(tmp_path / "v")]
    printed = tmp_path / "log"
    with printed.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            while b"Listening on" not in printed.read_bytes():
                assert process.poll() is None, printed.read_text()
                time.sleep(0.02)
            status, body = ask(port, INFO)
            assert status.startswith(b"HTTP/1.1 200"), printed.read_text()
            first = json.loads(body)["session_id"]
            assert ask(port, RESTART)[0].startswith(b"HTTP/1.1 200")
            while session_of(port) in {first, None}:
                time.sleep(0.01)
            assert process.poll() is None
        finally:
            process.terminate()
            assert process.wait(30) == 0, printed.read_text()
