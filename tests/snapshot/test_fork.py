"""The child that pickles: what it keeps, what it drops, and every way in which it can end."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from snapshot_rig import Item, Rig

from holdfast.snapshot import CheckpointOptions
from holdfast.snapshot.errors import ChildDied, ChildHung, ChildRaised
from holdfast.snapshot.fork import CAN_FORK, spawn

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not CAN_FORK, reason="fork without parent-death signal and pidfd: not Linux"),
]


async def test_a_result_of_any_size_comes_over_the_pipe() -> None:
    """Larger than a pipe's buffer, and empty."""
    assert await spawn(lambda: b"").result(10) == b""
    large = os.urandom(3 << 20)
    assert await spawn(lambda: large).result(10) == large


async def test_an_error_of_the_work_comes_back_with_its_text() -> None:
    """The parent learns what the child could not do."""

    def work() -> bytes:
        raise ValueError("no such colour")

    with pytest.raises(ChildRaised, match="ValueError: no such colour"):
        await spawn(work).result(10)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_killed_child_is_told_by_its_status(number: int) -> None:
    """A child that the system or a user kills ends the attempt at once, not at the deadline."""

    def work() -> bytes:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        time.sleep(60)
        return b""

    started = time.monotonic()
    with pytest.raises(ChildDied) as raised:
        await spawn(work).result(60)
    assert raised.value.status == -number
    assert time.monotonic() - started < 10


async def test_a_child_that_dies_in_the_middle_of_its_result_has_none() -> None:
    """Half a result is none: the length that was announced must arrive."""

    def work() -> bytes:
        threading.Thread  # noqa: B018  # nothing of the parent's threads is here
        pipe = next(fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and _is_pipe(fd))
        os.write(pipe, b"\0" + (100).to_bytes(8, "little") + b"only this")
        os._exit(0)

    with pytest.raises(ChildDied):
        await spawn(work).result(10)


def _is_pipe(descriptor: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:")
    except OSError:
        return False


async def test_a_child_that_hangs_is_killed_at_its_deadline() -> None:
    """Also one that ignores every signal that can be ignored."""

    def work() -> bytes:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        time.sleep(60)
        return b""

    child = spawn(work)
    with pytest.raises(ChildHung):
        await child.result(0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


async def test_cancelling_kills_the_child() -> None:
    """Whoever stops waiting leaves no process behind."""
    child = spawn(lambda: time.sleep(60) or b"")  # type: ignore[func-returns-value]
    with anyio.move_on_after(0.1):
        await child.result(60)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


async def test_the_child_holds_nothing_of_the_parents() -> None:
    """No socket, no lock, no terminal: what the next life needs is free although the child still runs."""
    listening = socket.create_server(("127.0.0.1", 0))
    files = [os.open("/dev/zero", os.O_RDONLY) for _ in range(200)]

    def work() -> bytes:
        return "\n".join(
            os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _exists(name)
        ).encode()

    held = (await spawn(work).result(10)).decode().splitlines()
    for descriptor in files:
        os.close(descriptor)
    listening.close()
    assert sorted(name.split(":")[0] for name in held if not name.startswith("/proc/")) == ["/dev/null"] * 3 + ["pipe"]


def _exists(name: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{name}")


async def test_the_child_collects_no_garbage_and_hashes_without_openssls_look_up() -> None:
    """What DESIGN section 6 asks of it, and the digests are right."""

    def work() -> bytes:
        import gc

        name = getattr(hashlib.sha256, "__name__", "")
        return f"{gc.isenabled()} {name} {hashlib.sha256(b'x').hexdigest()} {hashlib.sha256().hexdigest()}".encode()

    enabled, name, one, empty = (await spawn(work).result(10)).decode().split()
    assert enabled == "False"
    assert name == "_copied_sha256"
    assert one == hashlib.sha256(b"x").hexdigest()
    assert empty == hashlib.sha256().hexdigest()
    assert hashlib.sha256.__name__ == "openssl_sha256"


async def test_signals_to_the_group_do_not_end_the_child_and_handlers_stay_the_parents() -> None:
    """Ctrl-C goes to every process of a terminal: the parent decides what becomes of its checkpoint."""
    handled: list[int] = []
    old = signal.signal(signal.SIGUSR1, lambda number, _: handled.append(number))
    try:

        def work() -> bytes:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), number)
            return f"{os.getpid()} {signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL}".encode()

        pid, default = (await spawn(work).result(10)).decode().split()
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert int(pid) != os.getpid()
    assert default == "True"
    assert handled == []
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


PARENT = """
    import fcntl, os, socket, sys, time
    from holdfast.snapshot.fork import spawn
    lock = open(sys.argv[1], "w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    listening = socket.create_server(("127.0.0.1", int(sys.argv[2])), reuse_port=False)
    child = spawn(lambda: time.sleep(60) or b"")
    print(child.pid, flush=True)
    time.sleep(60)
"""


async def test_a_child_dies_with_its_parent_which_leaves_port_and_lock_free(tmp_path: Path) -> None:
    """kill -9 of the daemon while a child pickles: the restart takes port and lock at once, and the child is gone."""
    lock = tmp_path / "LOCK"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for _ in range(5):
        parent = subprocess.Popen(  # noqa: ASYNC220  # nothing else runs on this loop
            [sys.executable, "-c", textwrap.dedent(PARENT), str(lock), str(port)], stdout=subprocess.PIPE, text=True
        )
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        parent.stdout.close()
        with anyio.fail_after(5):
            while _alive(child):  # noqa: ASYNC110  # another process's end: nobody sets an event
                await anyio.sleep(0.005)
    # The loop itself is the proof: every next parent took the lock and the port that the one before held when it was killed.


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


# --- under load --------------------------------------------------------------------------------------------------------


BREATH_S = 0.0005
"""Between two operations of a busy thread, so that five of them leave the interpreter's lock to the forks now and then."""


def _logging(stop: threading.Event) -> None:
    logger = logging.getLogger("holdfast.test.fork")
    handler = logging.StreamHandler(open(os.devnull, "w"))  # noqa: SIM115  # closed with the logger, below
    logger.addHandler(handler)
    logger.propagate = False
    while not stop.wait(BREATH_S):
        logger.warning("busy %s", time.monotonic())
    logger.removeHandler(handler)
    handler.stream.close()


def _certificate() -> tuple[bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    )
    made = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1)).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(pem), plain


