"""The only door to the file system, for the journal and for everything built on it.

`Disk` and `File` are the contract; `LocalDisk` keeps it with system calls. `fakes.py` has one in memory and one that
fails.

Rules that hold behind this door and so need not be repeated in front of it:

- folders are made 0700 and files 0600, whatever the umask: state holds secrets;
- no symbolic link is followed in the last part of a path (O_NOFOLLOW), and no descriptor survives an exec (O_CLOEXEC);
- a write is whole or raises: short writes are continued;
- nothing here syncs by itself but `make_folder`. Who writes decides what must be durable, and says which promise each
  sync buys.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import secrets
import sys
from collections.abc import Iterable
from typing import Protocol, Self

__all__ = ["ASIDE_PREFIX", "Bytes", "Disk", "DiskStream", "File", "LocalDisk", "write_aside"]

Bytes = bytes | bytearray | memoryview

ASIDE_PREFIX = ".aside-"
"""Begins the name of a file that is still being written; it is worth nothing until it is renamed."""


class File(Protocol):
    """An open regular file. Offsets and sizes are in bytes; every method but `close` may raise OSError."""

    @property
    def path(self) -> str:
        """The path it was opened by; a rename does not change it."""

    def pread(self, size_bytes: int, offset: int) -> bytes:
        """The bytes at `offset`; fewer than `size_bytes` only where the file ends."""

    def pwrite(self, data: Bytes, offset: int) -> None:
        """Write the whole of `data` at `offset`."""

    def append(self, data: Bytes) -> None:
        """Write the whole of `data` at the end."""

    def size_bytes(self) -> int:
        """How long the file is."""

    def truncate(self, size_bytes: int) -> None:
        """Cut the file, or lengthen it with zeros."""

    def fsync(self) -> None:
        """Return once data and metadata are on stable storage."""

    def fdatasync(self) -> None:
        """Return once the data, and what of the metadata is needed to read it, are on stable storage."""

    def close(self) -> None:
        """Give the descriptor back; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Disk(Protocol):
    """A place for files. Every method may raise OSError, with the meaning the system gives its errno."""

    def create(self, path: str) -> File:
        """Make a file that does not exist yet, open for reading and writing; raises FileExistsError."""

    def open(self, path: str, *, write: bool = False) -> File:
        """Open an existing file; raises FileNotFoundError."""

    def make_folder(self, path: str) -> None:
        """Make a folder and its parents, durably; one that exists is left as it is."""

    def listdir(self, path: str) -> list[str]:
        """The names in a folder, sorted."""

    def exists(self, path: str) -> bool:
        """True when there is a file or folder of this name."""

    def size_bytes(self, path: str) -> int:
        """How long a file is; raises FileNotFoundError."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, at once and replacing what had it; durable after `fsync_dir`."""

    def link(self, old: str, new: str) -> None:
        """Give a file a second name; raises FileExistsError."""

    def unlink(self, path: str) -> None:
        """Take a name away; durable after `fsync_dir`."""

    def fsync_dir(self, path: str) -> None:
        """Return once the folder's entries are on stable storage."""

    def free_bytes(self, path: str) -> int:
        """How many bytes can still be written to the file system that holds `path`."""


def write_aside(disk: Disk, path: str, chunks: Iterable[Bytes]) -> None:
    """Put a whole file at `path`, durably: a reader, or a crash, sees the old file or the new one, never a part."""
    folder = os.path.dirname(path)
    aside = os.path.join(folder, f"{ASIDE_PREFIX}{secrets.token_hex(8)}")
    try:
        with disk.create(aside) as file:
            for chunk in chunks:
                file.append(chunk)
            file.fsync()  # or the new name could point at bytes that a power cut takes away
        disk.rename(aside, path)
    except BaseException:
        if disk.exists(aside):
            disk.unlink(aside)
        raise
    disk.fsync_dir(folder)  # or a power cut could take the name away


class DiskStream(io.RawIOBase):
    """A `File` as a binary stream for reading from its start; wrap it in io.BufferedReader. Closing it closes the file."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: 0}[whence]
        self._position = base + offset + (self._file.size_bytes() if whence == os.SEEK_END else 0)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer is not public
        data = self._file.pread(len(buffer), self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


# The real one.


class LocalFile:
    """A file of the machine's own file system."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def pread(self, size_bytes: int, offset: int) -> bytes:
        data = os.pread(self._descriptor, size_bytes, offset)
        if len(data) in (size_bytes, 0):
            return data
        pieces = [data]  # a signal or the file's end: only the next read tells which
        have = len(data)
        while have < size_bytes and (data := os.pread(self._descriptor, size_bytes - have, offset + have)):
            pieces.append(data)
            have += len(data)
        return b"".join(pieces)

    def pwrite(self, data: Bytes, offset: int) -> None:
        written = os.pwrite(self._descriptor, data, offset)
        while written < len(data):
            count = os.pwrite(self._descriptor, memoryview(data)[written:], offset + written)
            if count == 0:
                raise OSError(errno.ENOSPC, "the system wrote nothing", self.path)
            written += count

    def append(self, data: Bytes) -> None:
        self.pwrite(data, self.size_bytes())

    def size_bytes(self) -> int:
        return os.fstat(self._descriptor).st_size

    def truncate(self, size_bytes: int) -> None:
        os.ftruncate(self._descriptor, size_bytes)

    def fsync(self) -> None:
        _full_sync(self._descriptor)

    def fdatasync(self) -> None:
        _data_sync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


if sys.platform == "darwin":

    def _full_sync(descriptor: int) -> None:
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # macOS: fsync only reaches the drive's cache, see fsync(2) there

    _data_sync = _full_sync
else:
    _full_sync = os.fsync
    _data_sync = os.fdatasync


class LocalDisk:
    """The machine's own file system, by system calls."""

    def create(self, path: str) -> LocalFile:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return LocalFile(path, os.open(path, flags, 0o600))

    def open(self, path: str, *, write: bool = False) -> LocalFile:
        flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
        return LocalFile(path, os.open(path, flags))

    def make_folder(self, path: str) -> None:
        if os.path.isdir(path):
            return
        parent = os.path.dirname(os.path.abspath(path))
        self.make_folder(parent)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
            return
        self.fsync_dir(parent)  # or everything in the new folder could vanish with its name

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def size_bytes(self, path: str) -> int:
        return os.stat(path, follow_symlinks=False).st_size

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def link(self, old: str, new: str) -> None:
        os.link(old, new, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def fsync_dir(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self, path: str) -> int:
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize
