"""One checkpoint: cut, pickle, journal durable, images, manifest, read back, and only then retention (DESIGN section 6).

Between two commands, in one step without an await, either the dirty services are pickled in place (when all of them together are
known to be small) or a child is forked that pickles them. Everything after that happens while commands run.

A service that cannot be written is named in the manifest, which is then partial: it is stored and reported, but no recovery
starts from it, and no journal segment or older checkpoint goes because of it. Its changes stay dirty and stay in the journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from holdfast.snapshot import fork, hugepages, memory
from holdfast.snapshot.dump import Dumped, OverBudget, Pickled, dump_images, pickle_in_place, write_images
from holdfast.snapshot.errors import FormatError, ImageDamaged, SnapshotFailed
from holdfast.snapshot.images import ImageStore
from holdfast.snapshot.keys import prepare_for_fork
from holdfast.snapshot.manifest import Manifest, ManifestStore, ServiceEntry
from holdfast.snapshot.source import CheckpointFailure, Cut, Host, Source
from holdfast.snapshot.views import Views

__all__ = ["CheckpointOptions", "Checkpointer", "Timing"]


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    """Limits, each with its reason."""

    in_place_budget_s: float = 0.005
    """All pickling between two commands together: below what a fork costs and what a client notices (DESIGN section 6)."""
    child_deadline_s: float = 300.0
    """A child without a result by then is killed: 4.6 s were measured for 500 MB of heap, this allows for 30 GB."""
    collapse_s: float = 2.0
    """Of a worker thread's time after a checkpoint, to make the next fork cheap; 0 for none. See hugepages."""
    fork: bool = fork.CAN_FORK
    """Without it everything is pickled in place, whatever its size, and commands wait meanwhile."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the last checkpoint took, in seconds: what commands could notice (`pause_s`), and the whole."""

    pause_s: float = 0.0
    total_s: float = 0.0
    forked: bool = False
    services: int = 0


@dataclass(slots=True)
class _Stage:
    """What the instant between two commands left behind: pickles in memory, or a child at work."""

    cut: Cut
    pickled: Pickled | None = None
    child: fork.Child | None = None
    pause_s: float = 0.0


