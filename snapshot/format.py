"""The bytes of images and manifests. Nothing outside this module knows an offset.

Image: one part of one service's state. Little-endian.

    offset  size  type   field
    ------  ----  -----  -----------------------------------------------------------
    0       8     bytes  magic         89 48 46 49 4D 47 0D 0A  ("HFIMG")
    8       2     u16    version       1
    10      2     u16    fields_size   length of the msgpack map that follows
    12      4     u32    reserved      zero
    16      n     bytes  fields        {"service": str, "part": str, "versions": {str: str}}
    16+n    m     bytes  frame         one zstd frame: the pickle, protocol 5
    end-16  8     u64    raw_size      bytes of the pickle
    end-8   8     bytes  end           48 46 45 4E 44 0D 0A 1A  ("HFEND")

    An image is valid when SHA-256 over the whole file is its name, and everything above holds, and the frame gives exactly
    raw_size bytes and ends where raw_size begins. The digest alone decides whether a file is damaged: it is checked before a
    single byte is interpreted, so no other checksum is kept. raw_size is known only when the pickle is complete and the file is
    written in one pass, so it stands at the end; it bounds what decompression may produce. LSN and time are NOT here: they live
    in the manifest, so that equal state has equal bytes and one name. The first magic byte is not ASCII and 0D 0A is in both
    magics, so a transfer that changes text or line ends shows at once.

Manifest: what was valid at one LSN.

    offset  size  type   field
    ------  ----  -----  -----------------------------------------------------------
    0       8     bytes  magic         89 48 46 4D 41 4E 0D 0A  ("HFMAN")
    8       2     u16    version       1
    10      2     u16    reserved      zero
    12      4     u32    payload_size  length of the msgpack map that follows
    16      n     bytes  payload       the fields below
    16+n    32    bytes  checksum      SHA-256 of bytes 0 to 16+n; the file ends after it

    A manifest is valid when its length is 16 + payload_size + 32, its checksum is right, and every field has its type. The whole
    file's SHA-256 is the manifest's digest, by which tags, pods and journal records name it.

    field     type   meaning
    --------  -----  --------------------------------------------------------------
    lsn       int    everything up to here is in it, and nothing after
    epoch     int    life of the daemon that wrote it
    time_ns   int    time of the cut, nanoseconds since 1970
    state_id  bytes  of the volume: a manifest of another volume is no base
    reason    str    who asked: SCHEDULED, ON_REQUEST, ON_SHUTDOWN, MANUAL, ...
    services  map    service -> entry
    failed    map    service -> why it is not in `services`
    versions  map    of what wrote it: name -> version
    complete  bool   every service is valid at lsn: a base to recover from

    entry     type   meaning
    --------  -----  --------------------------------------------------------------
    lsn       int    of the cut at which the images were made; valid up to the manifest's, being unchanged since
    time_ns   int    of that cut
    parts     map    part -> [digest: bytes, size: int, raw_size: int]
    links     array  other services whose objects it refers to

    Unknown fields are kept out of the way: a reader ignores them, so a field can be added without a new version. A change of
    meaning takes a new version, which an older program refuses (IncompatibleFormat) and leaves where it is.

Order of writing (DESIGN section 6), and why: the journal is durable up to lsn before anything names that lsn; images are synced
and renamed into place before the manifest that names them exists; the manifest is written aside, synced, renamed, its folder
synced, and read back; only then may anything older go. A crash between any two steps leaves the older checkpoints whole and at
worst some images that nothing names, which the collector takes.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Final

import msgpack

from holdfast.snapshot.errors import ImageDamaged, IncompatibleFormat, ManifestDamaged

__all__ = [
    "ENTRY_FIELDS",
    "FIELDS_SIZE_BYTES_MAX",
    "FORMAT_VERSION",
    "IMAGE_END",
    "IMAGE_HEADER",
    "IMAGE_MAGIC",
    "IMAGE_TRAILER",
    "MANIFEST_CHECKSUM_BYTES",
    "MANIFEST_FIELDS",
    "MANIFEST_HEADER",
    "MANIFEST_MAGIC",
    "MANIFEST_SIZE_BYTES_MAX",
    "image_header",
    "image_trailer",
    "manifest_file",
    "read_image_header",
    "read_image_trailer",
    "read_manifest_file",
]

FORMAT_VERSION: Final = 1

IMAGE_MAGIC: Final = b"\x89HFIMG\r\n"
IMAGE_END: Final = b"HFEND\r\n\x1a"
IMAGE_HEADER: Final = struct.Struct("<8sHHI")
IMAGE_TRAILER: Final = struct.Struct("<Q8s")

MANIFEST_MAGIC: Final = b"\x89HFMAN\r\n"
MANIFEST_HEADER: Final = struct.Struct("<8sHHI")
MANIFEST_CHECKSUM_BYTES: Final = 32

FIELDS_SIZE_BYTES_MAX: Final = 4096
"""Of an image's fields: two names and a few versions; more is not ours."""

MANIFEST_SIZE_BYTES_MAX: Final = 64 << 20
"""A service's entry takes about 200 bytes; this leaves room for 300,000 and bounds what a damaged length may ask for."""

MANIFEST_FIELDS: Final[dict[str, type]] = {
    "lsn": int,
    "epoch": int,
    "time_ns": int,
    "state_id": bytes,
    "reason": str,
    "services": dict,
    "failed": dict,
    "versions": dict,
    "complete": bool,
}

