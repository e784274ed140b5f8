"""A volume of plain objects: the smallest thing that can be checkpointed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.journal.blobs import BlobStore
from holdfast.journal.disk import Disk, LocalDisk
from holdfast.snapshot import (
    GENERIC,
    AllowList,
    Checkpointer,
    CheckpointOptions,
    Codec,
    ImageStore,
    ManifestStore,
    Quarantine,
    Restore,
    Use,
    Views,
    restore,
)
from holdfast.snapshot.fakes import ObjectHost, ObjectSource

STATE_ID = b"volume-under-test"
VERSIONS = {"holdfast": "test", "python": "test"}


class Item:
    """What the services of these tests hold."""

    def __init__(self, name: str, **attributes: Any) -> None:
        self.name = name
        self.__dict__.update(attributes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Item) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


ALLOWED = AllowList.read(GENERIC) | AllowList.of([(Item, Use.NEW)])


@dataclass
class Rig:
    """One life of a program on a volume: everything wired as a daemon would."""

    folder: Path
    states: dict[str, Any] = field(default_factory=dict)
    disk: Disk = field(default_factory=LocalDisk)
    options: CheckpointOptions = field(default_factory=CheckpointOptions)
    lsn: int = 0

    def __post_init__(self) -> None:
        self.codec = Codec(ALLOWED)
        self.source = ObjectSource(self.codec, self.states)
        self.host = ObjectHost(self.lsn)
        self.blobs = BlobStore(str(self.folder / "images"), self.disk)
        self.images = ImageStore(self.blobs, VERSIONS)
        self.quarantine = Quarantine(str(self.folder / "quarantine"), self.disk)
        self.manifests = ManifestStore(
            str(self.folder / "manifests"), self.images, self.quarantine, disk=self.disk, state_id=STATE_ID
        )
        self.views = Views(str(self.folder / "state"), self.images, self.disk)
        self.checkpointer = Checkpointer(
            self.host,
            self.source,
            self.images,
            self.manifests,
            STATE_ID,
            epoch=1,
            options=self.options,
            views=self.views,
            other_roots=frozenset,
        )

    def change(self, service: str, state: Any) -> int:
        """A command that sets a service's whole state; returns its LSN."""
        self.states[service] = state
        return self.host.changed(service)

    def next_life(self) -> Rig:
        """Another program that starts on the same volume with nothing in memory."""
        return Rig(self.folder, disk=self.disk, options=self.options)

    def restored(self) -> tuple[Restore, Mapping[str, Any]]:
        """What a next life finds, all loaded."""
        rig = self.next_life()
        found = restore(rig.manifests, rig.images, rig.source)
        found.load_all()
        return found, rig.states


SERVICES = ("queues", "tables", "buckets", "functions")


def state_at(lsn: int) -> dict[str, Any]:
    """The one state of all services after `lsn` commands, of which each changed one service: what an uninterrupted twin has."""
    states: dict[str, Any] = {}
    for number in range(max(1, lsn - len(SERVICES) + 1), lsn + 1):
        states[SERVICES[number % len(SERVICES)]] = {
            "lsn": number,
            "items": [Item(f"{number}-{n}") for n in range(number % 50)],
        }
    return states
