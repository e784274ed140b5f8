"""One checkpoint, from cut to retention."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from snapshot_rig import Item, Rig

from holdfast.journal.disk import LocalDisk
from holdfast.journal.fakes import Fault, FaultyDisk
from holdfast.snapshot import CheckpointOptions, Manifest, SnapshotFailed
from holdfast.snapshot.source import OpenPart

pytestmark = pytest.mark.anyio

FORKED = CheckpointOptions(in_place_budget_s=0)
IN_PLACE = CheckpointOptions(in_place_budget_s=60)


async def taken(rig: Rig, reason: str = "TEST") -> Manifest:
    manifest = await rig.checkpointer.take(reason)
    assert manifest is not None
    return manifest


async def test_a_forked_checkpoint_is_restored_by_the_next_life(rig: Rig) -> None:
    """What a child pickled comes back equal, at the LSN of its cut."""
    rig.change("queues", {"a": Item("a", messages=[1, 2, 3])})
    rig.change("tables", [Item("t", rows={"k": b"v" * 100_000})])
    manifest = await taken(rig)
    assert rig.checkpointer.timing.forked
    assert manifest.complete
    assert manifest.lsn == 2
    found, states = rig.restored()
    assert found.manifest == manifest
    assert states == rig.states


async def test_small_known_services_are_pickled_in_place_and_give_the_same_images(tmp_path: Path) -> None:
    """In place or forked, equal state has equal bytes and so one name."""
    forked, in_place = Rig(tmp_path / "1", options=FORKED), Rig(tmp_path / "2", options=IN_PLACE)
    for rig in (forked, in_place):
        rig.change("queues", {"a": Item("a", n=1)})
        await taken(rig)
        rig.change("queues", {"a": Item("a", n=2)})
    one, two = await taken(forked), await taken(in_place)
    assert forked.checkpointer.timing.forked
    assert not in_place.checkpointer.timing.forked
    assert one.services["queues"].parts == two.services["queues"].parts


async def test_a_service_that_grew_since_its_estimate_goes_to_the_fork(rig: Rig) -> None:
    """The estimate is of the past: pickling in place stops once it is over its budget, and the child does it."""
    rig.change("queues", [Item("small")])
    await taken(rig)
    rig.change("queues", [Item(str(n), body="x" * 50) for n in range(100_000)])
    manifest = await taken(rig)
    assert rig.checkpointer.timing.forked
    assert rig.checkpointer.timing.pause_s < 0.25  # pickling all of it takes longer than this
    assert manifest.complete
    assert len(rig.restored()[1]["queues"]) == 100_000


async def test_where_a_fork_does_not_fit_commands_wait_and_it_is_said(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little memory for twice the heap: the state is pickled in place, whole, and the reason is there for health."""
    monkeypatch.setattr("holdfast.snapshot.memory.available_bytes", lambda: 1 << 20)
    rig.change("queues", [Item(str(n)) for n in range(1000)])
    manifest = await taken(rig)
    assert manifest.complete
    assert not rig.checkpointer.timing.forked
    assert "1 MB are free" in rig.checkpointer.blocking
    assert rig.restored()[1] == rig.states
    monkeypatch.undo()
    rig.change("tables", Item("t"))
    await taken(rig)
    assert rig.checkpointer.blocking == ""


async def test_an_unchanged_service_is_carried_forward_by_digest(rig: Rig) -> None:
    """A clean service costs nothing: its entry is the older one, word for word."""
    rig.change("queues", Item("q"))
    rig.change("tables", Item("t"))
    first = await taken(rig)
    rig.change("tables", Item("t2"))
    second = await taken(rig)
    assert second.services["queues"] == first.services["queues"]
    assert second.services["tables"] != first.services["tables"]
    assert rig.restored()[1] == rig.states


async def test_nothing_dirty_makes_no_scheduled_checkpoint(rig: Rig) -> None:
    """SCHEDULED writes only if anything is dirty; whoever asks by name gets one all the same."""
    rig.change("queues", Item("q"))
    await taken(rig)
    assert await rig.checkpointer.take("SCHEDULED", only_if_dirty=True) is None
    assert (await taken(rig, "MANUAL")).complete


@pytest.mark.parametrize("options", [FORKED, IN_PLACE])
async def test_a_service_that_cannot_be_pickled_makes_the_manifest_partial(
    tmp_path: Path, options: CheckpointOptions
) -> None:
    """It is named with its reason, stays dirty until it can be written, and no recovery starts from a manifest without it."""
    rig = Rig(tmp_path, options=options)
    rig.change("queues", Item("q"))
    rig.change("functions", Item("f"))
    await taken(rig)
    rig.change("queues", Item("q2"))
    rig.change("functions", Item("f", bad=(n for n in range(3))))
    partial = await taken(rig)
    assert not partial.complete
    assert set(partial.failed) == {"functions"}
    assert "generator" in partial.failed["functions"]
    assert "functions" not in partial.services
    assert rig.host.dirty == {"functions": 4}
    found, states = rig.restored()
    assert found.manifest is not None
    assert found.manifest.lsn == 2
    assert states["queues"] == Item("q")
    rig.change("functions", Item("f2"))
    whole = await taken(rig)
    assert whole.complete
    assert rig.restored()[1] == {"queues": Item("q2"), "functions": Item("f2")}


