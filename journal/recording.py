"""A disk that remembers what was asked of it, and tells every state that a power cut could have left.

What a file system promises is little: what was synced is there; of the rest each sector of each write, each change of a
length and each change of a folder may be there or not, in any order. `RecordingDisk` runs in memory and logs;
`crash_states` goes through the log and, behind each step, gives the states that are possible there:

- everything unsynced is there (a killed process), or nothing of it;
- any one or two of the unsynced writes are missing, whole, or torn at 512-byte sectors;
- a file's length is there and its data is not, or the other way round;
- any one or two of the unsynced changes of folders are missing, or all after some point.

A sector is written as a whole: when two writes share one, the later cannot be there without the earlier.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any, Literal, Self

from holdfast.journal.disk import Bytes
from holdfast.journal.fakes import MemoryDisk, MemoryFile

__all__ = ["CrashState", "RecordingDisk", "Site"]

SECTOR_BYTES = 512

Site = tuple[str, int]
"""A line of source, (file name, line number), from which a sync was asked for."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One entry of the log. `node` is the file it is about, `path` and `other` are names."""

    kind: Literal["write", "truncate", "sync", "create", "rename", "link", "unlink", "sync_dir", "mark"]
    node: int = 0
    path: str = ""
    other: str = ""
    offset: int = 0
    data: bytes = b""
    value: object = None


@dataclass(frozen=True, slots=True)
class CrashState:
    """One state that a power cut could have left: the files, and the value of each mark made before."""

    step: int
    what: str
    files: dict[str, bytes]
    marks: dict[str, Any]
    folders: frozenset[str]

    def disk(self) -> MemoryDisk:
        """A disk in this state."""
        disk = MemoryDisk()
        for folder in self.folders:
            disk.make_folder(folder)
        for path, data in self.files.items():
            disk.write(path, data)
        return disk


class RecordingDisk:
    """A disk in memory that logs every change and every sync.

    `without`: syncs asked for from this line of source do nothing, as if the line were not there; for tests that want to know
    whether anyone would notice.
    """

    def __init__(self, without: Site | None = None) -> None:
        self.without = without
        self.sync_sites: set[Site] = set()
        self._live = MemoryDisk()
        self._log: list[_Step] = []
        self._nodes: dict[str, int] = {}
        self._next_node = 1
        self._folders: set[str] = set()

    def mark(self, name: str, value: object) -> None:
        """Note something that is true from here on, for whoever judges the states."""
        self._log.append(_Step("mark", path=name, value=value))

    def create(self, path: str) -> _RecordingFile:
        file = self._live.create(path)
        node = self._nodes[path] = self._next_node
        self._next_node += 1
        self._log.append(_Step("create", node, path))
        return _RecordingFile(file, node, self)

    def open(self, path: str, *, write: bool = False) -> _RecordingFile:
        return _RecordingFile(self._live.open(path, write=write), self._nodes[path], self)

    def make_folder(self, path: str) -> None:
        self._live.make_folder(path)
        self._folders.add(path)

    def listdir(self, path: str) -> list[str]:
        return self._live.listdir(path)

    def exists(self, path: str) -> bool:
        return self._live.exists(path)

    def size_bytes(self, path: str) -> int:
        return self._live.size_bytes(path)

    def rename(self, old: str, new: str) -> None:
        self._live.rename(old, new)
        node = self._nodes[new] = self._nodes.pop(old)
        if os.path.dirname(old) == os.path.dirname(new):
            self._log.append(_Step("rename", node, old, new))
        else:  # two folders, two changes, each durable with its own folder
            self._log.append(_Step("link", node, old, new))
            self._log.append(_Step("unlink", node, old))

    def link(self, old: str, new: str) -> None:
        self._live.link(old, new)
        self._nodes[new] = self._nodes[old]
        self._log.append(_Step("link", self._nodes[old], old, new))

    def unlink(self, path: str) -> None:
        self._live.unlink(path)
        self._log.append(_Step("unlink", self._nodes.pop(path), path))

    def fsync_dir(self, path: str) -> None:
        self._live.fsync_dir(path)
        if self._counts():
            self._log.append(_Step("sync_dir", path=path))

    def free_bytes(self, path: str) -> int:
        return self._live.free_bytes(path)

    @property
    def steps(self) -> int:
        """How long the log is."""
        return len(self._log)

    def crash_states(self, from_step: int = 0) -> Iterator[CrashState]:
        """Every state, as the module says, behind each step of the log from `from_step` on; equal ones are not told apart."""
        power = _Power(frozenset(self._folders))
        for number, step in enumerate(self._log):
            power.take(step)
            last = number == len(self._log) - 1
            if number >= from_step and (last or step.kind not in {"sync", "sync_dir"}):  # a sync only rules states out
                yield from power.states(number)

    @classmethod
    def after(cls, state: CrashState) -> RecordingDisk:
        """A disk that begins in a crash state, all of it durable: what the next life finds."""
        disk = cls()
        for folder in state.folders:
            disk.make_folder(folder)
        for path, data in state.files.items():
            with disk.create(path) as file:
                file.append(data)
                file.fsync()
        for folder in state.folders:
            disk.fsync_dir(folder)
        return disk

    def record(self, step: _Step) -> None:
        """Add a step to the log: for the files of this disk."""
        self._log.append(step)

    def synced(self, node: int) -> None:
        """Note that a file was synced, unless that is what is left out."""
        if self._counts():
            self._log.append(_Step("sync", node))

    def _counts(self) -> bool:
        """Note from where a sync was asked for; False when that is left out."""
        sites = set(_sites())
        self.sync_sites |= sites
        return self.without not in sites


