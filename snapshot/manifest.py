"""Manifests: which images were valid at one LSN, and the store that commits, lists, falls back and quarantines."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from holdfast.journal.disk import ASIDE_PREFIX, Disk, LocalDisk, write_aside
from holdfast.snapshot import format as fmt
from holdfast.snapshot.errors import ForeignManifest, ImageDamaged, ManifestDamaged
from holdfast.snapshot.images import ImageRef, ImageStore
from holdfast.snapshot.quarantine import Quarantine, Quarantined

__all__ = ["CHECKPOINTS_KEPT", "PARTIALS_KEPT", "Found", "Manifest", "ManifestStore", "ServiceEntry"]

CHECKPOINTS_KEPT: Final = 2
"""DESIGN, promise 5: if the newest turns out to be damaged, the one before it and the journal after it give the same state."""

PARTIALS_KEPT: Final = 2
"""Partial manifests newer than the newest checkpoint: they are for people to look at, no recovery starts from one."""

SUFFIX: Final = ".manifest"


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """One service in a manifest: its images, made at `lsn` and valid at the manifest's."""

    lsn: int
    time_ns: int
    parts: Mapping[str, ImageRef]
    links: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of every service at one LSN. `digest` names the stored file, and is empty until it is stored."""

    lsn: int
    epoch: int
    time_ns: int
    state_id: bytes
    reason: str
    services: Mapping[str, ServiceEntry]
    failed: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    digest: bytes = b""

    def images(self) -> Iterator[ImageRef]:
        """Every image it names."""
        for entry in self.services.values():
            yield from entry.parts.values()

    def pack(self) -> bytes:
        """The file's bytes; equal manifests give equal bytes."""
        payload = {
            "lsn": self.lsn,
            "epoch": self.epoch,
            "time_ns": self.time_ns,
            "state_id": self.state_id,
            "reason": self.reason,
            "services": {name: _pack_entry(entry) for name, entry in sorted(self.services.items())},
            "failed": dict(sorted(self.failed.items())),
            "versions": dict(sorted(self.versions.items())),
            "complete": self.complete,
        }
        return fmt.manifest_file(payload)

    @classmethod
    def unpack(cls, data: bytes, path: str = "") -> Manifest:
        """A manifest from its file's bytes. Raises ManifestDamaged or IncompatibleFormat; `path` is for their text."""
        payload = fmt.read_manifest_file(path, data)
        known = {name: payload[name] for name in fmt.MANIFEST_FIELDS}
        try:
            known["services"] = {name: _unpack_entry(entry) for name, entry in payload["services"].items()}
        except (TypeError, ValueError) as error:
            raise ManifestDamaged(path, f"its entries: {error}") from error
        return cls(**known, digest=hashlib.sha256(data).digest())


def _pack_entry(entry: ServiceEntry) -> dict[str, Any]:
    return {
        "lsn": entry.lsn,
        "time_ns": entry.time_ns,
        "parts": {name: [ref.digest, ref.size, ref.raw_size] for name, ref in sorted(entry.parts.items())},
        "links": sorted(entry.links),
    }


def _unpack_entry(entry: dict[str, Any]) -> ServiceEntry:
    parts = {name: ImageRef(*ref) for name, ref in entry["parts"].items()}
    for ref in parts.values():
        if not isinstance(ref.digest, bytes) or len(ref.digest) != hashlib.sha256().digest_size:
            raise ValueError("an image's name is not a digest")
    return ServiceEntry(entry["lsn"], entry["time_ns"], parts, frozenset(entry["links"]))


@dataclass(frozen=True, slots=True)
class Found:
    """What a search for a base came to: the manifest, or None on an empty volume, and what had to be passed over."""

    manifest: Manifest | None
    damaged: tuple[Quarantined, ...] = ()


