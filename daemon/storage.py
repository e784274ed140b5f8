"""Storage: what a volume holds, opened in the order that recovery needs: checkpoint first, then the journal after it."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import structlog

from holdfast.daemon.config import LoadStrategy, Settings
from holdfast.daemon.errors import ConfigError, VolumeError
from holdfast.daemon.host import SnapshotHost
from holdfast.daemon.services.determinism import wall_now_us
from holdfast.daemon.services.moto.state import MotoSource
from holdfast.daemon.volume import Volume
from holdfast.journal import BlobStore, Journal, JournalError, JournalOptions, MemoryJournal
from holdfast.journal.format import SegmentName
from holdfast.snapshot import (
    Checkpointer,
    ImageStore,
    Manifest,
    ManifestStore,
    Quarantine,
    Restore,
    SaveStrategy,
    SnapshotError,
    Snapshotter,
    Views,
    restore,
)

__all__ = ["Storage"]

log = structlog.get_logger(__name__)

NO_LIMIT = 1 << 62


class Storage:
    """A volume's journal, blobs, images and manifests; in memory only, a journal that counts and nothing else."""

    def __init__(
        self,
        settings: Settings,
        volume: Volume | None,
        journal: Journal | MemoryJournal,
        images: ImageStore | None = None,
        manifests: ManifestStore | None = None,
        found: Restore | None = None,
    ) -> None:
        self.settings = settings
        self.volume = volume
        self.journal = journal
        self.images = images
        self.manifests = manifests
        self.restore = found

    @classmethod
    @contextmanager
    def open(cls, settings: Settings, endpoint: str, source: MotoSource) -> Iterator[Storage]:
        """Open the volume that `settings` name and hold it. Raises HoldfastError, with nothing lost, for what cannot be used."""
        if settings.load_strategy is LoadStrategy.MANUAL:
            raise ConfigError(
                "SNAPSHOT_LOAD_STRATEGY=MANUAL: this version restores at start or when a service is first used;"
                " allowed here: ON_REQUEST, ON_STARTUP"
            )
        if not settings.persistence:
            yield cls(settings, None, MemoryJournal())
            return
        with Volume.open(settings.volume, endpoint) as volume:
            try:
                yield cls._open(settings, volume, source)
            except (JournalError, SnapshotError) as error:
                raise VolumeError(f"the volume {volume.path} cannot be used as it is: {error}") from error

    @classmethod
    def _open(cls, settings: Settings, volume: Volume, source: MotoSource) -> Storage:
        versions = {"moto": version("moto"), "python": platform.python_version(), "holdfast": version("holdfast")}
        images = ImageStore(BlobStore(volume.images), versions)
        manifests = ManifestStore(volume.manifests, images, Quarantine(volume.quarantine), state_id=volume.state_id)
        found = restore(manifests, images, source, journal_is_whole=_reaches_back(volume.journal))
        for item in found.damaged:
            log.error(
                "a damaged file went to quarantine", path=item.path, now=item.quarantined_path, reason=item.reason
            )
        return cls(settings, volume, _journal(settings, volume, images.blobs, found.manifest), images, manifests, found)

    @property
    def blobs(self) -> BlobStore | None:
        """Where large bodies go; None in memory only."""
        return self.images.blobs if self.images is not None else None

    def journal_begun(self) -> None:
        """The journal takes records from here on."""
        if self.volume is not None and self.settings.journal_on:
            self.volume.note_journal(on=True)

    @property
    def created_us(self) -> int:
        """When this state began, microseconds since 1970: what is made on first touch is dated to it."""
        return self.volume.created_ns // 1000 if self.volume is not None else time.time_ns() // 1000

    @property
    def state_id(self) -> bytes:
        """Names this state for its whole life."""
        return self.volume.state_id if self.volume is not None else bytes(16)

    @property
    def token(self) -> str | None:
        """What opens control routes to other machines."""
        return self.volume.token() if self.volume is not None else None

    def snapshotter(self, host: SnapshotHost, source: MotoSource) -> Snapshotter | None:
        """What makes this volume's checkpoints; None in memory only."""
        if self.volume is None or self.images is None or self.manifests is None or self.restore is None:
            return None
        checkpointer = Checkpointer(
            host,
            source,
            self.images,
            self.manifests,
            self.volume.state_id,
            self.journal.recovery.epoch,
            views=Views(self.volume.state, self.images),
            other_roots=self.journal.blobs_needed,
        )
        checkpointer.start_from(self.restore.manifest)
        strategy = SaveStrategy(self.settings.save_strategy)
        return Snapshotter(checkpointer, strategy=strategy, interval_s=self.settings.flush_interval_s)


def _journal(settings: Settings, volume: Volume, blobs: BlobStore, base: Manifest | None) -> Journal | MemoryJournal:
    """The volume's journal, recovered; or, with the journal off, one that counts on from the checkpoint."""
    retention = settings.journal_retention
    options = JournalOptions(
        retention_age_s=NO_LIMIT if retention.age_s is None else retention.age_s,
        retention_bytes=NO_LIMIT if retention.size_bytes is None else retention.size_bytes,
        wall_ns=lambda: wall_now_us() * 1000,  # the clock of the process may be a command's
    )
    lsn, epoch = (base.lsn, base.epoch) if base is not None else (0, 0)
    journal = Journal.open(
        volume.journal,
        state_id=volume.state_id,
        sync=settings.journal_sync,
        checkpoint_lsn=lsn,
        blobs=blobs,
        options=options,
        quarantine=volume.quarantine,
        may_begin_anew=volume.journal_was_off,
    )
    _say(journal)
    if settings.journal_on:
        return journal
    if journal.last_lsn > lsn:
        raise VolumeError(
            f"the journal of {volume.path} holds {journal.last_lsn - lsn} commands after the last checkpoint; start once with"
            " the journal on (JOURNAL=on) and stop cleanly, then it can be switched off"
        )
    volume.note_journal(on=False)
    return MemoryJournal(lsn, max(epoch, journal.epoch) + 1)


def _reaches_back(folder: Path) -> bool:
    """True when the journal holds everything from LSN 1 on: then it needs no checkpoint to begin with."""
    names = [SegmentName.parse(path.name) for path in folder.iterdir()]
    return any(name is not None and name.first_lsn == 1 for name in names)


def _say(journal: Journal) -> None:
    """What recovery found, in the words of DESIGN section 1."""
    report = journal.recovery
    if report.torn is not None:
        log.warning("torn tail: cut, and set aside", lsn=report.torn.lsn, quarantine=list(report.quarantined))
    for damage in report.damages:
        log.error("corruption before the checkpoint: nothing is lost by it", damage=str(damage))
