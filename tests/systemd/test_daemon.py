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


def test_the_first_request_starts_it(tmp_path: Path) -> None:
    """Socket activation: systemd holds the port, a connection starts the daemon, and that connection is served."""
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd-socket-activate is not installed")
    port = free_port()
    holdfast = str(Path(sys.executable).parent / "holdfast")
    command = [activate, "-l", f"127.0.0.1:{port}", "-E", "HOME", holdfast, "start", "--volume", str(tmp_path / "v")]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            for _ in range(100):
                if b"Listening on" in (tmp_path / "log").read_bytes():
                    break
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.05)
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                client.sendall(b"GET /_localstack/info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                reply = b"".join(iter(lambda: client.recv(65536), b""))
            head, _, body = reply.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), (tmp_path / "log").read_text()
            assert json.loads(body)["edition"] == "community"
        finally:
            process.terminate()
            process.wait(30)
