"""`holdfast start -d`: a daemon in the background that is ready when the command returns."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from holdfast.daemon.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.daemon.config import Settings

__all__ = ["run_detached"]

POLL_S = 0.02

READY = b"\nReady.\n"

LAST_WORDS_LINES = 20
"""What is shown of the log of a daemon that ended at once."""

LOG_MAX_BYTES = 16 << 20
"""A larger log is set aside as `.1` at the next start, so two of these is what logs take on the disk."""


class DidNotStart(HoldfastError):
    """Raised when the daemon ended before it was ready; its exit code is the command's."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def run_detached(settings: Settings, arguments: Sequence[str]) -> None:
    """Start a daemon with `arguments` in a session of its own, wait until it is ready, say where its log is.

    As long as the daemon lives this waits: replaying a long journal takes its time. Raises DidNotStart with its last words.
    """
    log_path = _log_path(settings)
    with _open_log(log_path) as log:
        start = log.tell()
        command = [*_program(), *arguments]
        child = subprocess.Popen(  # noqa: S603 - our own program with our own arguments
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    try:
        while not _is_ready(said := _read(log_path, start)):
            if (code := child.poll()) is not None:
                raise DidNotStart(_last_words(_read(log_path, start), code, log_path), code if code > 0 else 1)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        child.terminate()
        raise
    serving = said[: said.index(READY)].decode(errors="replace").splitlines()[-1]
    click.echo(f"{serving}\nprocess {child.pid} runs in the background; its log is {log_path}")
    # It is meant to outlive this process: Popen must not warn that nobody waited for it.
    child.returncode = 0


def _log_path(settings: Settings) -> Path:
    from holdfast.daemon.volume import LOG_FILE, check, runtime_folder

    if not settings.persistence:
        return runtime_folder(os.environ) / f"holdfast-{settings.listen[0].port}.log"
    # Before anything is written into the folder: it must be ours, or empty.
    check(settings.volume)
    settings.volume.mkdir(mode=0o700, parents=True, exist_ok=True)
    return settings.volume / LOG_FILE


def _open_log(path: Path) -> BinaryIO:
    try:
        if path.stat().st_size > LOG_MAX_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
    except FileNotFoundError:
        pass
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        log = os.fdopen(os.open(path, flags, 0o600), "ab")
    except OSError as error:
        raise HoldfastError(f"the log {path} cannot be written: {error.strerror}") from error
    log.seek(0, os.SEEK_END)
    return log


def _program() -> list[str]:
    """How this very program was started, without its arguments: interpreter, its flags, script or `-m` and module."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]


def _read(path: Path, start: int) -> bytes:
    with path.open("rb") as log:
        log.seek(start)
        return log.read()


def _is_ready(said: bytes) -> bool:
    return READY in said


def _last_words(said: bytes, code: int, log_path: Path) -> str:
    lines = said.decode(errors="replace").splitlines()[-LAST_WORDS_LINES:]
    ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    words = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
    return f"the daemon {ended} before it was ready; its last words (all are in {log_path}):\n{words}"
