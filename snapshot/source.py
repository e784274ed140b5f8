"""What the snapshotter needs of the program whose state it keeps: two protocols and what passes between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from holdfast.snapshot.manifest import Manifest

__all__ = ["CheckpointFailure", "Cut", "Host", "OpenPart", "Source"]

OpenPart = Callable[[str], BinaryIO]
"""Opens a part of a service's image ("backend", "store") for writing, once each; the caller closes and names it."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The instant between two commands for which a checkpoint stands."""

    lsn: int
    time_ns: int
    dirty: Mapping[str, int]
    """Service -> its last LSN, for every service that changed since the last cut that was left normally."""


@dataclass(frozen=True, slots=True)
class CheckpointFailure:
    """What did not get into a checkpoint, and why."""

    lsn: int
    reason: str
    dirty: Mapping[str, int]
    """Services to mark dirty again, with the LSNs of the cut."""
    services: Mapping[str, str] = field(default_factory=dict)
    """Service -> why it could not be written; empty when the checkpoint failed as a whole."""


class Source(Protocol):
    """Where state comes from and goes to."""

    def dump(self, service: str, open_part: OpenPart) -> frozenset[str]:
        """Write a service's state as plain pickles, one a part, and return the other services whose objects it refers to.

        Runs in a forked child, or between two commands when the state is small; may run twice for one cut. It must not log, take
        a lock, import, or change state. Raises when the state cannot be written: the service is then reported by name.
        """

    def load(self, service: str, parts: Mapping[str, bytes]) -> None:
        """Take a service's state from the parts that `dump` wrote. Raises when it cannot; the service is reported by name."""


class Host(Protocol):
    """The program that runs commands. All methods are called on the event loop's thread."""

    def boundary(self) -> AbstractAsyncContextManager[Cut]:
        """A moment between two commands: inside none runs and nothing is awaited; left normally, the cut's services are clean."""

    async def durable(self, lsn: int) -> None:
        """Return when the journal is synced up to `lsn`, whatever its sync mode; raises when it never will be."""

    def checkpointed(self, manifest: Manifest) -> None:
        """A manifest was written and read back. Only a complete one is a checkpoint: only then may the journal be retired."""

    def checkpoint_failed(self, failure: CheckpointFailure) -> None:
        """Some services, or all of the cut, are not in a checkpoint: they are dirty again."""