ENTRY_FIELDS: Final[dict[str, type]] = {"lsn": int, "time_ns": int, "parts": dict, "links": list}


def image_header(service: str, part: str, versions: dict[str, str]) -> bytes:
    """The bytes that stand before the frame; equal arguments give equal bytes."""
    fields = msgpack.packb({"service": service, "part": part, "versions": dict(sorted(versions.items()))})
    if len(fields) > FIELDS_SIZE_BYTES_MAX:
        raise ValueError(f"an image's fields take {len(fields)} bytes, over {FIELDS_SIZE_BYTES_MAX}")
    return IMAGE_HEADER.pack(IMAGE_MAGIC, FORMAT_VERSION, len(fields), 0) + bytes(fields)


def image_trailer(raw_size: int) -> bytes:
    """The bytes that stand after the frame."""
    return IMAGE_TRAILER.pack(raw_size, IMAGE_END)


def read_image_header(digest: bytes, head: bytes) -> tuple[dict[str, Any], int]:
    """The fields of an image and the offset of its frame. `head` holds at least the header and the fields, if they are whole.

    Raises ImageDamaged, or IncompatibleFormat for a whole header of a newer format.
    """
    if len(head) < IMAGE_HEADER.size:
        raise ImageDamaged(digest, "shorter than its header")
    magic, version, fields_size, _ = IMAGE_HEADER.unpack_from(head)
    if magic != IMAGE_MAGIC:
        raise ImageDamaged(digest, "is not an image")
    if version != FORMAT_VERSION:
        raise IncompatibleFormat(f"image {digest.hex()[:16]}", version, FORMAT_VERSION)
    start = IMAGE_HEADER.size + fields_size
    if fields_size > FIELDS_SIZE_BYTES_MAX or len(head) < start:
        raise ImageDamaged(digest, "its fields are cut")
    try:
        fields = msgpack.unpackb(head[IMAGE_HEADER.size : start])
    except (ValueError, msgpack.UnpackException) as error:
        raise ImageDamaged(digest, f"its fields are not msgpack: {error}") from error
    if not isinstance(fields, dict) or not all(isinstance(fields.get(name), str) for name in ("service", "part")):
        raise ImageDamaged(digest, "its fields name no service and part")
    return fields, start


def read_image_trailer(digest: bytes, tail: bytes) -> int:
    """raw_size, from the image's last bytes. Raises ImageDamaged."""
    if len(tail) < IMAGE_TRAILER.size:
        raise ImageDamaged(digest, "shorter than its trailer")
    raw_size, end = IMAGE_TRAILER.unpack(tail[-IMAGE_TRAILER.size :])
    if end != IMAGE_END:
        raise ImageDamaged(digest, "is cut at its end")
    return int(raw_size)


def manifest_file(payload: dict[str, Any]) -> bytes:
    """The whole file for a manifest's fields."""
    packed = msgpack.packb(payload)
    if len(packed) > MANIFEST_SIZE_BYTES_MAX:
        raise ValueError(f"a manifest of {len(packed)} bytes is over {MANIFEST_SIZE_BYTES_MAX}")
    body = MANIFEST_HEADER.pack(MANIFEST_MAGIC, FORMAT_VERSION, 0, len(packed)) + bytes(packed)
    return body + hashlib.sha256(body).digest()


def read_manifest_file(path: str, data: bytes) -> dict[str, Any]:
    """A manifest's fields, each of its type. Raises ManifestDamaged or IncompatibleFormat; `path` is for their text."""
    if len(data) < MANIFEST_HEADER.size + MANIFEST_CHECKSUM_BYTES:
        raise ManifestDamaged(path, f"is cut: {len(data)} bytes")
    body, checksum = data[:-MANIFEST_CHECKSUM_BYTES], data[-MANIFEST_CHECKSUM_BYTES:]
    if hashlib.sha256(body).digest() != checksum:
        raise ManifestDamaged(path, "its checksum is wrong")
    magic, version, _, payload_size = MANIFEST_HEADER.unpack_from(body)
    if magic != MANIFEST_MAGIC:
        raise ManifestDamaged(path, "is not a manifest")
    if version != FORMAT_VERSION:
        raise IncompatibleFormat(f"manifest {path}", version, FORMAT_VERSION)
    if payload_size != len(body) - MANIFEST_HEADER.size:
        raise ManifestDamaged(path, f"says {payload_size} bytes and has {len(body) - MANIFEST_HEADER.size}")
    try:
        payload = msgpack.unpackb(body[MANIFEST_HEADER.size :])
    except (ValueError, msgpack.UnpackException) as error:
        raise ManifestDamaged(path, f"its payload is not msgpack: {error}") from error
    _check_types(path, "manifest", payload, MANIFEST_FIELDS)
    for service, entry in payload["services"].items():
        _check_types(path, f"entry {service}", entry, ENTRY_FIELDS)
    return dict(payload)


def _check_types(path: str, what: str, fields: Any, types: dict[str, type]) -> None:
    if not isinstance(fields, dict):
        raise ManifestDamaged(path, f"{what} is not a map")
    for name, kind in types.items():
        if type(fields.get(name)) is not kind:
            raise ManifestDamaged(path, f"{what}: {name} is not a {kind.__name__}")
