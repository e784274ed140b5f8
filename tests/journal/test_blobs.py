"""The blob store keeps what is named, finds what is damaged, and collects only garbage."""

from __future__ import annotations

import errno
import hashlib

import pytest

from holdfast.journal import BlobDamaged, BlobMissing, BlobStore, Fault, FaultyDisk, MemoryDisk

DATA = b"some bytes" * 1000
DIGEST = hashlib.sha256(DATA).digest()


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk(MemoryDisk())


@pytest.fixture
def store(disk: FaultyDisk) -> BlobStore:
    return BlobStore("/v/images", disk)


def settle(store: BlobStore) -> None:
    """Let the pins of the past be of the past: a collection that has everything for roots."""
    store.collect(store.digests())


def test_a_blob_is_named_by_its_bytes(store: BlobStore, disk: FaultyDisk) -> None:
    """put returns the SHA-256 of the bytes, get verifies it, and equal bytes are one file."""
    assert store.put(DATA) == store.put(DATA) == store.put_stream([DATA[:7], DATA[7:]]) == DIGEST
    assert store.get(DIGEST) == DATA
    assert store.digests() == [DIGEST]
    assert store.size_bytes(DIGEST) == len(DATA)
    assert disk.listdir("/v/images") == [DIGEST.hex()]
    with store.open(DIGEST) as stream:
        assert stream.read(4) == b"some"


def test_a_blob_is_durable_when_its_digest_is_known(store: BlobStore, disk: FaultyDisk) -> None:
    """The file is synced before it gets its name, the folder after: no digest is returned when either fails."""
    for operation, path in (("fsync", ".aside-*"), ("rename", "*"), ("fsync_dir", "images")):
        disk.fail(Fault(operation, path=path))
        with pytest.raises(OSError, match="Input/output"):
            store.put(DATA, pin=True)
        assert disk.listdir("/v/images") == []
    assert not store._pins


def test_leaving_a_writer_by_an_exception_stores_nothing(store: BlobStore, disk: FaultyDisk) -> None:
    """A stream that breaks off leaves neither a blob nor a half file."""

    def break_off() -> None:
        with store.writer() as writer:
            writer.write(b"half")
            raise RuntimeError("the client went away")

    with pytest.raises(RuntimeError, match="the client went away"):
        break_off()
    assert disk.listdir("/v/images") == []


def test_a_full_disk_stores_nothing(disk: FaultyDisk) -> None:
    """ENOSPC in the middle of a blob is raised, and the bytes written so far are given back."""
    memory = MemoryDisk(capacity_bytes=5000)
    store = BlobStore("/v/images", memory)
    with pytest.raises(OSError, match="No space left") as caught:
        store.put(DATA)
    assert caught.value.errno == errno.ENOSPC
    assert memory.free_bytes("/") == 5000


@pytest.mark.parametrize("damage", [b"", DATA[:-1], DATA + b"x", b"X" + DATA[1:]])
def test_a_damaged_blob_is_found(store: BlobStore, disk: FaultyDisk, damage: bytes) -> None:
    """Cut, lengthened or changed bytes are never returned as the blob."""
    store.put(DATA)
    assert store.verify(DIGEST)
    assert isinstance(disk.inner, MemoryDisk)
    disk.inner.write(store.path(DIGEST), damage)
    assert not store.verify(DIGEST)
    with pytest.raises(BlobDamaged):
        store.get(DIGEST)


def test_a_missing_blob_is_named(store: BlobStore) -> None:
    """Asking for what is not there raises BlobMissing, with the digest."""
    for ask in (store.get, store.open, store.size_bytes):
        with pytest.raises(BlobMissing, match=DIGEST.hex()):
            ask(DIGEST)
    assert not store.contains(DIGEST)
    assert not store.verify(DIGEST)


def test_garbage_goes_to_the_trash_and_a_cycle_later_for_good(store: BlobStore, disk: FaultyDisk) -> None:
    """What no root names is first moved, then unlinked; what a root names stays."""
    kept, dropped = store.put(b"kept"), store.put(b"dropped")
    settle(store)
    assert store.collect([kept]).trashed == (dropped,)
    assert store.digests() == [kept]
    assert disk.listdir("/v/images") == [f".trash-{dropped.hex()}", kept.hex()]
    collected = store.collect([kept])
    assert (collected.unlinked, collected.freed_bytes) == ((dropped,), 7)
    assert disk.listdir("/v/images") == [kept.hex()]


def test_a_root_found_in_the_trash_is_put_back(store: BlobStore) -> None:
    """A blob that was named again between two collections is back, whole."""
    digest = store.put(DATA)
    settle(store)
    store.collect([])
    assert not store.contains(digest)
    store.collect([digest])
    assert store.get(digest) == DATA


def test_a_pinned_blob_is_spared(store: BlobStore) -> None:
    """Pins are counted, and the last one given back still counts until the next collection has begun."""
    digest = store.put(DATA, pin=True)
    store.pin(digest)
    settle(store)
    store.unpin(digest)
    assert store.collect([]).trashed == ()
    store.unpin(digest)
    assert store.collect([]).trashed == ()
    assert store.collect([]).trashed == (digest,)


def test_a_name_that_became_durable_while_roots_were_gathered_is_spared(store: BlobStore) -> None:
    """The race of a dedup hit: garbage is put again, named, and unpinned after the roots were gathered without it."""
    digest = store.put(DATA)
    settle(store)
    roots: list[bytes] = []
    assert store.put(DATA, pin=True) == digest
    store.unpin(digest)
    assert store.collect(roots).trashed == ()
    assert store.contains(digest)


def test_a_pin_made_while_collecting_is_seen(store: BlobStore, disk: FaultyDisk) -> None:
    """A writer that pins after the marking and before its blob's turn keeps it: the collector looks again."""
    first, second = sorted([store.put(b"one"), store.put(b"two")])
    settle(store)
    listdir = disk.listdir

    def pin_then_list(path: str) -> list[str]:
        if path == "/v/images":  # the roots are marked, the trash is emptied, nothing is moved yet
            store.pin(second)
        return listdir(path)

    disk.listdir = pin_then_list  # type: ignore[method-assign]
    assert store.collect([]).trashed == (first,)
    assert store.contains(second)


def test_a_store_makes_durable_what_an_earlier_life_may_not_have(disk: FaultyDisk, store: BlobStore) -> None:
    """Opening syncs the folder: a later dedup hit relies on a name that a killed process may have left unsynced."""
    before = disk.calls["fsync_dir"]
    BlobStore("/v/images", disk)
    assert disk.calls["fsync_dir"] == before + 1


def test_a_sweep_removes_what_a_dead_writer_left(store: BlobStore, disk: FaultyDisk) -> None:
    """Unfinished files go, blobs stay."""
    digest = store.put(DATA)
    disk.create("/v/images/.aside-0123").close()
    assert store.sweep() == 1
    assert store.digests() == [digest]
