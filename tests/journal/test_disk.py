"""Disks keep one contract, the real one and the fakes."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

import pytest

from holdfast.journal import Disk, DiskStream, Fault, FaultyDisk, LocalDisk, MemoryDisk, write_aside


@pytest.fixture(params=["local", "memory", "faulty"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, str]:
    """A disk of each kind, with a folder on it."""
    kinds: dict[str, Disk] = {"local": LocalDisk(), "memory": MemoryDisk(), "faulty": FaultyDisk(MemoryDisk())}
    disk = kinds[request.param]
    folder = os.path.join(tmp_path, "a", "b")
    disk.make_folder(folder)
    return disk, folder


def test_what_is_written_is_read(place: tuple[Disk, str]) -> None:
    """Bytes come back from where they were written; the gap before them is zeros; the end cuts a read short."""
    disk, folder = place
    with disk.create(f"{folder}/f") as file:
        file.pwrite(b"abc", 4)
        file.append(b"de")
        assert file.pread(100, 0) == b"\0\0\0\0abcde"
        assert file.pread(2, 5) == b"bc"
        assert file.pread(2, 50) == b""
        file.truncate(6)
        file.fsync()
        file.fdatasync()
        assert file.size_bytes() == disk.size_bytes(f"{folder}/f") == 6


def test_names_behave(place: tuple[Disk, str]) -> None:
    """Creating twice, opening what is not there, linking onto a name: errors; a rename replaces."""
    disk, folder = place
    write_aside(disk, f"{folder}/one", [b"1"])
    write_aside(disk, f"{folder}/two", [b"2"])
    with pytest.raises(FileExistsError):
        disk.create(f"{folder}/one")
    with pytest.raises(FileNotFoundError):
        disk.open(f"{folder}/three")
    with pytest.raises(FileExistsError):
        disk.link(f"{folder}/one", f"{folder}/two")
    disk.rename(f"{folder}/one", f"{folder}/two")
    disk.link(f"{folder}/two", f"{folder}/three")
    assert disk.listdir(folder) == ["three", "two"]
    disk.unlink(f"{folder}/two")
    with disk.open(f"{folder}/three") as file:
        assert file.pread(9, 0) == b"1"
    assert not disk.exists(f"{folder}/two")
    with pytest.raises(FileNotFoundError):
        disk.unlink(f"{folder}/two")
    with pytest.raises(FileNotFoundError):
        disk.size_bytes(f"{folder}/two")
    disk.fsync_dir(folder)
    assert disk.free_bytes(folder) > 0


def test_a_stream_reads_a_file(place: tuple[Disk, str]) -> None:
    """A File wrapped as a stream reads, seeks and closes as streams do."""
    disk, folder = place
    write_aside(disk, f"{folder}/f", [b"one\n", b"two\n"])
    with io.BufferedReader(DiskStream(disk.open(f"{folder}/f"))) as stream:
        assert stream.readline() == b"one\n"
        stream.seek(-4, os.SEEK_END)
        assert stream.read() == b"two\n"


def test_state_is_private(tmp_path: Path) -> None:
    """Folders are 0700 and files 0600 under any umask, and a symbolic link is not followed."""
    disk = LocalDisk()
    before = os.umask(0)
    try:
        disk.make_folder(f"{tmp_path}/x/y")
        disk.create(f"{tmp_path}/x/y/f").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(f"{tmp_path}/x").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(f"{tmp_path}/x/y/f").st_mode) == 0o600
    os.symlink(f"{tmp_path}/x/y/f", f"{tmp_path}/link")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        disk.open(f"{tmp_path}/link")


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that writes three bytes at a time still writes the whole; one that writes nothing is an error."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, bytes(data)[:3], offset))
    with LocalDisk().create(f"{tmp_path}/f") as file:
        file.pwrite(b"0123456789", 0)
        assert file.pread(20, 0) == b"0123456789"
        monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: 0)
        with pytest.raises(OSError, match="wrote nothing"):
            file.pwrite(b"x", 0)


def test_a_failed_write_aside_leaves_the_old_file() -> None:
    """Whatever fails on the way, the name holds the old bytes or the new, and no half file stays behind."""
    for operation in ("create", "pwrite", "fsync", "rename"):
        disk = FaultyDisk(MemoryDisk())
        disk.make_folder("/v")
        write_aside(disk, "/v/f", [b"old"])
        disk.fail(Fault(operation))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            write_aside(disk, "/v/f", [b"new"])
        assert disk.listdir("/v") == ["f"]
        with disk.open("/v/f") as file:
            assert file.pread(9, 0) == b"old"


def test_a_full_memory_disk_says_so() -> None:
    """Growth beyond the capacity is ENOSPC, and room comes back with what is deleted."""
    disk = MemoryDisk(capacity_bytes=10)
    disk.make_folder("/v")
    with disk.create("/v/f") as file:
        file.pwrite(bytes(8), 0)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            file.append(bytes(3))
        file.pwrite(b"x" * 8, 0)
    disk.unlink("/v/f")
    assert disk.free_bytes("/v") == 10


def test_a_fault_hits_what_it_names_when_it_says() -> None:
    """`after` passes, `times` limits, `path` selects, a failing write leaves the bytes it was told to."""
    disk = FaultyDisk(MemoryDisk())
    disk.make_folder("/v")
    file = disk.create("/v/log.open")
    disk.fail(Fault("pwrite", errno.ENOSPC, path="*.open", after=1, written_bytes=2))
    file.pwrite(b"first", 0)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        file.pwrite(b"SECOND", 0)
    assert file.pread(9, 0) == b"SErst"
    file.pwrite(b"third", 0)
    assert disk.calls["pwrite"] == 3
    disk.fail(Fault("fdatasync", times=None))
    for _ in range(2):
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            file.fdatasync()
    disk.heal()
    file.fdatasync()


def test_a_copy_of_a_memory_disk_is_apart() -> None:
    """What happens to one of two copies does not happen to the other, hard links included."""
    disk = MemoryDisk()
    disk.make_folder("/v")
    disk.write("/v/f", b"x")
    disk.link("/v/f", "/v/g")
    other = disk.copy()
    other.open("/v/f", write=True).pwrite(b"y", 0)
    assert (disk.read("/v/f"), other.read("/v/g")) == (b"x", b"y")