def _tls(stop: threading.Event, folder: Path) -> None:
    certificate, key = _certificate()
    (folder / "tls.pem").write_bytes(certificate + key)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(folder / "tls.pem")
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    while not stop.is_set():
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [
            server.wrap_bio(to_server, to_client, server_side=True),
            client.wrap_bio(to_client, to_server, server_side=False),
        ]
        waiting = list(ends)
        while waiting:
            for end in list(waiting):
                try:
                    end.do_handshake()
                    waiting.remove(end)
                except ssl.SSLWantReadError:
                    continue


def _sqlite(stop: threading.Event, folder: Path) -> None:
    with sqlite3.connect(folder / "busy.db") as database:
        database.execute("create table if not exists t (a)")
        while not stop.wait(BREATH_S):
            database.execute("insert into t values (?)", (os.urandom(100),))
            database.commit()
    database.close()


def _hashing(stop: threading.Event) -> None:
    data = os.urandom(1 << 16)
    while not stop.wait(BREATH_S):
        hashlib.sha256(data).digest()
        hashlib.new("sha512", data).digest()


@contextmanager
def busy_threads(folder: Path) -> Iterator[None]:
    """Threads that take locks of the interpreter, of OpenSSL and of SQLite all the time."""
    stop = threading.Event()
    works: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
        (_logging, (stop,)), (_tls, (stop, folder)), (_sqlite, (stop, folder)), (_hashing, (stop,)),
    ]  # fmt: skip
    threads = [threading.Thread(target=work, args=arguments, daemon=True) for work, arguments in works]
    for thread in threads:
        thread.start()
    try:
        yield
        assert all(thread.is_alive() for thread in threads), "the load ended before the test did"
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


@pytest.mark.parametrize("forks", [100, pytest.param(2500, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
async def test_forks_under_load_never_hang_and_every_image_loads(tmp_path: Path, forks: int) -> None:
    """Logging, TLS, SQLite and hashing threads run at every fork: no child hangs, and each image is what the parent had."""
    rig = Rig(tmp_path, options=CheckpointOptions(in_place_budget_s=0, child_deadline_s=60))
    with busy_threads(tmp_path):
        for number in range(forks):
            state = {"number": number, "items": [Item(f"{number}-{n}") for n in range(20)]}
            rig.change("queues", state)
            manifest = await rig.checkpointer.take("TEST")
            assert manifest is not None
            assert manifest.complete
            assert rig.checkpointer.timing.forked
            image = rig.images.read(manifest.services["queues"].parts["store"])
            assert rig.codec.load("queues", image.raw) == state
            if number % 50 == 0:
                await rig.checkpointer.collect()
    assert rig.host.failures == []