async def test_a_failing_service_that_nobody_marked_dirty_again_keeps_manifests_partial(rig: Rig) -> None:
    """Complete means that every service is valid at the LSN, whatever a forgetful host says is dirty."""
    rig.change("functions", Item("f", bad=(n for n in range(3))))
    await taken(rig)
    rig.host.dirty.clear()
    rig.change("queues", Item("q"))
    assert not (await taken(rig)).complete


async def test_partial_manifests_free_nothing(rig: Rig) -> None:
    """The two checkpoints are kept however many partial manifests come after them."""
    for n in range(2):
        rig.change("queues", Item(f"q{n}"))
        await taken(rig)
    rig.change("functions", Item("f", bad=(n for n in range(3))))
    for n in range(6):
        rig.change("queues", Item(f"r{n}"))
        await taken(rig)
    kept = rig.manifests.all()
    assert [manifest.lsn for manifest in kept if manifest.complete] == [2, 1]
    assert len(kept) == 4


async def test_two_checkpoints_are_kept_with_their_images(rig: Rig) -> None:
    """Promise 5: the newest two stay whole; what only older ones named is trashed, and gone a cycle later."""
    for n in range(5):
        rig.change("queues", Item(f"q{n}"))
        manifest = await taken(rig)
        await rig.checkpointer.collect()
        assert rig.checkpointer.retain_from_lsn == max(0, manifest.lsn - 1)
    kept = rig.manifests.all()
    assert [manifest.lsn for manifest in kept] == [5, 4]
    assert set(rig.blobs.digests()) == {ref.digest for manifest in kept for ref in manifest.images()}


@pytest.mark.parametrize("cycles", [1, 2, 3, 4])
async def test_state_that_comes_back_is_whole_whatever_the_collector_did_to_its_image(rig: Rig, cycles: int) -> None:
    """An image still there, in the trash, or gone: a checkpoint that needs its bytes again has them."""
    rig.change("queues", Item("recurring"))
    await taken(rig)
    for n in range(cycles):
        rig.change("queues", Item(f"q{n}"))
        await taken(rig)
        await rig.checkpointer.collect()
    rig.change("queues", Item("recurring"))
    await taken(rig)
    await rig.checkpointer.collect()
    await rig.checkpointer.collect()
    assert rig.restored()[1] == {"queues": Item("recurring")}


async def test_a_pinned_manifest_is_kept(rig: Rig) -> None:
    """What a tag names outlives the two newest checkpoints, images and all."""
    rig.change("queues", Item("tagged"))
    tagged = await taken(rig)
    rig.manifests._pinned = lambda: {tagged.digest}
    for n in range(4):
        rig.change("queues", Item(f"q{n}"))
        await taken(rig)
        await rig.checkpointer.collect()
    assert tagged in rig.manifests.all()
    for ref in tagged.images():
        rig.images.verify(ref)


async def test_the_view_shows_the_current_images(rig: Rig) -> None:
    """state/api_states/<service>/store.state is the image that the newest manifest names, and read-only."""
    for n in range(3):
        rig.change("queues", Item(f"q{n}"))
        manifest = await taken(rig)
        shown = rig.folder / "state" / "api_states" / "queues" / "store.state"
        assert (
            shown.read_bytes() == Path(rig.images.path(manifest.services["queues"].parts["store"].digest)).read_bytes()
        )
        assert shown.stat().st_mode & 0o777 == 0o444
        assert os.listdir(shown.parent) == ["store.state"]
    assert rig.checkpointer.housekeeping_failure == ""


async def test_a_service_that_changed_back_shows_one_image_under_one_name(rig: Rig) -> None:
    """Equal state has one name, so a view may already be the file it shall show."""
    rig.change("queues", Item("q"))
    first = await taken(rig)
    rig.change("queues", Item("q"))
    second = await taken(rig)
    assert first.services["queues"].parts == second.services["queues"].parts
    assert os.listdir(rig.folder / "state" / "api_states" / "queues") == ["store.state"]


async def test_a_view_is_a_copy_where_files_have_one_name_only(tmp_path: Path) -> None:
    """A file system without links: the view has the same bytes, and the checkpoint does not care."""
    disk = FaultyDisk(LocalDisk())
    disk.fail(Fault("link", errno.EPERM, times=None))
    rig = Rig(tmp_path, disk=disk)
    rig.change("queues", Item("q"))
    manifest = await taken(rig)
    shown = tmp_path / "state" / "api_states" / "queues" / "store.state"
    assert shown.read_bytes() == Path(rig.images.path(manifest.services["queues"].parts["store"].digest)).read_bytes()
    assert rig.checkpointer.housekeeping_failure == ""


