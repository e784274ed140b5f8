"""Scanning a journal: every segment in order, groups verified at memory speed, torn tail told from damage.

format.py has the rules.

A scan changes nothing. `recovery` acts on what it found; `verify` reports it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from holdfast.journal.disk import Disk, File
from holdfast.journal.errors import Corruption, IncompatibleFormat, TornTail
from holdfast.journal.format import (
    SEGMENT_HEADER_BYTES,
    VERSION,
    SegmentHeader,
    SegmentName,
    unpack_segment_header,
)
from holdfast.journal.reader import End, Ending, Found, Group, SegmentReader
from holdfast.journal.record import CheckpointNote, Kind, Record, checkpoint_note
from holdfast.journal.segment import SegmentInfo, list_segments

__all__ = ["Damage", "Progress", "Scan", "Scanned", "TornEnd", "read_header", "read_journal", "read_records", "scan"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage that cost nothing after the checkpoint: bytes [offset, resumed_at) of a file, LSNs [lsn, resumed_lsn)."""

    path: str
    offset: int
    resumed_at: int
    lsn: int
    resumed_lsn: int
    reason: str


@dataclass(frozen=True, slots=True)
class TornEnd:
    """The unfinished end that a crash left: from `offset` of `path` on, `size_bytes` long, where `lsn` would have been."""

    path: str
    offset: int
    lsn: int
    size_bytes: int
    reason: str


class Resume(NamedTuple):
    """Where a segment can be read on after damage: the place, the LSN that is due there, the chain that leads to it."""

    offset: int
    next_lsn: int
    chain: int


@dataclass(slots=True)
class Scanned:
    """A segment as it was found.

    `end_offset` is where its last valid group ends and `chain` that group's header checksum. `cut` is the valid group
    behind it, at which a scan up to some LSN stopped.
    """

    path: str
    name: SegmentName
    header: SegmentHeader
    size_bytes: int
    end_offset: int = SEGMENT_HEADER_BYTES
    next_lsn: int = 0
    chain: int = 0
    synced_lsn: int = 0
    has_seal: bool = False
    cut: Group | None = None
    damages: list[Damage] = field(default_factory=list)

    def info(self) -> SegmentInfo:
        """The segment as the list of sealed ones has it."""
        return SegmentInfo(
            self.path, self.header.first_lsn, self.next_lsn, self.size_bytes, self.header.time_ns, self.header.epoch
        )


@dataclass(slots=True)
class Scan:
    """What a journal holds. `last_lsn` is its newest readable record, `epoch` the newest life that wrote in it."""

    segments: list[Scanned] = field(default_factory=list)
    torn: TornEnd | None = None
    damages: list[Damage] = field(default_factory=list)
    checkpoint: CheckpointNote | None = None
    last_lsn: int = 0
    epoch: int = 0
    groups: int = 0
    records: int = 0


def scan(
    disk: Disk,
    folder: str,
    *,
    state_id: bytes | None = None,
    checkpoint_lsn: int = 0,
    may_end_below: bool = False,
    thorough: bool = False,
    upto_lsn: int | None = None,
    progress: Progress | None = None,
) -> Scan:
    """Verify a journal. Raises Corruption and IncompatibleFormat; a torn tail is a finding, not an error.

    Segments that lie wholly behind the checkpoint are not read, and records not unpacked, unless `thorough`. `state_id`
    None accepts any. With `upto_lsn` only groups with no later LSN are taken, and what follows is not looked at.
    `may_end_below`: the checkpoint may be of a time when the journal was off, so that nothing of it needs to be here.
    """
    return _Scanner(
        disk,
        folder,
        state_id=state_id,
        checkpoint_lsn=checkpoint_lsn,
        may_end_below=may_end_below,
        thorough=thorough,
        upto_lsn=upto_lsn,
        progress=progress,
    ).run()


def read_header(file: File, path: str, state_id: bytes | None) -> SegmentHeader:
    """The header of a segment, checked against its name; raises Corruption and IncompatibleFormat."""
    header = unpack_segment_header(file.pread(SEGMENT_HEADER_BYTES, 0))
    name = SegmentName.parse(os.path.basename(path))
    assert name is not None
    if isinstance(header, str):
        raise Corruption(header, path=path, lsn=name.first_lsn)
    if header.version != VERSION:
        reason = f"it is written in format {header.version}, this program reads format {VERSION}"
        raise IncompatibleFormat(reason, path=path, advice="Nothing was changed. Use a newer holdfast")
    if (header.first_lsn, header.epoch) != (name.first_lsn, name.epoch):
        raise Corruption("its name and its header disagree", path=path, lsn=name.first_lsn)
    if state_id is not None and header.state_id != state_id:
        reason = f"it belongs to another state ({header.state_id.hex()}, not {state_id.hex()})"
        raise IncompatibleFormat(reason, path=path, advice="Nothing was changed")
    return header


