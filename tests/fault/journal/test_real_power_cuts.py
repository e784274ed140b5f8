"""A real file system that loses its power: ext4 on a loop device, shut down without flushing its log, again and again.

FS_IOC_SHUTDOWN with NOLOGFLUSH stops the file system dead: nothing that was not written back by a sync is written any more
(Linux, fs/ext4/ioctl.c, ext4_force_shutdown). Needs root and a kernel with ext4 and loop devices.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.journal import Journal, JournalOptions

WORKLOAD = Path(__file__).parent / "busy_workload.py"
EXT4_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = struct.pack("I", 2)
IMAGE_BYTES = 48 << 20


def command(*words: str) -> str:
    """Run a command; returns what it complained about."""
    done = subprocess.run(words, capture_output=True, check=False)
    return "" if done.returncode == 0 else f"{' '.join(words)}: {done.stderr.decode().strip()}"


def mount(image: Path, folder: Path) -> str:
    return command("mount", "-o", "loop", str(image), str(folder))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """An image with a fresh ext4, and where it is mounted; skips with the reason where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip("mounting a loop device needs root")
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    image, folder = tmp_path / "image", tmp_path / "mounted"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    for reason in (command("mkfs.ext4", "-q", "-F", str(image)), mount(image, folder)):
        if reason:
            pytest.skip(f"no ext4 on a loop device here: {reason}")
    try:
        yield image, folder
    finally:
        command("umount", str(folder))


def cut_power(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, NOLOGFLUSH)
    except OSError as error:
        pytest.skip(f"this kernel does not shut a file system down: {error}")
    finally:
        os.close(descriptor)


def round_of(folder: Path, checkpoint_lsn: int, retire_below_lsn: int, after_s: float) -> list[int]:
    """Run the workload, cut the power under it, and return what it had acknowledged."""
    workload = subprocess.Popen(
        [sys.executable, str(WORKLOAD), str(folder / "journal"), str(checkpoint_lsn), str(retire_below_lsn)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert workload.stdout is not None
    first = workload.stdout.readline()
    time.sleep(after_s)
    cut_power(folder)
    rest, complaint = workload.communicate(timeout=30)
    assert b"Traceback" not in complaint, complaint.decode()
    assert complaint.startswith(b"failed: the journal ") or not first, complaint.decode()
    return [int(line) for line in (first + rest).split()]


def rounds(image: Path, folder: Path, count: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    older_lsn = checkpoint_lsn = total = torn = 0
    for number in range(count):
        acknowledged = round_of(folder, checkpoint_lsn, older_lsn + 1, chance.uniform(0, 0.08))
        assert not command("umount", str(folder))
        assert not mount(image, folder)
        journal = Journal.open(
            folder / "journal",
            state_id=b"state",
            checkpoint_lsn=checkpoint_lsn,
            options=JournalOptions(headroom_bytes=0),
            quarantine=folder / "quarantine",
        )
        assert journal.recovery.damages == ()
        for lsn, record in enumerate(journal.read(checkpoint_lsn), checkpoint_lsn + 1):
            assert record.lsn == lsn
            assert record.payload == b"%d:" % lsn + bytes([65 + lsn % 26]) * (lsn * 997 % 3000)
        assert journal.last_lsn >= max(acknowledged, default=0), f"round {number}: an acknowledged record is gone"
        total += len(acknowledged)
        torn += journal.recovery.torn is not None
        older_lsn, checkpoint_lsn = checkpoint_lsn, journal.last_lsn
    print(f"{count} power cuts, {total} records acknowledged, 0 lost, {torn} torn tails")
    assert total > count


def test_ten_power_cuts_lose_nothing_acknowledged(mounted: tuple[Path, Path]) -> None:
    """Ten power cuts under load: every acknowledged record is there after each, unchanged."""
    rounds(*mounted, 10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_power_cuts_lose_nothing_acknowledged(mounted: tuple[Path, Path]) -> None:
    """A hundred of them."""
    rounds(*mounted, 100)
