"""The tables in format.py's head are the format: they are compared with the code that packs and reads."""

from __future__ import annotations

import re
import struct

import pytest

from holdfast.snapshot import format as fmt
from holdfast.snapshot.errors import FormatError, ImageDamaged, IncompatibleFormat, ManifestDamaged

CODES = {"u16": "H", "u32": "I", "u64": "Q"}
TYPES = {"int": int, "str": str, "bytes": bytes, "bool": bool, "map": dict, "array": list}


def table(heading: str) -> list[list[str]]:
    """The rows of the byte table after `heading`: offset, size, type, field, rest."""
    assert fmt.__doc__ is not None
    part = fmt.__doc__[fmt.__doc__.index(heading) :]
    rows: list[list[str]] = []
    for line in part.splitlines()[2:]:
        if match := re.match(r"    (\S+)\s+(\d+|[nm])\s+(bytes|u16|u32|u64)\s+(\S+)\s*(.*)", line):
            rows.append(list(match.groups()))
        elif rows and not line.strip():
            break
    return rows


def structure(rows: list[list[str]]) -> tuple[str, list[int]]:
    """A struct format and the offsets, of rows with fixed sizes."""
    code, offsets = "<", []
    for offset, size, kind, _, _ in rows:
        offsets.append(int(offset))
        code += f"{size}s" if kind == "bytes" else CODES[kind]
        assert struct.calcsize("<" + code[-1] if kind != "bytes" else f"<{size}s") == int(size)
    return code, offsets


def fields(heading: str) -> dict[str, type]:
    assert fmt.__doc__ is not None
    part = fmt.__doc__[fmt.__doc__.index(heading) :].split("\n\n")[0]
    found: dict[str, type] = {}
    for line in part.splitlines()[2:]:
        name, kind, *_ = line.split()
        found[name] = TYPES[kind]
    return found


@pytest.mark.parametrize(
    ("heading", "header", "magic"),
    [("Image:", fmt.IMAGE_HEADER, fmt.IMAGE_MAGIC), ("Manifest:", fmt.MANIFEST_HEADER, fmt.MANIFEST_MAGIC)],
)
def test_the_header_tables_are_the_structs(heading: str, header: struct.Struct, magic: bytes) -> None:
    """Offsets, sizes, types and magic bytes of the documentation are those of the code."""
    fixed = [row for row in table(heading) if row[0].isdigit() and row[1].isdigit()]
    code, offsets = structure(fixed)
    assert code == header.format
    assert offsets[0] == 0
    ends = [offset + int(row[1]) for offset, row in zip(offsets, fixed, strict=True)]
    assert [*offsets[1:], header.size] == ends
    assert bytes.fromhex("".join(re.findall(r"\b[0-9A-F]{2}\b", fixed[0][4].split("(")[0]))) == magic


def test_the_trailer_table_is_the_struct() -> None:
    """The image's last bytes: raw_size and the closing magic."""
    rows = [row for row in table("Image:") if row[0].startswith("end-")]
    assert [int(row[0].removeprefix("end-")) for row in rows] == [16, 8]
    assert (
        "<" + "".join(f"{row[1]}s" if row[2] == "bytes" else CODES[row[2]] for row in rows) == fmt.IMAGE_TRAILER.format
    )
    assert bytes.fromhex("".join(re.findall(r"\b[0-9A-F]{2}\b", rows[1][4].split("(")[0]))) == fmt.IMAGE_END


def test_the_field_tables_are_the_types() -> None:
    """Every field of a manifest and of an entry is documented, with its type."""
    assert fields("    field     type") == fmt.MANIFEST_FIELDS
    assert fields("    entry     type") == fmt.ENTRY_FIELDS


def test_the_version_is_documented() -> None:
    """The version in the tables is the one that is written."""
    for heading in ("Image:", "Manifest:"):
        assert table(heading)[1][3:] == ["version", str(fmt.FORMAT_VERSION)]


