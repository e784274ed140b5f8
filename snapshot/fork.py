"""A child process that does one piece of work on a frozen copy of memory, and hands back bytes.

What the child must not do, and why. It has one thread; every lock that another thread of the parent held at the fork is held for
ever. So: no logging, no lock, no import (the import lock), no OpenSSL (its own locks; hashlib's SHA-256 is copied from an object
that was made before), no event loop, no SQLite. It collects no garbage, for that would touch, and so copy, all of memory. It
closes every descriptor it inherited but its pipe: while it lives the parent may be killed, and the next life must get the port
and the volume's lock at once. It dies with its parent, ignores what a terminal sends to the whole group, and ends by `os._exit`,
so that nothing of the parent's is flushed, unlocked or deleted twice.

What the parent does. It never waits for the child in a way that could not end: the result comes over a pipe, the end is seen by a
pidfd, and at the deadline the child is killed. Signals are blocked around the fork, so that none runs the parent's handlers in
the child.

Call `spawn` on the main thread: the parent-death signal belongs to the thread that forked.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

import anyio

from holdfast.snapshot.errors import ChildDied, ChildHung, ChildRaised

__all__ = ["CAN_FORK", "Child", "spawn"]

CAN_FORK: Final = sys.platform == "linux"
"""Elsewhere there is no parent-death signal and no pidfd, and on macOS system libraries may abort a forked child."""

RESULT_HEADER: Final = struct.Struct("<BQ")
"""Of what comes over the pipe: 0 for a result or 1 for an error's text, and how many bytes follow."""

READ_CHUNK_BYTES: Final = 1 << 16
REAP_WAIT_S: Final = 5.0
"""How long a killed child may take to vanish before it is left behind: it may be stuck in a write to a failing disk."""

ERROR_CHARS_MAX: Final = 2000
NICENESS: Final = 10
"""The child gives way to the parent, which has clients waiting."""

PR_SET_PDEATHSIG: Final = 1

# Looked up here: in the child, finding a symbol could meet the dynamic loader's lock.
_prctl: Any = ctypes.CDLL(None, use_errno=True).prctl if CAN_FORK else None
if CAN_FORK:
    _prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]

_sha256 = hashlib.sha256()

_abandoned: set[int] = set()
"""Children that were killed and had not ended after REAP_WAIT_S."""


class Child:
    """A forked child at work. Every child must be waited for with `result`, or ended with `kill`."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._pipe = pipe
        self._received = bytearray()

    async def result(self, deadline_s: float) -> bytes:
        """What the work returned. When this returns or raises the child is gone, however it ended.

        Raises ChildRaised when the work did, ChildDied, or ChildHung after `deadline_s`. Cancelling kills the child.
        """
        try:
            with anyio.move_on_after(deadline_s) as scope:
                await self._receive()
            if scope.cancelled_caught:
                raise ChildHung(deadline_s)
        except BaseException:
            self._signal(signal.SIGKILL)
            raise
        finally:
            status = await self._reap()
        return self._decoded(status)

    def kill(self) -> None:
        """End the child now, when nobody will wait for it; blocks until it is gone, a few milliseconds."""
        self._signal(signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._close()

    async def _receive(self) -> None:
        while True:
            await anyio.wait_readable(self._pipe)
            chunk = os.read(self._pipe, READ_CHUNK_BYTES)
            if not chunk:
                return
            self._received += chunk

    async def _reap(self) -> int:
        """The child's exit status, after its end, which is near: it has closed its pipe or was killed."""
        try:
            with anyio.CancelScope(shield=True), anyio.move_on_after(REAP_WAIT_S) as scope:
                await anyio.wait_readable(self._pidfd)
            if scope.cancelled_caught:
                self._signal(signal.SIGKILL)
                _abandoned.add(self.pid)
                return -signal.SIGKILL
            _, status = os.waitpid(self.pid, 0)  # noqa: ASYNC222  # it has ended: the pidfd says so
            return os.waitstatus_to_exitcode(status)
        finally:
            self._close()

    def _decoded(self, status: int) -> bytes:
        data = bytes(self._received)
        if len(data) < RESULT_HEADER.size:
            raise ChildDied(status)
        raised, size = RESULT_HEADER.unpack_from(data)
        body = data[RESULT_HEADER.size :]
        if len(body) != size:
            raise ChildDied(status)
        if raised:
            raise ChildRaised(body.decode("utf-8", "replace"))
        return body

    def _signal(self, number: int) -> None:
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass  # it has ended

    def _close(self) -> None:
        for descriptor in (self._pipe, self._pidfd):
            if descriptor >= 0:
                os.close(descriptor)
        self._pipe = self._pidfd = -1


def spawn(work: Callable[[], bytes]) -> Child:
    """Fork; the child runs `work` on memory as it is now and ends. Raises OSError when the system will not fork."""
    _reap_abandoned()
    parent = os.getpid()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _run(work, parent, writing)
    except OSError:
        os.close(reading)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(writing)
    return Child(pid, reading)


def _reap_abandoned() -> None:
    for pid in list(_abandoned):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            _abandoned.discard(pid)


def _run(work: Callable[[], bytes], parent: int, pipe: int) -> NoReturn:
    """The child's whole life."""
    code = 1
    try:
        _become_a_child(parent, pipe)
        try:
            raised, body = 0, work()
        except BaseException as error:
            raised, body = 1, f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX].encode("utf-8", "replace")
        _write(pipe, RESULT_HEADER.pack(raised, len(body)) + body)
        code = 0
    finally:
        os._exit(code)


def _become_a_child(parent: int, pipe: int) -> None:
    gc.disable()
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the signal was asked for
            os._exit(1)
    _drop_descriptors(pipe)
    _drop_signals()
    hashlib.sha256 = _copied_sha256  # type: ignore[assignment]  # for all that runs here; see the head of this module
    os.nice(NICENESS)


def _drop_descriptors(pipe: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # kept open, on nothing: a file opened later must not become standard output
        os.dup2(nothing, standard)
    # Not os.closerange: without close_range(2) in the C library it makes a call for each number up to the limit.
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor != pipe:
            try:
                os.close(descriptor)
            except OSError:
                pass  # the listing's own


def _drop_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        # A terminal and systemd send these to the whole group; whether this child is to end its parent decides.
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _copied_sha256(data: bytes = b"", *, usedforsecurity: bool = True) -> Any:
    """hashlib.sha256 without entering OpenSSL's provider look-up, which takes locks."""
    copy = _sha256.copy()
    copy.update(data)
    return copy


def _write(pipe: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(pipe, view) :]
