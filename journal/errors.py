"""Every error the journal raises, grouped by the situation in which its reader meets it.

A torn tail, damage and a foreign format are three different things and three different types: the first is what a
crash leaves behind and heals by itself, the second is lost data and is never passed over, the third is nobody's
fault.
"""

from __future__ import annotations

__all__ = [
    "BlobDamaged",
    "BlobMissing",
    "Corruption",
    "DamagedFile",
    "IncompatibleFormat",
    "JournalError",
    "JournalFailed",
    "JournalFull",
    "RecordTooLarge",
    "TornTail",
]


class JournalError(Exception):
    """The parent of every error of this package."""


# While writing.


class JournalFull(JournalError):
    """Raised when there is no room for the record of a command: nothing was executed, and it heals once there is room again."""


class RecordTooLarge(JournalError):
    """Raised when a record is larger than a group can ever be: nothing was executed, and trying again does not help."""


class JournalFailed(JournalError):
    """Raised when a write or sync failed: final for this life of the journal, nothing more is acknowledged (fail-stop)."""


# While reading.


class DamagedFile(JournalError):
    """The parent of what is wrong with a file: says which, where (`offset`) and from which LSN on (`lsn`, 0 when unknown)."""

    def __init__(self, reason: str, *, path: str, offset: int = 0, lsn: int = 0, advice: str = "") -> None:
        where = f"{path}, offset {offset}" + (f", LSN {lsn}" if lsn else "")
        super().__init__(f"{where}: {reason}" + (f". {advice}" if advice else ""))
        self.reason = reason
        self.path = path
        self.offset = offset
        self.lsn = lsn


class TornTail(DamagedFile):
    """Raised when a reader that may not repair meets the unfinished end that a crash left: nothing acknowledged was in it."""


class Corruption(DamagedFile):
    """Raised when bytes that had been durable are damaged or gone, so that an acknowledged record may be lost."""

    def __init__(self, reason: str, *, path: str, offset: int = 0, lsn: int = 0) -> None:
        good = max(lsn - 1, 0)
        advice = (
            "Nothing was changed. Two ways on: give up what follows and keep what is before"
            f" (holdfast journal repair --accept-loss-after {good}; it is set aside in quarantine),"
            " or go back to an older checkpoint"
        )
        super().__init__(reason, path=path, offset=offset, lsn=lsn, advice=advice)


class IncompatibleFormat(DamagedFile):
    """Raised when a file is whole but not for this program: a newer format, or a journal that belongs to another state."""


# Blobs.


class BlobMissing(JournalError):
    """Raised when a blob is asked for by a digest that the store does not hold."""


class BlobDamaged(JournalError):
    """Raised when a blob's bytes do not have the digest that names them."""
