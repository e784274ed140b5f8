"""A daemon in a process of its own, as a user would start it, for tests that kill it.

with Daemon(volume) as daemon:
    daemon.client("s3").create_bucket(Bucket="b")
    daemon.kill()
    daemon.start()
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.config import Config

__all__ = ["Daemon", "DaemonDied", "free_port"]

READY_TIMEOUT_S = 60.0
"""A daemon that replays a long tail on a loaded machine with two cores takes seconds; a minute means it hangs."""

_SESSION = boto3.session.Session()

BIN = Path(sys.executable).parent / "holdfast"


class DaemonDied(Exception):
    """Raised when the daemon ended before it was ready; carries what it printed."""


def free_port() -> int:
    """A TCP port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Daemon:
    """`holdfast start` on a free port of the loopback interface, its state in `volume`, its output in a file beside it."""

    def __init__(self, volume: Path, env: Mapping[str, str] | None = None) -> None:
        self.volume = volume
        self.port = free_port()
        self.env = dict(env or {})
        self.log = volume.parent / f"{volume.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_s = 0.0
        self.killed = False
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait for `Ready.`; raises DaemonDied with its last words."""
        env = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("HOLDFAST_", "SNAPSHOT_", "JOURNAL", "LOCALSTACK_"))
        }
        command = [str(BIN), "start", "--listen", f"127.0.0.1:{self.port}", "--volume", str(self.volume)]
        began = time.monotonic()
        self.killed = False
        with self.log.open("ab") as log:
            offset = log.tell()
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**env, **self.env}, start_new_session=True
            )
        while b"Ready.\n" not in self._printed(offset):
            if self.process.poll() is not None or time.monotonic() - began > READY_TIMEOUT_S:
                code = self.process.poll()
                self.kill()
                raise DaemonDied(
                    f"exit code {code}, it printed:\n{self._printed(offset)[-4000:].decode(errors='replace')}"
                )
            time.sleep(0.005)
        self.ready_s = time.monotonic() - began

    def _printed(self, offset: int = 0) -> bytes:
        with self.log.open("rb") as log:
            log.seek(offset)
            return log.read()

    @property
    def printed(self) -> str:
        """Everything it ever printed."""
        return self._printed().decode(errors="replace")

    def kill(self) -> None:
        """SIGKILL, no warning."""
        self.killed = True
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def client(self, service: str, region: str = "us-east-1") -> Any:
        """An unmodified boto3 client that never retries: a retry would hide a lost reply.

        One for each service and region: making one takes boto3 longer than most requests, and threads may share it.
        """
        with self._lock:
            if (service, region) not in self._clients:
                self._clients[service, region] = _SESSION.client(
                    service,
                    region_name=region,
                    endpoint_url=self.endpoint,
                    aws_access_key_id="test",
                    aws_secret_access_key="test",
                    config=Config(
                        retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60, max_pool_connections=50
                    ),
                )
            return self._clients[service, region]

    def get(self, path: str) -> Any:
        """The JSON that a control route answers, whatever its status."""
        try:
            with urllib.request.urlopen(self.endpoint + path, timeout=10) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            return json.loads(error.read())
