"""holdfast.journal: a write-ahead journal with group commit, for any program that must not forget what it acknowledged.

What lies where:

    format      the bytes on disk: tables, rules, reasons            record     one entry, packed and unpacked
    disk        the door to the file system, and its contract        fakes      disks in memory, disks that fail
    recording   a disk that tells what a power cut could have left
    segment     one file of the journal, and its writer              spare      the next one, prepared ahead
    appender    batches into groups, segment after segment           writer     group commit, lanes, those who wait
    reader      one segment, group by group                          scan       a whole journal, torn tail told from
    damage recovery    quarantine, cut, sealed copies                       retention  what may go blobs       large
    bodies, by digest                              journal    the face of it all options     limits and times, each
    with its reason               errors     everything that is raised

The journal knows nothing of what its records mean.
"""

from __future__ import annotations

from holdfast.journal.blobs import BlobStore, BlobWriter, Collected
from holdfast.journal.disk import Disk, DiskStream, File, LocalDisk, write_aside
from holdfast.journal.errors import (
    BlobDamaged,
    BlobMissing,
    Corruption,
    IncompatibleFormat,
    JournalError,
    JournalFailed,
    JournalFull,
    RecordTooLarge,
    TornTail,
)
from holdfast.journal.fakes import Fault, FaultyDisk, MemoryDisk
from holdfast.journal.journal import Journal, JournalStat, MemoryJournal
from holdfast.journal.options import JournalOptions, Lane, SyncMode
from holdfast.journal.record import CheckpointNote, Kind, Record
from holdfast.journal.recovery import RecoveryReport
from holdfast.journal.scan import Damage, TornEnd

__all__ = [
    "BlobDamaged",
    "BlobMissing",
    "BlobStore",
    "BlobWriter",
    "CheckpointNote",
    "Collected",
    "Corruption",
    "Damage",
    "Disk",
    "DiskStream",
    "Fault",
    "FaultyDisk",
    "File",
    "IncompatibleFormat",
    "Journal",
    "JournalError",
    "JournalFailed",
    "JournalFull",
    "JournalOptions",
    "JournalStat",
    "Kind",
    "Lane",
    "LocalDisk",
    "MemoryDisk",
    "MemoryJournal",
    "Record",
    "RecordTooLarge",
    "RecoveryReport",
    "SyncMode",
    "TornEnd",
    "TornTail",
    "write_aside",
]
