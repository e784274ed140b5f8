"""Start: time from the command to the first answer, and resident memory, beside moto's own server."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from harness import Daemon, free_port

RUNS = 7


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _holdfast() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder, "volume")) as daemon:
        assert daemon.process is not None
        return daemon.ready_s, _resident_mib(daemon.process.pid)


def _moto_server() -> tuple[float, float]:
    port = free_port()
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while not _answers(f"http://127.0.0.1:{port}/moto-api/"):
                time.sleep(0.005)
            return time.monotonic() - began, _resident_mib(server.pid)
        finally:
            server.kill()


def _medians(start: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    runs = [start() for _ in range(RUNS)]
    return statistics.median(run[0] for run in runs), statistics.median(run[1] for run in runs)


def main() -> None:
    """Print both, and the ratios."""
    ours, theirs = _medians(_holdfast), _medians(_moto_server)
    print(f"                      holdfast   moto_server   ratio   (medians of {RUNS})")
    print(f"ready after, s        {ours[0]:8.2f}      {theirs[0]:8.2f}    {ours[0] / theirs[0]:.2f}")
    print(f"resident memory, MiB  {ours[1]:8.0f}      {theirs[1]:8.0f}    {ours[1] / theirs[1]:.2f}")