def test_equal_arguments_give_equal_headers() -> None:
    """Nothing of the time or the order of a mapping gets into an image."""
    one = fmt.image_header("sqs", "backend", {"a": "1", "b": "2"})
    assert one == fmt.image_header("sqs", "backend", {"b": "2", "a": "1"})


NUMBERS = {"lsn": 1, "epoch": 1, "time_ns": 1}
PAYLOAD = {**NUMBERS, "state_id": b"x", "reason": "r", "services": {}, "failed": {}, "versions": {}, "complete": True}


def test_an_unknown_field_is_ignored() -> None:
    """A field can be added without a new version."""
    assert fmt.read_manifest_file("", fmt.manifest_file({**PAYLOAD, "later": 1}))["lsn"] == 1


@pytest.mark.parametrize("name", PAYLOAD)
@pytest.mark.parametrize("wrong", [None, 1.5, [1], "missing"])
def test_a_field_of_the_wrong_type_is_damage(name: str, wrong: object) -> None:
    """A right checksum over wrong fields is a foreign writer's: refused with the field's name, by the typed error."""
    payload = {**PAYLOAD, name: wrong}
    if wrong == "missing":
        del payload[name]
    with pytest.raises(ManifestDamaged, match=name):
        fmt.read_manifest_file("", fmt.manifest_file(payload))


@pytest.mark.parametrize(
    "entry",
    [1, {}, {"lsn": 1, "time_ns": 1, "parts": [], "links": []}, {"lsn": "1", "time_ns": 1, "parts": {}, "links": []}],
)
def test_a_wrong_entry_is_damage(entry: object) -> None:
    """Entries are held to their types too."""
    with pytest.raises(ManifestDamaged, match="entry sqs"):
        fmt.read_manifest_file("", fmt.manifest_file({**PAYLOAD, "services": {"sqs": entry}}))


def newer(data: bytes) -> bytes:
    body = bytearray(data[: -fmt.MANIFEST_CHECKSUM_BYTES])
    body[8:10] = struct.pack("<H", fmt.FORMAT_VERSION + 1)
    import hashlib

    return bytes(body) + hashlib.sha256(body).digest()


def test_a_whole_file_of_a_newer_version_is_no_damage() -> None:
    """It was written by a newer program: another type of error, so that nobody moves it to quarantine."""
    with pytest.raises(IncompatibleFormat):
        fmt.read_manifest_file("", newer(fmt.manifest_file(PAYLOAD)))
    header = bytearray(fmt.image_header("sqs", "backend", {}))
    header[8:10] = struct.pack("<H", fmt.FORMAT_VERSION + 1)
    with pytest.raises(IncompatibleFormat):
        fmt.read_image_header(b"", bytes(header))


def test_any_single_flipped_bit_or_cut_of_a_manifest_is_found() -> None:
    """Every bit and every length of a manifest: a typed error, never another manifest."""
    data = fmt.manifest_file({**PAYLOAD, "services": {"sqs": {"lsn": 1, "time_ns": 1, "parts": {}, "links": []}}})
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(FormatError):
            fmt.read_manifest_file("", bytes(flipped))
    for size in range(len(data)):
        with pytest.raises(FormatError):
            fmt.read_manifest_file("", data[:size])
    with pytest.raises(FormatError):
        fmt.read_manifest_file("", data + b"\0")


@pytest.mark.parametrize(
    "head", [b"", b"\x89HFIMG\r\n", b"x" * 16, fmt.IMAGE_HEADER.pack(fmt.IMAGE_MAGIC, 1, 60000, 0)]
)
def test_a_header_that_is_cut_or_foreign_is_damage(head: bytes) -> None:
    """Whatever is too short, or is not ours, or says more than a header may."""
    with pytest.raises(ImageDamaged):
        fmt.read_image_header(b"\1" * 32, head)