class ManifestStore:
    """Manifests in one folder, a file each. Methods block on the disk: call them from a worker thread while serving."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        images: ImageStore,
        quarantine: Quarantine,
        *,
        disk: Disk | None = None,
        state_id: bytes = b"",
        pinned: Callable[[], Collection[bytes]] = frozenset,
    ) -> None:
        """`state_id` is the volume's; empty takes manifests of any. `pinned` gives the digests of manifests that are kept
        whatever their age: those that tags name.
        """
        self.folder = os.fspath(folder)
        self._disk = disk or LocalDisk()
        self._images = images
        self._quarantine = quarantine
        self._state_id = state_id
        self._pinned = pinned
        self.damaged: list[Quarantined] = []
        """Everything that this store has set aside since it was opened."""
        self._disk.make_folder(self.folder)

    def path(self, manifest: Manifest) -> str:
        """Where a committed manifest lies. Sorted by name is sorted by LSN."""
        return os.path.join(self.folder, f"{manifest.lsn:020d}-{manifest.digest.hex()[:16]}{SUFFIX}")

    def commit(self, manifest: Manifest) -> Manifest:
        """Write a manifest durably and read it back; returns what was read. Its images and the journal up to its LSN are durable.

        Raises OSError, or ManifestDamaged when the disk gives back other bytes than it took.
        """
        data = manifest.pack()
        named = replace(manifest, digest=hashlib.sha256(data).digest())
        path = self.path(named)
        write_aside(self._disk, path, [data])  # synced, renamed, its folder synced: a checkpoint survives from here on
        if self._read(path) != named:
            raise ManifestDamaged(path, "reads back differently")
        return named

    def all(self) -> list[Manifest]:
        """Every manifest, newest first. Raises ManifestDamaged or IncompatibleFormat at the first that cannot be read."""
        return sorted((self._read(path) for path in self._paths()), key=_age, reverse=True)

    def newest_complete(self) -> Found:
        """The newest checkpoint whose images are all whole. What is damaged goes to quarantine, and the one before it is tried.

        Raises IncompatibleFormat if a manifest was written by a newer program, ForeignManifest if by another volume's; nothing
        was touched then.
        """
        before = len(self.damaged)
        for manifest in self._usable():
            if not manifest.complete:
                continue
            broken = self._broken_images(manifest)
            if not broken:
                return Found(manifest, tuple(self.damaged[before:]))
            self.damaged.extend(self._set_aside_broken(manifest, broken))
        return Found(None, tuple(self.damaged[before:]))

    def prune(self) -> list[Manifest]:
        """Remove what is older than the checkpoints that are kept, and surplus partial ones; returns what was removed.

        Call it only after the newest checkpoint's images were read back.
        """
        manifests = self._usable()
        checkpoints = [manifest for manifest in manifests if manifest.complete]
        kept = {manifest.digest for manifest in checkpoints[:CHECKPOINTS_KEPT]}
        newest = _age(checkpoints[0]) if checkpoints else (-1, 0, 0)
        recent = [manifest for manifest in manifests if not manifest.complete and _age(manifest) > newest]
        kept.update(manifest.digest for manifest in recent[:PARTIALS_KEPT])
        kept.update(self._pinned())
        removed = [manifest for manifest in manifests if manifest.digest not in kept]
        for manifest in removed:
            self._disk.unlink(self.path(manifest))
        if removed:
            self._disk.fsync_dir(self.folder)  # before the journal that they would need is retired
        return removed

    def retain_from_lsn(self) -> int:
        """The LSN after which the journal must be kept: that of the older of the checkpoints kept, 0 while there is only one."""
        checkpoints = [manifest.lsn for manifest in self._usable() if manifest.complete][:CHECKPOINTS_KEPT]
        return checkpoints[-1] if len(checkpoints) == CHECKPOINTS_KEPT else 0

    def sweep(self) -> int:
        """Remove manifests whose writing a dead process left unfinished; returns how many. Only while nobody writes."""
        leftovers = [name for name in self._disk.listdir(self.folder) if name.startswith(ASIDE_PREFIX)]
        for name in leftovers:
            self._disk.unlink(os.path.join(self.folder, name))
        return len(leftovers)

    def lost(self) -> list[str]:
        """The names of manifests in quarantine: as long as there is no checkpoint, state lies there that could not be read."""
        return self._quarantine.names(SUFFIX)

    def roots(self) -> set[bytes]:
        """The digests of all images that manifests name, those in quarantine included: what a collection must spare."""
        named = {ref.digest for manifest in self._usable() for ref in manifest.images()}
        return named | self._quarantine.keeps()

    def _usable(self) -> list[Manifest]:
        """Every manifest that can be read, newest first; the others are set aside, after all were looked at."""
        readable: list[Manifest] = []
        unreadable: list[ManifestDamaged] = []
        for path in self._paths():
            try:
                readable.append(self._read(path))
            except ManifestDamaged as error:
                unreadable.append(error)
        self.damaged.extend([self._set_aside_unreadable(error.path, error.reason) for error in unreadable])
        return sorted(readable, key=_age, reverse=True)

    def _paths(self) -> Iterable[str]:
        return [os.path.join(self.folder, name) for name in self._disk.listdir(self.folder) if name.endswith(SUFFIX)]

    def _read(self, path: str) -> Manifest:
        try:
            with self._disk.open(path) as file:
                size = file.size_bytes()
                if size > fmt.MANIFEST_SIZE_BYTES_MAX:
                    raise ManifestDamaged(path, f"is {size} bytes long")
                manifest = Manifest.unpack(file.pread(size, 0), path)
        except OSError as error:
            # No permission, no descriptors: that is no damage, and nothing is to be moved for it.
            if error.errno != errno.EIO:
                raise
            raise ManifestDamaged(path, f"cannot be read: {error}") from error
        if self._state_id and manifest.state_id != self._state_id:
            raise ForeignManifest(path)
        return manifest

    def _broken_images(self, manifest: Manifest) -> dict[ImageRef, str]:
        broken: dict[ImageRef, str] = {}
        for ref in manifest.images():
            try:
                self._images.verify(ref)
            except ImageDamaged as error:
                broken[ref] = error.reason
        return broken

    def _set_aside_unreadable(self, path: str, reason: str) -> Quarantined:
        # Nobody knows which images it named: all that exist now are kept.
        return self._quarantine.take(path, f"manifest: {reason}", keeps=self._images.blobs.digests())

    def _set_aside_broken(self, manifest: Manifest, broken: Mapping[ImageRef, str]) -> Iterator[Quarantined]:
        for ref, reason in broken.items():
            if self._images.blobs.contains(ref.digest):
                yield self._quarantine.take(self._images.path(ref.digest), f"image: {reason}")
        whole = [ref.digest for ref in manifest.images() if ref not in broken]
        names = ", ".join(
            sorted(
                name for name, entry in manifest.services.items() if not broken.keys().isdisjoint(entry.parts.values())
            )
        )
        yield self._quarantine.take(
            self.path(manifest), f"manifest: images are damaged or missing ({names})", keeps=whole
        )


def _age(manifest: Manifest) -> tuple[int, int, int]:
    return manifest.lsn, manifest.epoch, manifest.time_ns
