from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class NotifySocket:
    """The receiving end of sd_notify, as systemd is one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(b"\0" + path[1:].encode() if path.startswith("@") else path)
        self._socket.settimeout(30)

    def next(self) -> dict[str, str]:
        """The next message's lines; waits for it."""
        return dict(line.split("=", 1) for line in self._socket.recv(65536).decode().split("\n"))

    def until(self, key: str) -> list[dict[str, str]]:
        """Messages up to the first that has `key`."""
        messages = [self.next()]
        while key not in messages[-1]:
            messages.append(self.next())
        return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def notify_socket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    path = str(tmp_path / "notify")
    made = NotifySocket(path if request.param == "path" else f"@holdfast-test{path}")
    yield made
    made.close()
