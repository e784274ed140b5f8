"""The byte tables that open format.py are the structs that write them."""

from __future__ import annotations

import re
import struct
import zlib

import pytest

from holdfast.journal import format as fmt


def table(title: str) -> list[tuple[int, int, str]]:
    """(offset, size, field) of each row of the table under a heading of format.py's essay."""
    assert fmt.__doc__ is not None
    text = fmt.__doc__.split(f"{title}\n{'-' * len(title)}\n", 1)[1].split("\n---", 1)[0]
    return [(int(m[1]), int(m[2]), m[3]) for m in re.finditer(r"^    (\d+) +(\d+) +(\w+) ", text, re.MULTILINE)]


def fields(layout: struct.Struct) -> list[tuple[int, int]]:
    """(offset, size) of each field of a struct."""
    offset, found = 0, []
    for count, code in re.findall(r"(\d*)([a-zA-Z])", layout.format):
        sizes = [struct.calcsize(f"<{count}s")] if code == "s" else [struct.calcsize(f"<{code}")] * int(count or 1)
        for size in sizes:
            found.append((offset, size))
            offset += size
    return found


@pytest.mark.parametrize(("title", "layout"), [("Segment header", fmt.SEGMENT), ("Group header", fmt.GROUP)])
def test_the_table_is_the_struct(title: str, layout: struct.Struct) -> None:
    """Every offset and size in the essay is what the code reads and writes."""
    assert [(offset, size) for offset, size, _ in table(title)] == fields(layout)
    assert sum(size for _, size, _ in table(title)) == layout.size


def test_a_segment_header_is_one_sector_with_the_fields_of_the_table() -> None:
    """The header is written where the table says, and its checksum covers all before it."""
    header = fmt.SegmentHeader(7, 3, 1_700_000_000_000_000_000, 8192, 0xDEAD, b"state", begins_anew=True)
    packed = fmt.pack_segment_header(header)
    where = {name: packed[offset : offset + size] for offset, size, name in table("Segment header")}
    assert len(packed) == fmt.SECTOR_BYTES
    assert where["magic"] == b"HOLDFAST"
    assert where["first_lsn"] == (7).to_bytes(8, "little")
    assert where["epoch"] == (3).to_bytes(8, "little")
    assert where["flags"] == (1).to_bytes(4, "little")
    assert where["state_id"] == b"state".ljust(32, b"\0")
    assert where["checksum"] == zlib.crc32(packed[:508]).to_bytes(4, "little")
    assert fmt.unpack_segment_header(packed) == header


def test_a_group_is_what_the_table_says() -> None:
    """Header fields lie where the table puts them; checksums begin with what the essay says they begin with."""
    group, checksum = fmt.pack_group(
        b"payload", first_lsn=5, lsn_count=2, record_count=3, watermark=4, previous=9, chain_seed=11, offset=512
    )
    where = {name: group[offset : offset + size] for offset, size, name in table("Group header")}
    place = struct.pack("<IQ", 11, 512)
    assert where["magic"] == b"HGRP"
    assert where["mark"] == b"done"
    assert [int.from_bytes(where[name], "little") for name in ("payload_bytes", "first_lsn", "watermark")] == [7, 5, 4]
    assert [int.from_bytes(where[name], "little") for name in ("lsn_count", "record_count", "previous")] == [2, 3, 9]
    assert int.from_bytes(where["payload_checksum"], "little") == zlib.crc32(group[48:])
    assert int.from_bytes(where["header_checksum"], "little") == checksum == zlib.crc32(group[:40], zlib.crc32(place))
    assert group[48:55] == b"payload"
    assert len(group) == fmt.group_bytes(7) == 56
    assert group[55:] == b"\xa5"


@pytest.mark.parametrize("payload_bytes", range(17))
def test_a_group_is_aligned_and_ends_in_filler(payload_bytes: int) -> None:
    """Whatever the payload's length, a group's is a multiple of 8, and its last byte is not zero."""
    group, _ = fmt.pack_group(
        bytes(payload_bytes),
        first_lsn=1,
        lsn_count=1,
        record_count=1,
        watermark=0,
        previous=0,
        chain_seed=1,
        offset=512,
    )
    assert len(group) == fmt.group_bytes(payload_bytes)
    assert len(group) % 8 == 0
    assert group[-1] == 0xA5


def test_a_group_verifies_only_where_it_was_written() -> None:
    """The same bytes at another offset, or in a segment with another seed, are no group."""
    group, _ = fmt.pack_group(
        b"x" * 100, first_lsn=1, lsn_count=1, record_count=1, watermark=0, previous=0, chain_seed=1, offset=512
    )
    view = memoryview(group)
    assert fmt.unpack_group_header(view, chain_seed=1, offset=512) is not None
    assert fmt.unpack_group_header(view, chain_seed=1, offset=520) is None
    assert fmt.unpack_group_header(view, chain_seed=2, offset=512) is None


def test_a_segment_name_says_what_it_is() -> None:
    """Names carry LSN, epoch and state, sort in LSN order, and nothing else is taken for one."""
    name = fmt.SegmentName(12, 3, sealed=True)
    assert str(name) == "00000000000000000012-00000003.seg"
    assert fmt.SegmentName.parse(str(name)) == name
    assert fmt.SegmentName.parse("spare-0123456789abcdef.tmp") is None
    assert fmt.SegmentName.parse("00000000000000000012-00000003.seg.bak") is None
    assert str(fmt.SegmentName(9, 3, sealed=True)) < str(fmt.SegmentName(10, 1, sealed=False))


@pytest.mark.parametrize(
    ("data", "offset", "whole"),
    [
        (b"x" * 48, 512, True),
        (b"x" * 47 + b"\0", 512, False),  # cut short within a sector
        (b"x" * 24 + bytes(24), 1000, False),  # its second sector was never written
        (bytes(24) + b"x" * 24, 1000, False),  # its first sector was never written
        (b"x" * 500 + bytes(512) + b"x" * 500, 524, False),
        (b"x" * 500 + bytes(500) + b"x" * 512, 524, True),  # zeros, but no whole sector of them
    ],
)
def test_a_write_cut_short_shows_zeros(data: bytes, offset: int, whole: bool) -> None:
    """A group counts as wholly there only if its last byte and each of its sectors was written."""
    assert fmt.wholly_present(data, offset) is whole
