"""System calls that fail under a running journal, by strace: killed, EIO, ENOSPC, short writes, at each index of each call.

Whatever happens to the program, what it acknowledged is there afterwards, and what it acknowledged stops with the failure.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.journal import Journal, JournalOptions, LocalDisk
from holdfast.journal.segment import list_segments

WORKLOAD = Path(__file__).parent / "reference_workload.py"
CALLS = ("pwrite64", "fdatasync", "fsync", "rename", "ftruncate", "unlink")
FAULTS = {"killed": "signal=SIGKILL", "EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}
RETIRED_BELOW = 14
"""What the workload retires once it has a checkpoint there."""

SAMPLE = 13
"""The default run takes every thirteenth case; `make crash` takes all."""


def strace(folder: Path, *options: str, arguments: tuple[str, ...] = ()) -> subprocess.CompletedProcess[bytes]:
    """The workload under strace with these options."""
    command = ["strace", "-f", "-qq", "--seccomp-bpf", *options, sys.executable, str(WORKLOAD), str(folder), *arguments]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


def unusable() -> str:
    """Why strace cannot be used here, empty when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "inject=fsync:error=EIO:when=1", "-o", "/dev/null", "true"],
        capture_output=True,
        check=False,
    )
    return "" if tried.returncode == 0 else f"strace cannot trace here: {tried.stderr.decode().strip()}"


REASON = unusable()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How often the undisturbed workload makes each call, at most, in any one of its threads: strace counts by thread."""
    folder = tmp_path_factory.mktemp("counted")
    log = folder / "strace.log"
    done = strace(folder / "journal", "-e", "trace=" + ",".join(CALLS), "-o", str(log))
    assert done.returncode == 0, done.stderr.decode()
    calls = Counter(re.findall(r"^(\d+) +(\w+)\(", log.read_text(), re.MULTILINE))
    counts = {name: max((count for (_, called), count in calls.items() if called == name), default=0) for name in CALLS}
    assert counts["pwrite64"] > 20
    assert counts["fdatasync"] > 15
    assert counts["rename"] > 4
    return counts


def cases(counts: dict[str, int]) -> Iterator[tuple[str, str, int]]:
    """Every (fault, call, index)."""
    for call, count in counts.items():
        for fault in FAULTS:
            for index in range(1, count + 1):
                yield fault, call, index


def judge(folder: Path, done: subprocess.CompletedProcess[bytes], what: str) -> int:
    """What was acknowledged is there, what is there is a prefix; returns how much that is."""
    acknowledged = [int(line) for line in done.stdout.split()]
    assert acknowledged == list(range(1, len(acknowledged) + 1)), what
    assert b"Traceback" not in done.stderr, f"{what}: {done.stderr.decode()}"
    assert done.returncode in {0, 1, -9, 137}, f"{what}: exit code {done.returncode}"
    if not folder.exists():
        assert not acknowledged
        return 0
    named = list_segments(LocalDisk(), str(folder))
    checkpoint_lsn = RETIRED_BELOW - 1 if named and named[0][0].first_lsn > 1 else 0
    options = JournalOptions(headroom_bytes=0)
    journal = Journal.open(folder, state_id=b"state", options=options, checkpoint_lsn=checkpoint_lsn)
    assert journal.recovery.damages == (), what
    assert journal.last_lsn >= len(acknowledged), f"{what}: acknowledged {len(acknowledged)}, found {journal.last_lsn}"
    for lsn, record in enumerate(journal.read(journal.stat().first_lsn - 1), journal.stat().first_lsn):
        assert record.lsn == lsn, what
        assert record.payload.startswith(b"%d:" % lsn), what
        assert len(record.payload) == len(b"%d:" % lsn) + lsn * 97 % 900, what
    return len(acknowledged)


def run(folder: Path, chosen: list[tuple[str, str, int]]) -> None:
    stopped = 0
    for fault, call, index in chosen:
        what = f"{fault} at {call} {index}"
        target = folder / what.replace(" ", "-")
        done = strace(target / "journal", "-e", f"inject={call}:{FAULTS[fault]}:when={index}", "-o", "/dev/null")
        stopped += judge(target / "journal", done, what) < 29
        shutil.rmtree(target, ignore_errors=True)
    assert stopped > len(chosen) / 3, "the faults did not reach the workload"


def test_a_failing_call_is_never_acknowledged_sample(tmp_path: Path, counted: dict[str, int]) -> None:
    """One of thirteen of all the ways to fail."""
    run(tmp_path, list(cases(counted))[::SAMPLE])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_failing_call_is_never_acknowledged(tmp_path: Path, counted: dict[str, int]) -> None:
    """Every fault at every index of every call."""
    run(tmp_path, list(cases(counted)))


def short_writes(folder: Path, indexes: range, counts: dict[str, int]) -> None:
    for index in indexes:
        target = folder / f"short-{index}"
        done = strace(target, "-e", "trace=none", "-o", "/dev/null", arguments=(str(index),))
        assert done.returncode == 0, done.stderr.decode()
        assert judge(target, done, f"short write {index}") == 29
        target = folder / f"short-{index}-killed"
        kill = f"inject=pwrite64:signal=SIGKILL:when={min(index + 1, counts['pwrite64'])}"
        done = strace(target, "-e", kill, "-o", "/dev/null", arguments=(str(index),))
        judge(target, done, f"short write {index}, then killed")


def test_a_short_write_is_continued_sample(tmp_path: Path, counted: dict[str, int]) -> None:
    """The system writes 21 bytes and says so: the rest follows; killed in between, the half group is a torn tail."""
    short_writes(tmp_path, range(2, counted["pwrite64"], SAMPLE), counted)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_short_write_is_continued(tmp_path: Path, counted: dict[str, int]) -> None:
    """The same at each write."""
    short_writes(tmp_path, range(1, counted["pwrite64"]), counted)