class _RecordingFile:
    def __init__(self, live: MemoryFile, node: int, disk: RecordingDisk) -> None:
        self.path = live.path
        self._live = live
        self._node = node
        self._disk = disk

    def pread(self, size_bytes: int, offset: int) -> bytes:
        return self._live.pread(size_bytes, offset)

    def pwrite(self, data: Bytes, offset: int) -> None:
        self._live.pwrite(data, offset)
        self._disk.record(_Step("write", self._node, offset=offset, data=bytes(data)))

    def append(self, data: Bytes) -> None:
        self.pwrite(data, self._live.size_bytes())

    def size_bytes(self) -> int:
        return self._live.size_bytes()

    def truncate(self, size_bytes: int) -> None:
        self._live.truncate(size_bytes)
        self._disk.record(_Step("truncate", self._node, offset=size_bytes))

    def fsync(self) -> None:
        self._disk.synced(self._node)

    def fdatasync(self) -> None:
        self._disk.synced(self._node)

    def close(self) -> None:
        self._live.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(slots=True)
class _Node:
    """One file: what is durable of it, and what was done to it since."""

    durable: bytes = b""
    unsynced: list[_Step] = field(default_factory=list)

    def versions(self) -> list[bytes]:
        """Its bytes after none, one, two, ... of the unsynced steps."""
        versions = [self.durable]
        for step in self.unsynced:
            versions.append(_after(versions[-1], step))
        return versions


class _Power:
    """What is durable, and what is not, at one step of the log."""

    def __init__(self, folders: frozenset[str]) -> None:
        self._folders = folders
        self._nodes: dict[int, _Node] = {}
        self._names: dict[str, int] = {}
        self._unsynced_names: list[_Step] = []
        self._marks: dict[str, object] = {}

    def take(self, step: _Step) -> None:
        """Go one step on."""
        if step.kind == "mark":
            self._marks = {**self._marks, step.path: step.value}
        elif step.kind in {"write", "truncate"}:
            self._nodes[step.node].unsynced.append(step)
        elif step.kind == "sync":
            node = self._nodes[step.node]
            node.durable, node.unsynced = node.versions()[-1], []
        elif step.kind == "sync_dir":
            synced = [change for change in self._unsynced_names if _folder_of(change) == step.path]
            self._names = _renamed(self._names, synced)
            self._unsynced_names = [change for change in self._unsynced_names if _folder_of(change) != step.path]
        else:
            self._nodes.setdefault(step.node, _Node())
            self._unsynced_names.append(step)

    def states(self, number: int) -> Iterator[CrashState]:
        names = list(self._name_states())
        contents = list(self._content_states())
        for (how_named, mapping), (how_written, data) in [
            *product(names, contents[:2]),  # all writes, none
            *product(names[:2], contents[2:]),
        ]:
            files = {path: data[node] for path, node in mapping.items()}
            yield CrashState(number, f"{how_named}; {how_written}", files, self._marks, self._folders)

    def _name_states(self) -> Iterator[tuple[str, dict[str, int]]]:
        changes = self._unsynced_names
        yield "all names", _renamed(self._names, changes)
        if changes:
            yield "only synced names", self._names
        for count in range(1, len(changes)):
            yield f"{count} changes of names", _renamed(self._names, changes[:count])
        for missing in (*combinations(changes, 1), *combinations(changes, 2)):
            kept = [change for change in changes if change not in missing]
            yield f"without {[(m.kind, m.path) for m in missing]}", _renamed(self._names, kept)

    def _content_states(self) -> Iterator[tuple[str, dict[int, bytes]]]:
        latest = {number: node.versions()[-1] for number, node in self._nodes.items()}
        yield "all writes", latest
        if any(node.unsynced for node in self._nodes.values()):
            yield "only synced writes", {number: node.durable for number, node in self._nodes.items()}
        for number, node in self._nodes.items():
            for what, data in _partly_written(node):
                yield f"file {number} {what}", {**latest, number: data}