class _Scanner:
    """One pass over the segments, with the LSN that is due next."""

    def __init__(
        self,
        disk: Disk,
        folder: str,
        *,
        state_id: bytes | None,
        checkpoint_lsn: int,
        may_end_below: bool,
        thorough: bool,
        upto_lsn: int | None,
        progress: Progress | None,
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._state_id = state_id
        self._checkpoint_lsn = checkpoint_lsn
        self._may_end_below = may_end_below
        self._thorough = thorough
        self._upto_lsn = upto_lsn
        self._progress = progress
        self._found = Scan()
        self._named: list[tuple[SegmentName, str]] = []
        self._next_lsn = 0
        self._done_bytes = 0
        self._total_bytes = 0

    def run(self) -> Scan:
        found = self._found
        self._named = list_segments(self._disk, self._folder)
        begin = self._first_needed()
        self._total_bytes = sum(self._disk.size_bytes(path) for _, path in self._named[begin:])
        self._next_lsn = self._named[0][0].first_lsn if self._named else 1
        for index, (name, path) in enumerate(self._named):
            if self._upto_lsn is not None and index > 0 and name.first_lsn > self._upto_lsn:
                break
            with self._disk.open(path) as file:
                self._segment(index, name, path, file, skip=index < begin)
        found.last_lsn = self._next_lsn - 1
        if not found.segments and self._checkpoint_lsn > 0 and not self._may_end_below:
            reason = f"the journal is missing, and there is a checkpoint at LSN {self._checkpoint_lsn}"
            raise Corruption(reason, path=self._folder, lsn=self._checkpoint_lsn + 1)
        if found.segments and found.last_lsn < self._checkpoint_lsn and not self._may_end_below:
            reason = f"the journal ends at LSN {found.last_lsn}, below the checkpoint at {self._checkpoint_lsn}"
            raise Corruption(
                reason, path=found.segments[-1].path, offset=found.segments[-1].end_offset, lsn=self._next_lsn
            )
        return found

    def _first_needed(self) -> int:
        """The segment that holds the first record after the checkpoint; those before are only listed, and the last is read."""
        if self._named and self._named[0][0].first_lsn > self._checkpoint_lsn + 1:
            first = self._named[0]
            reason = (
                f"the first record is LSN {first[0].first_lsn}, those since the checkpoint at {self._checkpoint_lsn}"
                " are missing"
            )
            raise Corruption(reason, path=first[1], lsn=first[0].first_lsn)
        if self._thorough:
            return 0
        names = [name for name, _ in self._named]
        needed = [index for index, name in enumerate(names) if name.first_lsn <= self._checkpoint_lsn + 1]
        unsealed = [index for index, name in enumerate(names) if not name.sealed]
        return min([*needed[-1:], *unsealed[:1]], default=0)

    def _segment(self, index: int, name: SegmentName, path: str, file: File, *, skip: bool) -> None:
        found = self._found
        header = self._old_header(index, name, path, file) if skip else read_header(file, path, self._state_id)
        if header.epoch < found.epoch:
            raise Corruption("an older life of the journal follows a newer one", path=path, lsn=header.first_lsn)
        found.epoch = header.epoch
        segment = Scanned(path, name, header, file.size_bytes(), next_lsn=header.first_lsn, chain=header.chain_seed)
        self._expect(segment)
        found.segments.append(segment)
        if skip:
            segment.next_lsn = self._next_lsn = self._named[index + 1][0].first_lsn
            segment.end_offset = segment.size_bytes
            return
        self._read(index, segment, file)

    def _old_header(self, index: int, name: SegmentName, path: str, file: File) -> SegmentHeader:
        """The header of a segment behind the checkpoint, whose damage is no reason to refuse: its name tells what is needed."""
        try:
            return read_header(file, path, self._state_id)
        except Corruption as error:
            following = self._named[index + 1][0].first_lsn
            damage = Damage(path, 0, file.size_bytes(), name.first_lsn, following, error.reason)
            self._found.damages.append(damage)
            return SegmentHeader(name.first_lsn, name.epoch, 0, 0, 0, b"")

    def _expect(self, segment: Scanned) -> None:
        """Check that the segment begins where the one before ended."""
        first_lsn = segment.header.first_lsn
        if first_lsn < self._next_lsn:
            raise Corruption(
                f"it begins with LSN {first_lsn}, which was written before", path=segment.path, lsn=self._next_lsn
            )
        if first_lsn > self._next_lsn:
            if first_lsn > self._checkpoint_lsn + 1:
                reason = f"records {self._next_lsn} to {first_lsn - 1} before this segment are missing"
                raise Corruption(reason, path=segment.path, lsn=self._next_lsn)
            if not segment.header.begins_anew:
                damage = Damage(segment.path, 0, 0, self._next_lsn, first_lsn, "records before it are missing")
                self._found.damages.append(damage)
            self._next_lsn = first_lsn

    def _read(self, index: int, segment: Scanned, file: File) -> None:
        reader = SegmentReader(file, segment.header)
        last = index == len(self._named) - 1
        offset, previous = segment.end_offset, segment.chain
        while True:
            for group in reader.groups(offset, self._next_lsn, previous):
                if self._upto_lsn is not None and group.header.next_lsn > self._upto_lsn + 1:
                    segment.cut = group
                    return
                self._take(segment, group)
            if self._next_lsn - 1 == self._upto_lsn and reader.end.ending is not Ending.SEAL:
                return
            end = reader.end
            if end.ending is Ending.SEAL:
                segment.has_seal = True
                if not reader.zeros_from(end.offset):
                    size = segment.size_bytes
                    lsn = self._next_lsn
                    found = Damage(segment.path, end.offset, size, lsn, lsn, "there are bytes after the seal")
                    self._found.damages.append(found)
                break
            if end.ending is Ending.ZEROS and last and self._may_end_here(segment):
                break
            resume = self._past_the_bad_one(segment, reader, end, last)
            if resume is None:
                break
            offset, _, previous = resume
        self._done_bytes += segment.size_bytes
        self._report(self._done_bytes)

    def _take(self, segment: Scanned, group: Group) -> None:
        header = group.header
        segment.end_offset = group.end
        segment.next_lsn = self._next_lsn = header.next_lsn
        segment.chain = header.header_checksum
        segment.synced_lsn = header.watermark
        self._found.groups += 1
        self._found.records += header.lsn_count
        try:
            notes = group.records(segment.header.epoch) if self._thorough else group.notes(segment.header.epoch)
            for note in notes:
                if note.kind is Kind.CHECKPOINT:
                    self._found.checkpoint = checkpoint_note(note)
        except ValueError as error:
            raise Corruption(str(error), path=segment.path, offset=group.offset, lsn=header.first_lsn) from error
        self._report(self._done_bytes + segment.end_offset)

    def _may_end_here(self, segment: Scanned) -> bool:
        """True when zeros to the end of the last segment are the end of the log and not a loss."""
        return not segment.name.sealed and segment.size_bytes >= segment.header.size_bytes

    def _past_the_bad_one(self, segment: Scanned, reader: SegmentReader, end: End, last: bool) -> Resume | None:
        """What to do about a place where a group, or the segment's seal, is due and is not.

        Returns where to read on. None when nothing more of this segment counts: its tail is torn, or what is lost is
        behind the checkpoint and the next segment goes on from there. Raises Corruption.
        """
        lsn = self._next_lsn
        later, seen_durable = _evidence(reader, end.offset, lsn)
        if not (seen_durable or self._was_durable(segment, end, last)):
            self._found.torn = TornEnd(segment.path, end.offset, lsn, segment.size_bytes - end.offset, end.reason)
            return None
        reason = end.reason or self._why_no_end(segment)
        resume = self._resume(segment, reader, end, later)
        if resume is None and not last:
            resume = Resume(segment.size_bytes, self._later_first_lsn(segment), 0)
        if resume is None or resume.next_lsn > max(lsn, self._checkpoint_lsn + 1):
            raise Corruption(reason, path=segment.path, offset=end.offset, lsn=lsn)
        damage = Damage(segment.path, end.offset, resume.offset, lsn, resume.next_lsn, reason)
        self._found.damages.append(damage)
        segment.damages.append(damage)
        segment.end_offset, segment.next_lsn, segment.chain = resume
        self._next_lsn = resume.next_lsn
        return resume if resume.offset < segment.size_bytes else None

    def _was_durable(self, segment: Scanned, end: End, last: bool) -> bool:
        """True when something but a later group proves that what is bad was durable once."""
        return (
            not last
            or segment.name.sealed
            or end.whole
            or (self._checkpoint_lsn >= self._next_lsn and not self._may_end_below)
            or segment.size_bytes < segment.header.size_bytes
        )

    def _resume(self, segment: Scanned, reader: SegmentReader, end: End, later: Found | None) -> Resume | None:
        """Where the log of this segment can be taken up again after a bad group."""
        if later is not None:
            return Resume(later.offset, later.header.first_lsn, later.header.previous)
        bad = end.header
        if bad is not None and bad.first_lsn == self._next_lsn:
            offset = end.offset + bad.size_bytes
            if offset < segment.size_bytes and reader.zeros_from(offset):
                return Resume(offset, bad.next_lsn, bad.header_checksum)
        return None

    def _later_first_lsn(self, segment: Scanned) -> int:
        index = next(i for i, (_, path) in enumerate(self._named) if path == segment.path)
        return self._named[index + 1][0].first_lsn

    def _why_no_end(self, segment: Scanned) -> str:
        if segment.size_bytes < segment.header.size_bytes and not segment.name.sealed:
            return f"the file has {segment.size_bytes} bytes and was made with {segment.header.size_bytes}"
        return "the segment ends before it was sealed"

    def _report(self, done_bytes: int) -> None:
        if self._progress is not None:
            self._progress(min(done_bytes, self._total_bytes), self._total_bytes)


def _evidence(reader: SegmentReader, offset: int, lsn: int) -> tuple[Found | None, bool]:
    """What lies behind a bad group: the first that verifies by itself, and whether any of them had seen `lsn` durable."""
    first: Found | None = None
    for found in reader.search(offset):
        if found.header.first_lsn >= lsn:
            first = first or found
            if found.header.watermark >= lsn:
                return first, True
    return first, False


def read_journal(disk: Disk, folder: str, *, state_id: bytes | None = None, from_lsn: int = 1) -> Iterator[Record]:
    """The records of a journal from `from_lsn` on, without changing anything: for looking into one.

    Raises TornTail behind the last good record where a crash left an unfinished end, and Corruption.
    """
    first = next((name.first_lsn for name, _ in list_segments(disk, folder)), 1)
    found = scan(disk, folder, state_id=state_id, checkpoint_lsn=max(from_lsn, first) - 1, may_end_below=True)
    for segment in found.segments:
        if segment.next_lsn > from_lsn:
            with disk.open(segment.path) as file:
                yield from read_records(
                    file,
                    segment.path,
                    segment.damages,
                    state_id=state_id,
                    next_lsn=max(from_lsn, segment.header.first_lsn),
                    upto_lsn=segment.next_lsn - 1,
                )
    if found.torn is not None:
        torn = found.torn
        raise TornTail(torn.reason, path=torn.path, offset=torn.offset, lsn=torn.lsn)


def read_records(
    file: File, path: str, damages: Sequence[Damage], *, state_id: bytes | None, next_lsn: int, upto_lsn: int
) -> Iterator[Record]:
    """The records of one segment that take an LSN, from `next_lsn` (0: from its beginning) to `upto_lsn`.

    Steps over `damages`, which a scan found. Raises Corruption where a record is missing or cannot be read.
    """
    header = read_header(file, path, state_id)
    reader = SegmentReader(file, header)
    for group in _known_groups(reader, damages, upto_lsn):
        if group.header.next_lsn <= next_lsn or not group.header.lsn_count:
            continue
        if next_lsn and group.header.first_lsn > next_lsn:
            raise Corruption("records before this group are missing", path=path, offset=group.offset, lsn=next_lsn)
        try:
            for record in group.records(header.epoch):
                if record.kind < Kind.CHECKPOINT and record.lsn >= next_lsn:
                    yield record
        except ValueError as error:
            raise Corruption(str(error), path=path, offset=group.offset, lsn=group.header.first_lsn) from error
        next_lsn = group.header.next_lsn
    if reader.end.ending is Ending.BAD:
        raise Corruption(reader.end.reason, path=path, offset=reader.end.offset, lsn=next_lsn)


def _known_groups(reader: SegmentReader, damages: Sequence[Damage], upto_lsn: int) -> Iterator[Group]:
    """The groups of a segment up to `upto_lsn`, beyond which it may still be written to."""
    offset, next_lsn, previous = SEGMENT_HEADER_BYTES, reader.header.first_lsn, reader.header.chain_seed
    for damage in (*damages, None):
        for group in reader.groups(offset, next_lsn, previous):
            yield group
            if group.header.next_lsn > upto_lsn:
                return
        if damage is None or reader.end.offset != damage.offset:
            return
        offset, next_lsn = damage.resumed_at, damage.resumed_lsn
        following = next(reader.search(offset), None)
        reader.end = End(Ending.ZEROS, offset)
        if following is None or following.offset != offset:
            return
        previous = following.header.previous