@dataclass(slots=True)
class Checkpointer:
    """Makes checkpoints one at a time; the caller sees to that.

    `newest` is the newest manifest, partial or not, whose entries are carried forward; `checkpoint` the newest complete one.
    """

    host: Host
    source: Source
    images: ImageStore
    manifests: ManifestStore
    state_id: bytes
    epoch: int
    options: CheckpointOptions = field(default_factory=CheckpointOptions)
    views: Views | None = None
    other_roots: Callable[[], Collection[bytes]] | None = None
    """The digests that others than manifests need (journal, tags, pods); called on a worker thread. Without it, garbage is left
    to somebody else."""
    newest: Manifest | None = None
    checkpoint: Manifest | None = None
    timing: Timing = field(default_factory=Timing)
    housekeeping_failure: str = ""
    """Why old manifests, garbage or views could not be brought up to date the last time; "" when they were."""
    blocking: str = ""
    """Why commands wait while a large state is pickled; "" when it is done in a fork. A child may need as much again as its
    parent has: pickling counts references, and that copies every page it meets."""
    retain_from_lsn: int = 0
    """The journal is needed after this LSN; 0 while there are not two checkpoints."""
    _entries: dict[str, ServiceEntry] = field(default_factory=dict)
    _failed: dict[str, str] = field(default_factory=dict)
    _dump_ns: dict[str, int] = field(default_factory=dict)

    def start_from(self, manifest: Manifest | None) -> None:
        """Carry forward what was restored, a checkpoint or nothing: its services are clean."""
        self.newest = self.checkpoint = manifest
        self._entries = dict(manifest.services) if manifest is not None else {}

    async def take(self, reason: str, *, only_if_dirty: bool = False) -> Manifest | None:
        """Make a checkpoint of now; None if nothing is dirty and it need not. A partial one is returned too: look at `failed`.

        Raises SnapshotFailed when nothing came of it; the services of the cut are then dirty again.
        """
        started = time.perf_counter()
        stage = await self._stage(only_if_dirty)
        if stage is None:
            return None
        try:
            dumped = await self._dumped(stage)
            await self.host.durable(stage.cut.lsn)  # nothing may name an LSN that a power cut could take away
            manifest = await anyio.to_thread.run_sync(self._commit, stage.cut, dumped, reason)
        except BaseException as error:
            failure = CheckpointFailure(stage.cut.lsn, f"{type(error).__name__}: {error}", stage.cut.dirty)
            self.host.checkpoint_failed(failure)
            if isinstance(error, Exception):
                raise SnapshotFailed(failure.reason) from error
            raise
        self._adopt(manifest, dumped)
        await self._housekeeping(self._retire)
        self.host.checkpointed(manifest)
        if dumped.failed:
            dirty = {service: stage.cut.dirty.get(service, stage.cut.lsn) for service in dumped.failed}
            self.host.checkpoint_failed(
                CheckpointFailure(manifest.lsn, "some services could not be written", dirty, dumped.failed)
            )
        self.timing = Timing(
            stage.pause_s, time.perf_counter() - started, stage.child is not None, len(stage.cut.dirty)
        )
        if self.views is not None:
            await self._housekeeping(self.views.show, manifest, tuple(dumped.parts))
        return manifest

    async def collect(self) -> None:
        """Trash images that nothing names any more. Not while a checkpoint is under way: a child's pins are not seen here."""
        if self.other_roots is not None:
            await self._housekeeping(self._collect, self.other_roots)

    async def make_fork_cheap(self, stop: Callable[[], bool]) -> None:
        """Collapse a large process's memory to huge pages, until `stop`, so that the next fork is short."""
        until = time.monotonic() + self.options.collapse_s
        if not self.options.fork or self.options.collapse_s <= 0 or memory.resident_bytes() < hugepages.SMALL_BYTES:
            return
        cancelled = False
        try:
            await anyio.to_thread.run_sync(
                hugepages.collapse, lambda: cancelled or stop() or time.monotonic() > until, abandon_on_cancel=True
            )
        finally:
            cancelled = True

    def _collect(self, others: Callable[[], Collection[bytes]]) -> None:
        # On the worker thread: the first look of a life reads the whole journal. What is stored meanwhile is pinned, and spared.
        self.images.blobs.collect(self.manifests.roots().union(others()))

    # --- between two commands ---

    async def _stage(self, only_if_dirty: bool) -> _Stage | None:
        prepare_for_fork()
        self.blocking = self._why_not_fork()
        stage: _Stage | None = None
        try:
            async with self.host.boundary() as cut:
                if cut.dirty or not only_if_dirty:
                    started = time.perf_counter()
                    stage = self._pickle_or_fork(cut)
                    stage.pause_s = time.perf_counter() - started
        except BaseException:
            if stage is not None and stage.child is not None:
                stage.child.kill()
            raise
        return stage

    def _pickle_or_fork(self, cut: Cut) -> _Stage:
        services = sorted({*cut.dirty, *self._failed})
        budget_s = self.options.in_place_budget_s
        if self._estimate_s(services) <= budget_s:
            try:
                return _Stage(cut, pickled=pickle_in_place(self.source, services, int(budget_s * 1e9)))
            except OverBudget:
                pass  # it has grown since: the fork does it over
        if not self.blocking:
            return _Stage(
                cut, child=fork.spawn(lambda: dump_images(self.source, self.images.in_child(), services).pack())
            )
        return _Stage(cut, pickled=pickle_in_place(self.source, services, int(self.options.child_deadline_s * 1e9)))

    def _why_not_fork(self) -> str:
        if not self.options.fork:
            return "this system has no safe fork"
        needed, free = memory.resident_bytes(), memory.available_bytes()
        return "" if needed <= free else f"a fork may need {needed >> 20} MB and {free >> 20} MB are free"

    def _estimate_s(self, services: Iterable[str]) -> float:
        """How long pickling will take, by the last time; for ever where there was none."""
        return sum(self._dump_ns.get(service, float("inf")) for service in services) / 1e9

    # --- while commands run ---

    async def _dumped(self, stage: _Stage) -> Dumped:
        if stage.child is not None:
            return Dumped.unpack(await stage.child.result(self.options.child_deadline_s))
        assert stage.pickled is not None
        return await anyio.to_thread.run_sync(write_images, self.images, stage.pickled)

    def _commit(self, cut: Cut, dumped: Dumped, reason: str) -> Manifest:
        """Write the manifest, read everything new back, drop what is superseded. Blocks; raises OSError and FormatError."""
        made = {service: self._entry(cut, dumped, service) for service in dumped.parts}
        # A service that failed before stays failed until it is written, even if nobody marked it dirty again.
        failed = {**self._failed, **dumped.failed}
        failed = {service: why for service, why in failed.items() if service not in made}
        carried = {
            service: entry for service, entry in self._entries.items() if service not in failed and service not in made
        }
        manifest = Manifest(
            lsn=cut.lsn,
            epoch=self.epoch,
            time_ns=cut.time_ns,
            state_id=self.state_id,
            reason=reason,
            services={**carried, **made},
            failed=failed,
            versions=self.images.versions,
            complete=not failed,
        )
        self._read_back(made.values(), carried.values())
        return self.manifests.commit(manifest)

    def _entry(self, cut: Cut, dumped: Dumped, service: str) -> ServiceEntry:
        return ServiceEntry(cut.lsn, cut.time_ns, dumped.parts[service], dumped.links[service])

    def _read_back(self, made: Iterable[ServiceEntry], carried: Iterable[ServiceEntry]) -> None:
        """Promise 5: what is new counts only after it was read back; what is carried forward was, and must still be there."""
        for entry in made:
            for ref in entry.parts.values():
                self.images.verify(ref)
        for entry in carried:
            for ref in entry.parts.values():
                if not self.images.blobs.contains(ref.digest):
                    raise ImageDamaged(ref.digest, "was carried forward and is gone")

    def _adopt(self, manifest: Manifest, dumped: Dumped) -> None:
        self.newest = manifest
        if manifest.complete:
            self.checkpoint = manifest
        self._entries = dict(manifest.services)
        self._failed = dict(manifest.failed)
        self._dump_ns.update(dumped.dump_ns)

    def _retire(self) -> None:
        self.manifests.prune()
        self.retain_from_lsn = self.manifests.retain_from_lsn()

    async def _housekeeping(self, work: Callable[..., object], *arguments: object) -> None:
        """What follows a checkpoint: if it cannot be done that is said, and harms nothing but space."""
        try:
            with anyio.CancelScope(shield=True):  # the checkpoint is made: its host is told, whatever is cancelled
                await anyio.to_thread.run_sync(work, *arguments)
            self.housekeeping_failure = ""
        except (OSError, FormatError) as error:
            self.housekeeping_failure = str(error)
