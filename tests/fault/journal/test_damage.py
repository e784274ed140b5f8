"""Every truncation and every flipped bit of an 8 KiB journal, and garbage behind a valid checksum.

The promise, for each: no exception but the typed ones, and nothing behind a watermark silently lost or changed.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.journal import (
    Corruption,
    IncompatibleFormat,
    Journal,
    JournalError,
    JournalOptions,
    Kind,
    Lane,
    MemoryDisk,
    Record,
)
from holdfast.journal.format import GROUP, SegmentHeader, group_bytes, pack_group, pack_segment_header

FOLDER = "/v/journal"
OPEN = f"{FOLDER}/00000000000000000001-00000001.open"
SEALED = OPEN.replace(".open", ".seg")
STATE = b"state"
OPTIONS = JournalOptions(
    segment_bytes=8192,
    first_segment_bytes=8192,
    headroom_bytes=0,
    lane=Lane.INLINE,
    prepare_ahead=False,
    idle_mark_s=60.0,
)


async def written(*, clean: bool) -> tuple[bytes, list[Record]]:
    """The bytes of a full 8 KiB segment, stopped cleanly or killed behind its idle watermark, and the records in it."""
    disk = MemoryDisk()
    chance = random.Random(8192)
    async with Journal.open(FOLDER, state_id=STATE, disk=disk, options=OPTIONS) as journal:
        while journal._appender is not None and journal._appender.room_bytes > 900:
            for _ in range(chance.randrange(1, 4)):
                payload = chance.randbytes(chance.randrange(200)) + bytes(chance.randrange(60))
                journal.append(Kind.COMMAND, "sqs", "SendMessage", 1, payload)
            await journal.durable(journal.last_lsn)
            if chance.random() < 0.2:
                journal.checkpointed(journal.last_lsn, b"m" * 32)
        while journal._appender is not None and journal._appender.room_bytes > 300:
            await journal.durable(journal.append(Kind.COMMAND, "sqs", "SendMessage", 1, b"x" * 120))
        if journal._appender is not None:
            journal._appender.mark()
        records = list(journal.read())
        data = disk.read(OPEN)
    return (disk.read(SEALED) if clean else data), records


def outcome(path: str, data: bytes) -> tuple[Journal, list[Record]] | JournalError:
    """What opening and reading a journal of this one file gives: everything it holds, or a typed error."""
    disk = MemoryDisk()
    disk.make_folder(FOLDER)
    disk.write(path, data)
    try:
        journal = Journal.open(FOLDER, state_id=STATE, disk=disk, options=OPTIONS)
        return journal, list(journal.read())
    except JournalError as error:
        return error


@pytest.fixture(
    scope="module", params=[pytest.param(OPEN, id="killed"), pytest.param(SEALED, id="clean", marks=pytest.mark.slow)]
)
def journal(request: pytest.FixtureRequest) -> tuple[str, bytes, list[Record]]:
    """A segment, its name, and what is in it: every record is behind a watermark or a seal."""
    data, records = asyncio.run(written(clean=request.param == SEALED))
    assert len(data) > 7900
    assert len(records) > 20
    return request.param, data, records


def test_every_truncation_is_refused_or_costs_nothing(journal: tuple[str, bytes, list[Record]]) -> None:
    """A file cut at any byte is refused by type; what does open holds every record."""
    path, data, records = journal
    refused = 0
    for length in range(len(data)):
        found = outcome(path, data[:length])
        if isinstance(found, JournalError):
            assert isinstance(found, Corruption)
            refused += 1
        else:
            assert found[1] == records, f"cut at {length}"
    assert refused > len(data) * 0.9


def test_every_flipped_bit_is_refused_or_costs_nothing(journal: tuple[str, bytes, list[Record]]) -> None:
    """One flipped bit anywhere is refused by type, or steps over what held no record; no record changes or goes missing."""
    path, data, records = journal
    refused = survived = 0
    flipped = bytearray(data)
    for offset, bit in itertools.product(range(len(data)), range(8)):
        flipped[offset] ^= 1 << bit
        found = outcome(path, bytes(flipped))
        flipped[offset] ^= 1 << bit
        if isinstance(found, JournalError):
            assert isinstance(found, Corruption | IncompatibleFormat)
            refused += 1
            continue
        opened, got = found
        assert got == records, f"bit {bit} of byte {offset}"
        assert opened.recovery.damages or opened.recovery.torn, f"bit {bit} of byte {offset} went unnoticed"
        survived += 1
    assert refused > survived > 0


def test_lost_sectors_never_lose_what_a_watermark_covers(journal: tuple[str, bytes, list[Record]]) -> None:
    """Any one or two sectors read back as zeros: refused, or every record that a watermark still covers is there."""
    path, data, records = journal
    groups = list(all_groups(data))
    starts = range(0, len(data), 512)
    for first, second in itertools.combinations_with_replacement(starts, 2):
        damaged = bytearray(data)
        for start in (first, second):
            damaged[start : start + 512] = bytes(len(data[start : start + 512]))
        whole = [group for group in groups if damaged[group.offset :][: len(group.bytes)] == group.bytes]
        covered = max((group.watermark for group in whole), default=0)
        found = outcome(path, bytes(damaged))
        if isinstance(found, JournalError):
            assert isinstance(found, Corruption)
            continue
        opened, got = found
        assert got == records[: len(got)], f"sectors at {first} and {second}"
        assert len(got) >= covered, f"sectors at {first} and {second}"
        assert len(got) == len(records) or opened.recovery.torn, f"sectors at {first} and {second}"


class WrittenGroup(NamedTuple):
    """A group as it was written: where, its bytes, and what its watermark says."""

    offset: int
    bytes: bytes
    watermark: int


def all_groups(data: bytes) -> Iterator[WrittenGroup]:
    """The groups of a segment, found by their lengths."""
    offset = 512
    while data[offset : offset + 4] == b"HGRP":
        _, payload_bytes, _, watermark, *_ = GROUP.unpack_from(data, offset)
        length = group_bytes(payload_bytes)
        yield WrittenGroup(offset, data[offset : offset + length], watermark)
        offset += length


def one_group(payload: bytes, lsn_count: int, record_count: int) -> bytes:
    """A segment with one group whose checksums are right, whatever its payload is."""
    header = SegmentHeader(1, 1, 1, 0, 77, STATE)
    group, _ = pack_group(
        payload,
        first_lsn=1,
        lsn_count=lsn_count,
        record_count=record_count,
        watermark=0,
        previous=77,
        chain_seed=77,
        offset=512,
    )
    return pack_segment_header(header) + group + bytes(1024)


FIELDS: list[object] = [1, "sqs", "Send", 5, b"payload", (b"d" * 32,)]
STRANGE: list[object] = [None, True, -1, 1.5, 2**63, "text", b"bytes", {}, [[]], [1], {"a": 1}, 99, 17, 18]


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("strange", STRANGE, ids=repr)
def test_a_field_of_the_wrong_type_behind_a_valid_checksum_is_refused(place: int, strange: object) -> None:
    """A checksum proves that bytes are as they were written, not that they make sense: each field is checked."""
    fields = [*FIELDS[:place], strange, *FIELDS[place + 1 :]]
    if type(strange) is type(FIELDS[place]) and strange not in {99, 17, 18, -1}:
        return
    found = outcome(OPEN, one_group(msgpack.packb(fields), 1, 1))
    if isinstance(found, JournalError):
        assert isinstance(found, Corruption)
    else:
        (record,) = found[1]
        assert type(strange) is int
        assert place == 3
        assert record.time_ns == strange


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x93",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        msgpack.packb(FIELDS) + b"\x00",
        msgpack.packb(FIELDS)[:-1],
        msgpack.packb(FIELDS[:5]),
        msgpack.packb([*FIELDS, 1]),
        msgpack.packb(dict.fromkeys("abcdef", 1)),
        msgpack.packb("sixsix"),
        b"\x91" * 5000,
        msgpack.packb([1, msgpack.ExtType(5, b"x"), "", 0, b"", []]),
        b"\x96\x01\xa2\xff\xfe\xa0\x00\xc4\x00\x90",
    ],
)
def test_a_payload_that_is_no_record_is_refused(payload: bytes) -> None:
    """Cut, endless, nested, foreign: whatever msgpack can be made to say, the error is Corruption."""
    for lsn_count in (0, 1):
        found = outcome(OPEN, one_group(payload, lsn_count, 1))
        assert isinstance(found, Corruption)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 3), st.integers(0, 3))
def test_garbage_behind_a_valid_checksum_is_refused(payload: bytes, lsn_count: int, record_count: int) -> None:
    """Random bytes as a group's payload: a typed error, or a group that counts what it holds."""
    found = outcome(OPEN, one_group(payload, lsn_count, record_count))
    if isinstance(found, JournalError):
        assert isinstance(found, Corruption)
    else:
        assert len(found[1]) == lsn_count
