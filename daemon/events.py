"""What the parts of the daemon tell one another over the bus. Facts in the past tense: an event is never a request."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CheckpointFailed",
    "CheckpointWritten",
    "Durable",
    "Event",
    "JournalFailure",
    "ReplyDiffered",
    "ServiceLoaded",
    "StateDirty",
]


@dataclass(frozen=True, slots=True)
class Event:
    """The base of all events: `bus.subscribe(Event)` sees everything."""


@dataclass(frozen=True, slots=True)
class StateDirty(Event):
    """`service` changed in memory at `lsn`; the change may not be durable yet."""

    service: str
    lsn: int


@dataclass(frozen=True, slots=True)
class Durable(Event):
    """Everything up to `lsn` survives what JOURNAL_SYNC promises it survives."""

    lsn: int


@dataclass(frozen=True, slots=True)
class CheckpointWritten(Event):
    """A manifest for `lsn` was written and read back. A partial one names in `failed` what it lacks."""

    lsn: int
    complete: bool
    services: tuple[str, ...]
    failed: tuple[str, ...]
    duration_s: float


@dataclass(frozen=True, slots=True)
class CheckpointFailed(Event):
    """No manifest came of an attempt; the journal keeps everything meanwhile."""

    reason: str


@dataclass(frozen=True, slots=True)
class ServiceLoaded(Event):
    """A service's image was read into memory."""

    service: str


@dataclass(frozen=True, slots=True)
class JournalFailure(Event):
    """The journal stopped for good (DESIGN, promise 8): reads of durable services go on, nothing else does."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReplyDiffered(Event):
    """A command that was run again gave another reply than the one that was acknowledged."""

    lsn: int
    service: str
    operation: str
