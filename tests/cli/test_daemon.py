"""The command line with a real daemon: start, ask, refuse a second one, stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Daemon, free_port

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "v") as running:
        yield running


def test_ready_comes_after_what_is_promised(daemon: Daemon) -> None:
    """Standard output says where it serves, where state lies and what can be lost, then `Ready.` alone on its line."""
    lines = daemon.printed.splitlines()
    ready = lines.index("Ready.")
    assert f"http://127.0.0.1:{daemon.port}" in lines[ready - 1]
    assert f"state in {daemon.volume}" in lines[ready - 1]
    assert "neither kill -9 nor power loss loses anything acknowledged (JOURNAL_SYNC=always)" in lines[ready - 1]


def test_the_process_has_hash_order_and_time_zone_fixed(daemon: Daemon) -> None:
    """DESIGN section 5: it executed itself once with both set, and kept its process number."""
    assert daemon.process is not None
    environ = Path(f"/proc/{daemon.process.pid}/environ").read_bytes().split(b"\0")
    assert {b"PYTHONHASHSEED=0", b"TZ=UTC"} <= set(environ)


def test_a_signal_ends_it_with_zero(daemon: Daemon) -> None:
    """SIGTERM drains and ends with 0; the volume is free again."""
    assert daemon.stop() == 0
    daemon.start()


def test_status_says_how_it_is(daemon: Daemon, holdfast: Run) -> None:
    """`holdfast status` reads the daemon's health: serving, ours, exit code 0."""
    done = holdfast("status", HOLDFAST_ENDPOINT=daemon.endpoint)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"at {daemon.endpoint}: serving" in done.stdout.splitlines()[0]
    health = json.loads(holdfast("status", "--json", "--endpoint", daemon.endpoint).stdout)
    assert health["features"]["holdfast"]["journal"]["on"] is True


@pytest.mark.parametrize("by", ["endpoint", "volume"])
def test_stop_returns_when_it_is_gone(daemon: Daemon, holdfast: Run, by: str) -> None:
    """After `holdfast stop` the volume and the port are free, whichever way it was found."""
    value = daemon.endpoint if by == "endpoint" else str(daemon.volume)
    done = holdfast("stop", f"--{by}", value)
    assert (done.returncode, done.stderr) == (0, "")
    assert daemon.process is not None
    assert daemon.process.wait(5) == 0
    daemon.start()


def test_a_second_daemon_says_who_holds_the_volume(daemon: Daemon, holdfast: Run) -> None:
    """One daemon a volume: the second names process and endpoint of the first and ends with 1; the first serves on."""
    assert daemon.process is not None
    done = holdfast("start", "--volume", str(daemon.volume), "--listen", f"127.0.0.1:{free_port()}")
    assert (done.stdout, done.returncode) == ("", 1)
    assert f"in use by process {daemon.process.pid} since" in done.stderr
    assert f"127.0.0.1:{daemon.port}" in done.stderr or f"localhost:{daemon.port}" in done.stderr
    assert "Traceback" not in done.stderr
    assert daemon.get("/_localstack/health")["edition"] == "community"


def test_a_port_in_use_by_a_holdfast_says_so(daemon: Daemon, holdfast: Run, tmp_path: Path) -> None:
    """The port is named, and that it is a holdfast; the other volume is not even made."""
    done = holdfast("start", "--volume", str(tmp_path / "other"), "--listen", f"127.0.0.1:{daemon.port}")
    assert (done.stdout, done.returncode) == ("", 1)
    assert f"port {daemon.port} on 127.0.0.1 is in use by another holdfast" in done.stderr
    assert not (tmp_path / "other").exists()


