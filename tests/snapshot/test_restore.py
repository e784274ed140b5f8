"""Getting back what was saved, and what happens when it is not whole any more."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from snapshot_rig import STATE_ID, Item, Rig

from holdfast.journal.disk import LocalDisk
from holdfast.journal.fakes import Fault, FaultyDisk, MemoryDisk
from holdfast.snapshot import (
    CheckpointOptions,
    ImageDamaged,
    IncompatibleFormat,
    Manifest,
    ManifestStore,
    NoUsableCheckpoint,
    ServiceEntry,
    restore,
)
from holdfast.snapshot import format as fmt
from holdfast.snapshot.errors import ForeignManifest
from holdfast.snapshot.images import decode

pytestmark = pytest.mark.anyio


async def two_checkpoints(rig: Rig) -> tuple[Manifest, Manifest]:
    """An older and a newer checkpoint of the same services, so small that every byte can be tried."""
    rig.change("queues", Item("old"))
    rig.change("tables", Item("t"))
    older = await rig.checkpointer.take("TEST")
    rig.change("queues", Item("new"))
    newer = await rig.checkpointer.take("TEST")
    assert older is not None
    assert newer is not None
    return older, newer


def damages(data: bytes) -> list[bytes]:
    """The file with each byte flipped, and cut at each length."""
    flipped = [data[:n] + bytes([data[n] ^ 0xFF]) + data[n + 1 :] for n in range(len(data))]
    return [*flipped, *(data[:n] for n in range(len(data))), data + b"\0"]


def rebuilt(original: MemoryDisk, path: str, data: bytes) -> Rig:
    """A next life on a copy of a volume with one file replaced."""
    disk = original.copy()
    disk.write(path, data)
    return Rig(Path("/volume"), disk=disk)


IN_PLACE = CheckpointOptions(fork=False)


async def test_every_byte_of_the_newest_manifest_flipped_or_cut_gives_the_checkpoint_before() -> None:
    """Detected, quarantined with its reason and the images it may have named, the older checkpoint used, and said."""
    disk = MemoryDisk()
    older, newer = await two_checkpoints(Rig(Path("/volume"), disk=disk, options=IN_PLACE))
    path = f"/volume/manifests/{newer.lsn:020d}-{newer.digest.hex()[:16]}.manifest"
    data = disk.read(path)
    for bad in damages(data):
        rig = rebuilt(disk, path, bad)
        found = restore(rig.manifests, rig.images, rig.source)
        assert found.manifest == older
        assert [item.path for item in found.damaged] == [path]
        assert not rig.disk.exists(path)
        assert isinstance(rig.disk, MemoryDisk)
        assert rig.disk.read(found.damaged[0].quarantined_path) == bad
        assert rig.disk.exists(found.damaged[0].quarantined_path + ".reason")
        assert {ref.digest for ref in newer.images()} <= rig.manifests.roots()
        assert found.load_all() == {}
        assert rig.states == {"queues": Item("old"), "tables": Item("t")}


async def test_every_byte_of_an_image_flipped_or_cut_gives_the_checkpoint_before() -> None:
    """The damaged image and the manifest that needs it go to quarantine; the whole images of that manifest are kept."""
    disk = MemoryDisk()
    older, newer = await two_checkpoints(Rig(Path("/volume"), disk=disk, options=IN_PLACE))
    ref = newer.services["queues"].parts["store"]
    path = f"/volume/images/{ref.digest.hex()}"
    data = disk.read(path)
    for bad in damages(data):
        rig = rebuilt(disk, path, bad)
        with pytest.raises(ImageDamaged):
            rig.images.read(ref)
        found = restore(rig.manifests, rig.images, rig.source)
        assert found.manifest == older
        assert len(found.damaged) == 2
        assert found.damaged[0].path == path
        assert "queues" in found.damaged[1].reason
        assert isinstance(rig.disk, MemoryDisk)
        assert rig.disk.read(found.damaged[0].quarantined_path) == bad
        assert found.load_all() == {}
        assert rig.states == {"queues": Item("old"), "tables": Item("t")}


async def test_a_missing_image_gives_the_checkpoint_before(rig: Rig) -> None:
    """A name without a file is as good as a damaged file."""
    older, newer = await two_checkpoints(rig)
    os.unlink(rig.images.path(newer.services["queues"].parts["store"].digest))
    found, states = rig.restored()
    assert found.manifest == older
    assert states["queues"] == Item("old")


async def test_an_image_under_a_right_digest_is_still_held_to_its_frame(tmp_path: Path) -> None:
    """Whoever can write a manifest can name any bytes: what lies in an image is bounded and checked all the same."""
    rig = Rig(tmp_path)
    good = rig.images.blobs.get(rig.images.put("queues", "store", b"x" * 10_000).digest)
    header, frame, trailer = good[: len(good) - 60], good[-60:-16], good[-16:]
    assert header + frame + trailer == good
    for bad in (
        good[:-16] + fmt.image_trailer(1 << 60),
        good[:-16] + fmt.image_trailer(9_999),
        good[:-16] + fmt.image_trailer(10_001),
        good[:-16] + fmt.image_trailer(0),
        good[:-16] + b"\0" * 5 + good[-16:],
        good[:-20] + good[-16:],
        good[:16],
        b"",
    ):
        digest = hashlib.sha256(bad).digest()
        with pytest.raises(ImageDamaged):
            decode(digest, bad)


async def test_both_checkpoints_damaged_starts_nothing_now_and_later(rig: Rig) -> None:
    """Never start empty over state that could not be read: also not at the second try, when all of it lies in quarantine."""
    older, newer = await two_checkpoints(rig)
    for manifest in (older, newer):
        Path(rig.manifests.path(manifest)).write_bytes(b"gone")
    for _ in range(3):
        rig = rig.next_life()
        with pytest.raises(NoUsableCheckpoint, match=r"\.manifest"):
            restore(rig.manifests, rig.images, rig.source)
    whole = restore(rig.manifests, rig.images, rig.source, journal_is_whole=True)
    assert whole.manifest is None


async def test_the_images_of_an_unreadable_manifest_outlive_collections(rig: Rig) -> None:
    """Nobody knows any more which images it named, so none that existed then is collected."""
    _, newer = await two_checkpoints(rig)
    Path(rig.manifests.path(newer)).write_bytes(b"gone")
    rig = rig.next_life()
    found = restore(rig.manifests, rig.images, rig.source)
    rig.checkpointer.start_from(found.manifest)
    found.load_all()
    for n in range(4):
        rig.change("queues", Item(f"later {n}"))
        await rig.checkpointer.take("TEST")
        await rig.checkpointer.collect()
    for ref in newer.images():
        rig.images.verify(ref)


async def test_a_manifest_of_a_newer_format_stops_the_start_and_stays(rig: Rig) -> None:
    """A volume written by a newer program: refused, nothing touched, not even what is damaged beside it."""
    older, newer = await two_checkpoints(rig)
    Path(rig.manifests.path(older)).write_bytes(b"damaged")
    data = bytearray(newer.pack()[: -fmt.MANIFEST_CHECKSUM_BYTES])
    data[8] += 1
    Path(rig.manifests.path(newer)).write_bytes(bytes(data) + hashlib.sha256(data).digest())
    before = sorted(os.listdir(rig.manifests.folder))
    with pytest.raises(IncompatibleFormat):
        restore(rig.manifests, rig.images, rig.source)
    assert sorted(os.listdir(rig.manifests.folder)) == before
    assert os.listdir(rig.quarantine.folder) == []


async def test_a_manifest_of_another_volume_stops_the_start_and_stays(rig: Rig) -> None:
    """Files that were copied between two volumes are no base, and no damage either."""
    await two_checkpoints(rig)
    others = ManifestStore(rig.manifests.folder, rig.images, rig.quarantine, state_id=b"another")
    others.commit(replace(rig.manifests.all()[0], lsn=9, state_id=b"another"))
    with pytest.raises(ForeignManifest):
        restore(rig.manifests, rig.images, rig.source)
    assert os.listdir(rig.quarantine.folder) == []


async def test_a_file_that_may_not_be_read_is_no_damage(tmp_path: Path) -> None:
    """No permission, no descriptors: the start fails and nothing is moved."""
    disk = FaultyDisk(LocalDisk())
    rig = Rig(tmp_path, disk=disk)
    await two_checkpoints(rig)
    disk.fail(Fault("open", 13, "*.manifest"))
    with pytest.raises(PermissionError):
        restore(rig.manifests, rig.images, rig.source)
    assert os.listdir(rig.quarantine.folder) == []


async def test_an_empty_volume_restores_nothing(rig: Rig) -> None:
    """No manifest, no damage: an empty start."""
    found = restore(rig.manifests, rig.images, rig.source)
    assert found.manifest is None
    assert found.services == frozenset()
    assert found.load("queues") == ()
    assert found.load_all() == {}


async def test_a_service_is_loaded_with_all_it_refers_to(rig: Rig) -> None:
    """Links are followed, in circles too; what is loaded already is not loaded again, what nobody refers to waits."""
    for name in ("a", "b", "c", "d"):
        rig.change(name, Item(name))
    links = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}
    plain_dump = rig.source.dump
    rig.source.dump = lambda service, part: plain_dump(service, part) | frozenset(links[service])  # type: ignore[method-assign]
    await rig.checkpointer.take("TEST")
    rig = rig.next_life()
    found = restore(rig.manifests, rig.images, rig.source)
    assert set(found.load("b")) == {"a", "b", "c"}
    assert set(rig.states) == {"a", "b", "c"}
    assert found.load("a") == ()
    assert found.load("d") == ("d",)
    assert found.load("unheard-of") == ()


async def test_a_service_that_does_not_load_is_named_and_the_rest_load(rig: Rig) -> None:
    """Nothing is skipped silently, and one bad service stops no other."""
    rig.change("queues", Item("q"))
    rig.change("tables", Item("t"))
    manifest = await rig.checkpointer.take("TEST")
    assert manifest is not None
    bad = rig.images.put("queues", "store", b"cos\nsystem\n(S'true'\ntR.")
    entry = ServiceEntry(1, 1, {"store": bad})
    rig.manifests.commit(Manifest(9, 1, 1, STATE_ID, "TEST", {**manifest.services, "queues": entry}))
    found, states = rig.restored()
    assert set(found.failed) == {"queues"}
    assert "os:system" in found.failed["queues"]
    assert states == {"tables": Item("t")}


async def test_manifests_and_images_work_on_any_disk() -> None:
    """Manifests, images and quarantine know the file system only as a Disk."""
    disk = MemoryDisk()
    rig = Rig(Path("/volume"), disk=disk, options=IN_PLACE)
    older, newer = await two_checkpoints(rig)
    assert rig.manifests.all() == [newer, older]
    found, states = rig.restored()
    assert found.manifest == newer
    assert states == rig.states