async def test_a_view_that_cannot_be_made_harms_no_checkpoint(tmp_path: Path) -> None:
    """It is for people to look at: what went wrong is said, the checkpoint stands."""
    disk = FaultyDisk(LocalDisk())
    disk.fail(Fault("make_folder", errno.ENOSPC, "queues", times=None))
    rig = Rig(tmp_path, disk=disk)
    rig.change("queues", Item("q"))
    assert (await taken(rig)).complete
    assert "No space left" in rig.checkpointer.housekeeping_failure
    assert rig.host.dirty == {}


async def test_an_older_manifest_that_rots_goes_to_quarantine_at_the_next_checkpoint(rig: Rig) -> None:
    """It stops no checkpoint; it is set aside and said."""
    rig.change("queues", Item("q"))
    first = await taken(rig)
    Path(rig.manifests.path(first)).write_bytes(b"rotten")
    rig.change("queues", Item("q2"))
    assert (await taken(rig)).complete
    assert [item.path for item in rig.manifests.damaged] == [rig.manifests.path(first)]
    assert rig.checkpointer.retain_from_lsn == 0  # with one checkpoint left, the journal is needed from the start


class DurableFails:
    """A journal that failed: no LSN will ever be durable."""

    async def __call__(self, lsn: int) -> None:
        raise RuntimeError(f"LSN {lsn} will never be durable")


async def test_a_journal_that_cannot_become_durable_lets_no_manifest_be_written(rig: Rig) -> None:
    """The journal is durable up to an LSN before anything names that LSN."""
    rig.change("queues", Item("q"))
    rig.host.durable = DurableFails()  # type: ignore[method-assign]
    with pytest.raises(SnapshotFailed, match="never be durable"):
        await taken(rig)
    assert rig.manifests.all() == []
    assert rig.host.dirty == {"queues": 1}


class FaultWhenDurable:
    """A host's `durable` after which the disk fails: the images are written by then, the manifest is not."""

    def __init__(self, disk: FaultyDisk, fault: Fault) -> None:
        self.disk = disk
        self.fault = fault

    async def __call__(self, lsn: int) -> None:
        self.disk.fail(self.fault)


@pytest.mark.parametrize("options", [FORKED, IN_PLACE], ids=["forked", "in-place"])
@pytest.mark.parametrize("writing", ["images", "manifest"])
@pytest.mark.parametrize(
    ("operation", "error", "path"),
    [
        ("create", errno.ENOSPC, "*"),
        ("pwrite", errno.ENOSPC, "*"),
        ("fsync", errno.EIO, "*"),
        ("rename", errno.EIO, "*"),
        ("fsync_dir", errno.EIO, "*"),
        ("open", errno.EIO, "*"),
        ("pread", errno.EIO, "*"),
        ("open", errno.EIO, "*.manifest"),
    ],
)
async def test_a_disk_that_fails_at_any_step_leaves_the_older_checkpoint(
    tmp_path: Path, options: CheckpointOptions, writing: str, operation: str, error: int, path: str
) -> None:
    """Whatever step fails: the older checkpoint is whole, the services are dirty again, the next attempt is good."""
    disk = FaultyDisk(LocalDisk())
    rig = Rig(tmp_path, disk=disk, options=options)
    rig.change("queues", Item("old"))
    await taken(rig)
    rig.change("queues", Item("new"))
    fault = Fault(operation, error, path, times=None, written_bytes=10)
    if writing == "images":
        disk.fail(fault)
    else:
        rig.host.durable = FaultWhenDurable(disk, fault)  # type: ignore[method-assign]
    with pytest.raises(SnapshotFailed):
        await taken(rig)
    disk.heal()
    vars(rig.host).pop("durable", None)
    assert rig.host.dirty == {"queues": 2}
    found, states = rig.restored()
    assert found.damaged == ()
    # A manifest whose name was there before its folder could be synced is whole, and may be used.
    assert states == {"queues": Item("old")} or (
        operation in {"fsync_dir", "open", "pread"} and states == {"queues": Item("new")}
    )
    assert (await taken(rig)).complete
    assert rig.restored()[1] == {"queues": Item("new")}


class Slow:
    """A source that takes its time in the child."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def dump(self, service: str, open_part: OpenPart) -> frozenset[str]:
        open_part("store").write(b"begun")
        time.sleep(self.seconds)
        return frozenset()

    def load(self, service: str, parts: Mapping[str, Any]) -> None:
        raise NotImplementedError


async def test_a_child_that_hangs_is_killed_at_its_deadline(tmp_path: Path) -> None:
    """The checkpoint fails by name, the services are dirty again, no child and no descriptor stays behind."""
    rig = Rig(tmp_path, options=CheckpointOptions(child_deadline_s=0.3))
    rig.change("queues", Item("q"))
    rig.checkpointer.source = Slow(60)
    descriptors = len(os.listdir("/proc/self/fd"))
    started = time.monotonic()
    with pytest.raises(SnapshotFailed, match=r"no result after 0\.3 s"):
        await taken(rig)
    assert time.monotonic() - started < 5
    assert rig.host.dirty == {"queues": 1}
    assert rig.blobs.sweep() == 1  # what the child had begun is found and removed
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222  # it never waits
    rig.checkpointer.source = rig.source
    assert (await taken(rig)).complete
