"""Getting a checkpoint back: the newest that is whole, or the one before it, whole services or one when it is first used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from holdfast.snapshot.codec import gc_paused
from holdfast.snapshot.errors import NoUsableCheckpoint
from holdfast.snapshot.images import ImageStore
from holdfast.snapshot.manifest import Manifest, ManifestStore
from holdfast.snapshot.quarantine import Quarantined
from holdfast.snapshot.source import Source

__all__ = ["Restore", "restore"]


@dataclass(slots=True)
class Restore:
    """A checkpoint whose services are loaded when asked for.

    `manifest` is None on an empty volume. `damaged` is what had to be passed over and now lies in quarantine; if it is not empty,
    the journal after `manifest.lsn` brings back what the damaged checkpoint held. `failed` is service -> why it did not load.
    """

    manifest: Manifest | None
    damaged: tuple[Quarantined, ...]
    _source: Source
    _images: ImageStore
    loaded: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def services(self) -> frozenset[str]:
        """The services that the checkpoint holds."""
        return frozenset(self.manifest.services) if self.manifest is not None else frozenset()

    def load(self, service: str) -> tuple[str, ...]:
        """Load a service and all that it refers to, directly or not; returns those loaded by this call, in order.

        A service that the checkpoint does not hold is empty and there is nothing to load. One that fails is noted in `failed`,
        and raises what stopped it: its state in memory is then not to be used.
        """
        with gc_paused():
            return tuple(self._load_one(name) for name in self._missing(service))

    def load_all(self, progress: Callable[[str], None] | None = None) -> dict[str, str]:
        """Load every service; returns those that failed, with the reason. The rest are loaded all the same."""
        for service in sorted(self.services):
            try:
                self.load(service)
            except Exception:  # noqa: S112  # noted by name in `failed`, which is returned
                continue
            if progress is not None:
                progress(service)
        return self.failed

    def _load_one(self, service: str) -> str:
        assert self.manifest is not None
        try:
            parts = {part: self._images.read(ref).raw for part, ref in self.manifest.services[service].parts.items()}
            self._source.load(service, parts)
        except Exception as error:
            self.failed[service] = f"{type(error).__name__}: {error}"
            raise
        self.loaded.add(service)
        self.failed.pop(service, None)
        return service

    def _missing(self, service: str) -> Iterable[str]:
        """What must be loaded with a service: it and all it refers to, less what is loaded."""
        assert self.manifest is not None or not self.services
        found: list[str] = []
        waiting = [service]
        while waiting:
            name = waiting.pop()
            if name in self.loaded or name in found or name not in self.services or self.manifest is None:
                continue
            found.append(name)
            waiting.extend(sorted(self.manifest.services[name].links, reverse=True))
        return found


def restore(manifests: ManifestStore, images: ImageStore, source: Source, *, journal_is_whole: bool = False) -> Restore:
    """Find the checkpoint to start from; nothing is loaded yet.

    Raises NoUsableCheckpoint when checkpoints were made but none can be used, now or at an earlier start: nothing starts empty
    over state that could not be read, unless `journal_is_whole`, from LSN 1 on, and so needs none. Raises IncompatibleFormat when
    a newer program wrote one; nothing was touched then.
    """
    found = manifests.newest_complete()
    if found.manifest is None and not journal_is_whole:
        reasons = [f"{item.path}: {item.reason}" for item in found.damaged] or [
            f"{name}: in quarantine" for name in manifests.lost()
        ]
        if reasons:
            raise NoUsableCheckpoint(tuple(reasons))
    images.blobs.sweep()  # what a killed process was writing; nobody writes before recovery is done
    manifests.sweep()
    return Restore(found.manifest, found.damaged, source, images)
