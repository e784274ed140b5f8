"""Disks that are not: one in memory, one that fails when told to.

They keep the contract of `disk.Disk`, are as typed and as documented as the real one, and are part of the package:
tests of programs that embed the journal use them too.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import threading
import time
from dataclasses import dataclass
from typing import Self

from holdfast.journal.disk import Bytes, Disk, File

__all__ = ["Fault", "FaultyDisk", "MemoryDisk", "MemoryFile"]

# In memory.


class _Node:
    """The bytes of one file, whatever names it has."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)


class MemoryFile:
    """A file of a `MemoryDisk`."""

    def __init__(self, path: str, node: _Node, disk: MemoryDisk) -> None:
        self.path = path
        self._node = node
        self._disk = disk

    def pread(self, size_bytes: int, offset: int) -> bytes:
        return bytes(self._node.data[offset : offset + size_bytes])

    def pwrite(self, data: Bytes, offset: int) -> None:
        content = self._node.data
        growth = offset + len(data) - len(content)
        if growth > 0:
            self._disk.charge(growth, self.path)
            content.extend(bytes(growth))
        content[offset : offset + len(data)] = data

    def append(self, data: Bytes) -> None:
        self.pwrite(data, len(self._node.data))

    def size_bytes(self) -> int:
        return len(self._node.data)

    def truncate(self, size_bytes: int) -> None:
        growth = size_bytes - len(self._node.data)
        if growth > 0:
            self._disk.charge(growth, self.path)
            self._node.data.extend(bytes(growth))
        else:
            del self._node.data[size_bytes:]

    def fsync(self) -> None:
        pass

    def fdatasync(self) -> None:
        pass

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class MemoryDisk:
    """A file system in memory: for tests, and for programs that want the journal's order without its durability.

    `capacity_bytes` is how much fits before ENOSPC; it may be changed at any time. Not a model of crashes: what is
    written is kept, synced or not (`copy` is what a killed process leaves behind).
    """

    def __init__(self, capacity_bytes: int = 1 << 40) -> None:
        self.capacity_bytes = capacity_bytes
        self._files: dict[str, _Node] = {}
        self._folders: set[str] = {"/", ""}
        self._lock = threading.RLock()

    def copy(self) -> MemoryDisk:
        """Another disk with the same files, each with bytes of its own."""
        other = MemoryDisk(self.capacity_bytes)
        with self._lock:
            nodes = {id(node): _Node(bytes(node.data)) for node in self._files.values()}
            other._files = {path: nodes[id(node)] for path, node in self._files.items()}
            other._folders = set(self._folders)
        return other

    def read(self, path: str) -> bytes:
        """The whole of a file."""
        return bytes(self._node(path).data)

    def write(self, path: str, data: bytes) -> None:
        """Set the whole of a file, making it where it does not exist: how a test damages one."""
        self._files.setdefault(path, _Node()).data[:] = data

    def charge(self, growth_bytes: int, path: str) -> None:
        """Raise ENOSPC when `growth_bytes` more do not fit."""
        if growth_bytes > self.free_bytes(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def create(self, path: str) -> MemoryFile:
        with self._lock:
            self._require_folder(path)
            if self.exists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            node = self._files[path] = _Node()
        return MemoryFile(path, node, self)

    def open(self, path: str, *, write: bool = False) -> MemoryFile:
        return MemoryFile(path, self._node(path), self)

    def make_folder(self, path: str) -> None:
        with self._lock:
            while path not in self._folders:
                self._folders.add(path)
                path = os.path.dirname(path)

    def listdir(self, path: str) -> list[str]:
        with self._lock:
            if path not in self._folders:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            entries = [*self._files, *(self._folders - {"/", ""})]
            return sorted(os.path.basename(entry) for entry in entries if os.path.dirname(entry) == path)

    def exists(self, path: str) -> bool:
        return path in self._files or path in self._folders

    def size_bytes(self, path: str) -> int:
        return len(self._node(path).data)

    def rename(self, old: str, new: str) -> None:
        with self._lock:
            node = self._node(old)
            self._require_folder(new)
            del self._files[old]
            self._files[new] = node

    def link(self, old: str, new: str) -> None:
        with self._lock:
            if self.exists(new):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
            self._files[new] = self._node(old)

    def unlink(self, path: str) -> None:
        with self._lock:
            self._node(path)
            del self._files[path]

    def fsync_dir(self, path: str) -> None:
        if path not in self._folders:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def free_bytes(self, path: str) -> int:
        with self._lock:
            used = sum(len(node.data) for node in {id(node): node for node in self._files.values()}.values())
        return max(self.capacity_bytes - used, 0)

    def _node(self, path: str) -> _Node:
        try:
            return self._files[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def _require_folder(self, path: str) -> None:
        if os.path.dirname(path) not in self._folders:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


# Failing on demand.


@dataclass(slots=True)
class Fault:
    """One thing that shall go wrong.

    `operation` is the name of a method of `Disk` or `File` ("pwrite", "fdatasync", "rename", ...), `path` a pattern
    for the file's last name. The first `after` matching calls pass, the next `times` of them (None: all) fail with
    `error`; 0 is no error, only `delay_s`. Of a failing write the first `written_bytes` still reach the file.
    """

    operation: str
    error: int = errno.EIO
    path: str = "*"
    after: int = 0
    times: int | None = 1
    delay_s: float = 0.0
    written_bytes: int = 0


class FaultyDisk:
    """A disk that passes everything on to another, and fails where a `Fault` says so. `calls` counts what was asked of it."""

    def __init__(self, inner: Disk) -> None:
        self.inner = inner
        self.calls: dict[str, int] = {}
        self._faults: list[Fault] = []

    def fail(self, *faults: Fault) -> None:
        """Let these go wrong from now on."""
        self._faults.extend(faults)

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self._faults.clear()

    def check(self, operation: str, path: str) -> Fault | None:
        """Count a call; returns the fault that hits it, after its delay. `guard` raises at once."""
        self.calls[operation] = self.calls.get(operation, 0) + 1
        for fault in self._faults:
            if fault.operation == operation and fnmatch.fnmatch(os.path.basename(path), fault.path):
                if fault.after > 0:
                    fault.after -= 1
                    continue
                if fault.times == 0:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                time.sleep(fault.delay_s)
                if fault.error:
                    return fault
        return None

    def guard(self, operation: str, path: str) -> None:
        """Count a call and raise what a fault says."""
        fault = self.check(operation, path)
        if fault is not None:
            raise OSError(fault.error, os.strerror(fault.error), path)

    def create(self, path: str) -> File:
        self.guard("create", path)
        return _FaultyFile(self.inner.create(path), self)

    def open(self, path: str, *, write: bool = False) -> File:
        self.guard("open", path)
        return _FaultyFile(self.inner.open(path, write=write), self)

    def make_folder(self, path: str) -> None:
        self.guard("make_folder", path)
        self.inner.make_folder(path)

    def listdir(self, path: str) -> list[str]:
        self.guard("listdir", path)
        return self.inner.listdir(path)

    def exists(self, path: str) -> bool:
        return self.inner.exists(path)

    def size_bytes(self, path: str) -> int:
        return self.inner.size_bytes(path)

    def rename(self, old: str, new: str) -> None:
        self.guard("rename", new)
        self.inner.rename(old, new)

    def link(self, old: str, new: str) -> None:
        self.guard("link", new)
        self.inner.link(old, new)

    def unlink(self, path: str) -> None:
        self.guard("unlink", path)
        self.inner.unlink(path)

    def fsync_dir(self, path: str) -> None:
        self.guard("fsync_dir", path)
        self.inner.fsync_dir(path)

    def free_bytes(self, path: str) -> int:
        return self.inner.free_bytes(path)


class _FaultyFile:
    def __init__(self, inner: File, disk: FaultyDisk) -> None:
        self._inner = inner
        self._disk = disk
        self.path = inner.path

    def pread(self, size_bytes: int, offset: int) -> bytes:
        self._disk.guard("pread", self.path)
        return self._inner.pread(size_bytes, offset)

    def pwrite(self, data: Bytes, offset: int) -> None:
        fault = self._disk.check("pwrite", self.path)
        if fault is None:
            self._inner.pwrite(data, offset)
            return
        if fault.written_bytes:
            self._inner.pwrite(memoryview(data)[: fault.written_bytes], offset)
        raise OSError(fault.error, os.strerror(fault.error), self.path)

    def append(self, data: Bytes) -> None:
        self.pwrite(data, self.size_bytes())

    def size_bytes(self) -> int:
        return self._inner.size_bytes()

    def truncate(self, size_bytes: int) -> None:
        self._disk.guard("truncate", self.path)
        self._inner.truncate(size_bytes)

    def fsync(self) -> None:
        self._disk.guard("fsync", self.path)
        self._inner.fsync()

    def fdatasync(self) -> None:
        self._disk.guard("fdatasync", self.path)
        self._inner.fdatasync()

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