def test_detached_it_is_ready_on_return_and_outlives_the_command(holdfast: Run, tmp_path: Path) -> None:
    """`-d` returns once it serves, says where the log is, and the daemon goes on in a session of its own."""
    port, volume = free_port(), tmp_path / "v"
    done = holdfast("start", "-d", "--volume", str(volume), "--listen", f"127.0.0.1:{port}")
    try:
        assert (done.stderr, done.returncode) == ("", 0)
        assert f"its log is {volume}/holdfast.log" in done.stdout
        assert "Ready.\n" in (volume / "holdfast.log").read_text()
        assert (volume / "holdfast.log").stat().st_mode & 0o777 == 0o600
        pid = json.loads((volume / "LOCK").read_text())["pid"]
        assert f"process {pid} runs in the background" in done.stdout
        assert os.getsid(pid) == pid
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    finally:
        stopped = holdfast("stop", "--volume", str(volume))
    assert (stopped.stderr, stopped.returncode) == ("", 0)


def test_detached_failure_shows_the_last_words(daemon: Daemon, holdfast: Run, tmp_path: Path) -> None:
    """What cannot start in the background says why on the terminal, with the daemon's own exit code."""
    done = holdfast("start", "-d", "--volume", str(tmp_path / "other"), "--listen", f"127.0.0.1:{daemon.port}")
    assert (done.stdout, done.returncode) == ("", 1)
    assert "ended with exit code 1 before it was ready" in done.stderr
    assert f"port {daemon.port} on 127.0.0.1 is in use" in done.stderr


def test_memory_only_leaves_no_folder(tmp_path: Path) -> None:
    """PERSISTENCE=0 touches no disk, and says that everything is lost at the end."""
    with Daemon(tmp_path / "v", {"PERSISTENCE": "0"}) as running:
        assert "everything is lost when the daemon ends" in running.printed
        assert running.stop() == 0
    assert not (tmp_path / "v").exists()


def test_variables_without_effect_are_named_once(tmp_path: Path) -> None:
    """A user who set a variable of LocalStack's that does nothing here reads so in the log, once."""
    with Daemon(tmp_path / "v", {"LAMBDA_EXECUTOR": "docker", "LOCALSTACK_AUTH_TOKEN": "sesame"}) as running:
        assert running.printed.count("LAMBDA_EXECUTOR") == 1
        assert "sesame" not in running.printed
        assert "LOCALSTACK_AUTH_TOKEN" not in running.printed


def test_localhost_serves_both_families(holdfast: Run, tmp_path: Path) -> None:
    """Without `--listen` of an address, `localhost` answers on 127.0.0.1 and, where there is one, ::1."""
    port, volume = free_port(), tmp_path / "v"
    done = holdfast("start", "-d", "--volume", str(volume), "--listen", f"localhost:{port}")
    try:
        assert done.returncode == 0, done.stderr
        for host in ("127.0.0.1", "localhost"):
            assert holdfast("status", "--endpoint", f"http://{host}:{port}").returncode == 0
    finally:
        holdfast("stop", "--volume", str(volume))


def test_a_restart_keeps_process_and_state(daemon: Daemon, holdfast: Run) -> None:
    """The contract's restart: the same process executes itself again, and everything is there."""
    assert daemon.process is not None
    daemon.client("sqs").create_queue(QueueName="kept")
    session = daemon.get("/_localstack/info")["session_id"]
    restart = urllib.request.Request(f"{daemon.endpoint}/_localstack/health", b'{"action": "restart"}', method="POST")
    with urllib.request.urlopen(restart, timeout=10) as reply:
        assert reply.status == 200
    give_up = time.monotonic() + 60
    while holdfast("status", "--endpoint", daemon.endpoint).returncode or (
        daemon.get("/_localstack/info")["session_id"] == session
    ):
        assert time.monotonic() < give_up
    assert daemon.process.poll() is None
    assert len(daemon.client("sqs").list_queues()["QueueUrls"]) == 1


def test_a_second_signal_does_not_wait(daemon: Daemon) -> None:
    """Two signals end it at once, and the next start has everything all the same."""
    assert daemon.process is not None
    daemon.client("sqs").create_queue(QueueName="kept")
    daemon.process.send_signal(signal.SIGINT)
    time.sleep(0.01)
    if daemon.process.poll() is None:
        daemon.process.send_signal(signal.SIGINT)
    assert daemon.process.wait(10) in {0, 128 + signal.SIGINT}
    daemon.start()
    assert len(daemon.client("sqs").list_queues()["QueueUrls"]) == 1
