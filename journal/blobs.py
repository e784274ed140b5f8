"""The blob store: immutable files named by the SHA-256 of their bytes.

A blob is written aside, synced, renamed to its name and the folder synced: a name that can be seen stands for whole,
durable bytes. Equal bytes are stored once.

Garbage is collected by reachability, and two races are closed. A writer **pins** a digest before it looks whether the
blob exists, until whatever names it (a record, a manifest) is durable: the collector spares what is pinned and looks
again, under the lock that pinning takes, right before it takes a name away. And what is collected goes to the
**trash** first and is unlinked only by the next collection: a reader who opened the store a moment ago, and a mistake
in the roots, both have one cycle to be noticed. A pin that was given back counts until the next collection has begun:
the roots of this one may have been gathered before the name became durable.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self, cast

from holdfast.journal.disk import ASIDE_PREFIX, Bytes, Disk, DiskStream, File, LocalDisk
from holdfast.journal.errors import BlobDamaged, BlobMissing

__all__ = ["BlobStore", "BlobWriter", "Collected"]

TRASH_PREFIX = ".trash-"
DIGEST_BYTES = 32
READ_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Collected:
    """What one garbage collection did: digests moved to the trash, digests unlinked from it, and the bytes that freed."""

    trashed: tuple[bytes, ...]
    unlinked: tuple[bytes, ...]
    freed_bytes: int


class BlobWriter:
    """A blob being written: `write` the bytes, leave the block, and `digest` names them.

    Leaving by an exception stores nothing.
    """

    def __init__(self, store: BlobStore, file: File, *, pin: bool) -> None:
        self._store = store
        self._file = file
        self._pin = pin
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        self.digest = b""

    def write(self, data: Bytes) -> int:
        """Add bytes; may raise OSError."""
        self._file.pwrite(data, self.size_bytes)
        self._hash.update(data)
        self.size_bytes += len(data)
        return len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.digest = self._hash.digest()
            self._store._land(self._file, self.digest, pin=self._pin)
        else:
            self._store._drop(self._file)


class BlobStore:
    """Blobs in one folder, which is made when missing. Every method may be called from any thread.

    The store belongs to one process. A forked child may write blobs through its copy: the parent must not `collect`
    until that child is gone, for it does not see the child's pins.
    """

    def __init__(self, folder: str | os.PathLike[str], disk: Disk | None = None) -> None:
        self.folder = os.fspath(folder)
        self.disk: Disk = disk or LocalDisk()
        self._pins: Counter[bytes] = Counter()
        self._pinned_lately: set[bytes] = set()
        self._lock = threading.Lock()
        self.disk.make_folder(self.folder)
        # A killed process may have renamed a blob and not synced its name: make durable what a dedup hit will rely on.
        self.disk.fsync_dir(self.folder)

    def path(self, digest: bytes) -> str:
        """Where the blob of this digest lies, or would."""
        assert len(digest) == DIGEST_BYTES, "a blob is named by a SHA-256 digest"
        return os.path.join(self.folder, digest.hex())

    def put(self, data: Bytes, *, pin: bool = False) -> bytes:
        """Store bytes durably and return their digest; with `pin` it is pinned first, for the caller to `unpin`.

        Raises OSError, and then nothing is pinned.
        """
        digest = hashlib.sha256(data).digest()
        self.pin(digest)
        try:
            if not self._durable(digest):
                with self.writer() as writer:
                    writer.write(data)
        except BaseException:
            self.unpin(digest)
            raise
        if not pin:
            self.unpin(digest)
        return digest

    def put_stream(self, chunks: Iterable[Bytes], *, pin: bool = False) -> bytes:
        """As `put`, of bytes that need not fit in memory."""
        with self.writer(pin=pin) as writer:
            for chunk in chunks:
                writer.write(chunk)
        return writer.digest

    @contextmanager
    def writer(self, *, pin: bool = False) -> Iterator[BlobWriter]:
        """Write a blob piece by piece; its digest is known, and the blob durable, when the block is left."""
        aside = os.path.join(self.folder, f"{ASIDE_PREFIX}{secrets.token_hex(8)}")
        with BlobWriter(self, self.disk.create(aside), pin=pin) as writer:
            yield writer

    def open(self, digest: bytes) -> BinaryIO:
        """A stream of the blob's bytes, not verified; raises BlobMissing."""
        try:
            return cast(BinaryIO, io.BufferedReader(DiskStream(self.disk.open(self.path(digest))), READ_CHUNK_BYTES))
        except FileNotFoundError:
            raise BlobMissing(f"no blob {digest.hex()} in {self.folder}") from None

    def get(self, digest: bytes) -> bytes:
        """The blob's bytes, verified; raises BlobMissing and BlobDamaged."""
        with self.open(digest) as stream:
            data = stream.read()
        if hashlib.sha256(data).digest() != digest:
            raise BlobDamaged(f"the bytes of {self.path(digest)} do not have the digest that names them")
        return data

    def verify(self, digest: bytes) -> bool:
        """True when the blob is there and whole; in bounded memory."""
        try:
            with self.open(digest) as stream:
                total = hashlib.sha256()
                while chunk := stream.read(READ_CHUNK_BYTES):
                    total.update(chunk)
        except BlobMissing:
            return False
        return total.digest() == digest

    def contains(self, digest: bytes) -> bool:
        """True when the blob is in the store. Only of a pinned digest does it stay true."""
        return self.disk.exists(self.path(digest))

    def size_bytes(self, digest: bytes) -> int:
        """How long the blob is; raises BlobMissing."""
        try:
            return self.disk.size_bytes(self.path(digest))
        except FileNotFoundError:
            raise BlobMissing(f"no blob {digest.hex()} in {self.folder}") from None

    def digests(self) -> list[bytes]:
        """Every blob in the store, in the order of their names."""
        return self._named("")

    def pin(self, digest: bytes) -> None:
        """Keep a blob, present or to come, from being collected until `unpin`; pins are counted."""
        with self._lock:
            self._pins[digest] += 1
            self._pinned_lately.add(digest)

    def unpin(self, digest: bytes) -> None:
        """Give back one pin."""
        with self._lock:
            self._pins[digest] -= 1
            if self._pins[digest] <= 0:
                del self._pins[digest]

    def collect(self, roots: Iterable[bytes]) -> Collected:
        """Unlink what the last collection trashed, and trash every blob that is neither among `roots` nor pinned.

        `roots` must name what manifests, tags, pods and retained records need. A trashed blob that became a root
        again meanwhile is put back.
        """
        with self._lock:
            lately, self._pinned_lately = self._pinned_lately, set(self._pins)
        marked = lately.union(roots)
        unlinked, freed_bytes = self._empty_trash(marked)
        trashed = [digest for digest in self.digests() if digest not in marked and self._trash_one(digest)]
        return Collected(tuple(trashed), tuple(unlinked), freed_bytes)

    def sweep(self) -> int:
        """Remove files whose writing a dead process left unfinished; returns how many. Only while nobody writes."""
        leftovers = [name for name in self.disk.listdir(self.folder) if name.startswith(ASIDE_PREFIX)]
        for name in leftovers:
            self.disk.unlink(os.path.join(self.folder, name))
        return len(leftovers)

    def _durable(self, digest: bytes) -> bool:
        """True when the blob is in the store with its name synced; the lock is held from rename to sync, so both or neither."""
        with self._lock:
            return self.disk.exists(self.path(digest))

    def _land(self, file: File, digest: bytes, *, pin: bool) -> None:
        """Give a written file its name, durably; where the name is taken the bytes are there already."""
        self.pin(digest)
        try:
            with file:
                file.fsync()  # the digest must never name bytes that a power cut takes away
            with self._lock:
                if self.disk.exists(self.path(digest)):
                    self.disk.unlink(file.path)
                else:
                    self._name(file.path, digest)
        except BaseException:
            self.unpin(digest)
            self._drop(file)
            raise
        if not pin:
            self.unpin(digest)

    def _drop(self, file: File) -> None:
        file.close()
        if self.disk.exists(file.path):
            self.disk.unlink(file.path)

    def _trash_one(self, digest: bytes) -> bool:
        with self._lock:
            if digest in self._pinned_lately:
                return False
            # A new name in the same folder is one change: no power cut leaves the blob without a name.
            self.disk.rename(self.path(digest), self._trash_path(digest))
            return True

    def _empty_trash(self, marked: set[bytes]) -> tuple[list[bytes], int]:
        unlinked: list[bytes] = []
        freed_bytes = 0
        for digest in self._named(TRASH_PREFIX):
            path = self._trash_path(digest)
            with self._lock:
                wanted = digest in marked or digest in self._pinned_lately
                if wanted and not self.disk.exists(self.path(digest)):
                    self._name(path, digest)
                    continue
            freed_bytes += self.disk.size_bytes(path)
            self.disk.unlink(path)
            unlinked.append(digest)
        return unlinked, freed_bytes

    def _name(self, path: str, digest: bytes) -> None:
        """Give a whole file the name of its digest, durably; where that fails it has no name that a dedup hit could find."""
        self.disk.rename(path, self.path(digest))
        try:
            self.disk.fsync_dir(self.folder)  # what names the blob may be durable a moment from now
        except OSError:
            self.disk.rename(self.path(digest), path)
            raise

    def _trash_path(self, digest: bytes) -> str:
        return os.path.join(self.folder, TRASH_PREFIX + digest.hex())

    def _named(self, prefix: str) -> list[bytes]:
        """The digests in the names that begin with `prefix`; other names are none of the store's business."""
        found: list[bytes] = []
        for name in self.disk.listdir(self.folder):
            digits = name.removeprefix(prefix)
            if name == prefix + digits and len(digits) == 2 * DIGEST_BYTES and digits == digits.lower():
                try:
                    found.append(bytes.fromhex(digits))
                except ValueError:
                    continue
        return found