def _partly_written(node: _Node) -> Iterator[tuple[str, bytes]]:
    """The states of one file with unsynced steps, but for all and none of them."""
    if not node.unsynced:
        return
    versions = node.versions()
    final = versions[-1]
    yield "with its old length", final[: len(node.durable)].ljust(min(len(node.durable), len(final)), b"\0")
    yield "with its new length and no data", node.durable[: len(final)].ljust(len(final), b"\0")
    writes = [index for index, step in enumerate(node.unsynced) if step.kind == "write"]
    for missing in (*combinations(writes, 1), *combinations(writes, 2)):
        yield f"without writes {missing}", _without(node, versions, [(i, _sectors(node.unsynced[i])) for i in missing])
        kept_later = [(i, _not_written_later(node, i)) for i in missing]
        yield f"without what is only in writes {missing}", _without(node, versions, kept_later)
    for index in writes:
        sectors = list(_sectors(node.unsynced[index]))
        for count in range(1, len(sectors)):
            for what, torn in (
                ("first", sectors[count:]),
                ("last", sectors[:count]),
                ("all but one", [sectors[count]]),
            ):
                yield f"write {index} torn, {what} {count}", _without(node, versions, [(index, torn)])


def _without(node: _Node, versions: list[bytes], missing: Iterable[tuple[int, Iterable[int]]]) -> bytes:
    """The file's final bytes, but for sectors that are as they were before a step: (step, sectors) each."""
    data = bytearray(versions[-1])
    for index, sectors in sorted(missing, key=lambda item: -item[0]):
        before = versions[index]
        for sector in sectors:
            begin = sector * SECTOR_BYTES
            end = min(begin + SECTOR_BYTES, len(data))
            data[begin:end] = before[begin:end].ljust(max(end - begin, 0), b"\0")
    return bytes(data)


def _sectors(step: _Step) -> range:
    return range(step.offset // SECTOR_BYTES, (step.offset + len(step.data) + SECTOR_BYTES - 1) // SECTOR_BYTES)


def _not_written_later(node: _Node, index: int) -> list[int]:
    later = {sector for step in node.unsynced[index + 1 :] if step.kind == "write" for sector in _sectors(step)}
    return [sector for sector in _sectors(node.unsynced[index]) if sector not in later]


def _after(data: bytes, step: _Step) -> bytes:
    if step.kind == "truncate":
        return data[: step.offset].ljust(step.offset, b"\0")
    return data[: step.offset].ljust(step.offset, b"\0") + step.data + data[step.offset + len(step.data) :]


def _folder_of(change: _Step) -> str:
    return os.path.dirname(change.other or change.path)


def _renamed(names: dict[str, int], changes: Iterable[_Step]) -> dict[str, int]:
    """The names after some changes, each done to what it finds."""
    names = dict(names)
    for change in changes:
        if change.kind == "create":
            names[change.path] = change.node
        elif change.kind == "link":
            names[change.other] = change.node
        elif change.kind == "rename" and change.path in names:
            names[change.other] = names.pop(change.path)
        elif change.kind == "unlink":
            names.pop(change.path, None)
    return names


def _sites() -> Iterator[Site]:
    """The lines of source that the running call came through, of this package but not of this module."""
    frame = sys._getframe(1)
    here = frame.f_code.co_filename
    folder = os.path.dirname(here)
    caller: object = frame
    while caller is not None:
        assert isinstance(caller, type(frame))
        filename = caller.f_code.co_filename
        if filename != here and os.path.dirname(filename) == folder:
            yield os.path.basename(filename), caller.f_lineno
        caller = caller.f_back
