"""Images: parts of services' states, immutable, named by the digest of their bytes, in the journal's blob store."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import zstandard

from holdfast.journal.blobs import BlobStore
from holdfast.journal.errors import BlobDamaged, BlobMissing
from holdfast.snapshot import format as fmt
from holdfast.snapshot.errors import ImageDamaged

if TYPE_CHECKING:
    from holdfast.journal.blobs import BlobWriter

__all__ = ["COMPRESSION_LEVEL", "Image", "ImageRef", "ImageStore", "ImageWriter"]

COMPRESSION_LEVEL: Final = 1
"""634 MB/s and 40 % of the pickled size on 200,000 messages; level 3 took twice as long and made them larger."""

RATIO_MAX: Final = 1 << 16
"""No zstd frame grows by more: a block of 128 KiB takes at least 4 bytes. Bounds what a forged size may ask for."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """How a manifest names an image. Sizes in bytes: of the file, and of the pickle in it."""

    digest: bytes
    size: int
    raw_size: int


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was read and verified; `raw` is the pickle."""

    service: str
    part: str
    versions: Mapping[str, str]
    raw: bytes


class ImageWriter(io.BufferedIOBase):
    """One image being written: give it the pickle's bytes, then `finish` names it, or `abandon` leaves nothing behind.

    Closing it does neither: a writer is closed by whoever pickles, and named by whoever knows that the pickle is whole.
    """

    def __init__(self, blobs: BlobStore, header: bytes) -> None:
        self._context = blobs.writer()
        self._blob: BlobWriter = self._context.__enter__()
        self._frame = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, write_checksum=False).compressobj()
        self._raw_size = 0
        self.failure: OSError | None = None
        """The disk's error, if one came up: whoever pickles may have wrapped it in an error of its own."""
        self._put(header)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        """Add bytes of the pickle; raises OSError when the disk does."""
        self._raw_size += len(data)
        packed = self._frame.compress(data)
        if packed:
            self._put(packed)
        return len(data)

    def close(self) -> None:
        pass

    def finish(self) -> ImageRef:
        """Make the image durable under its name."""
        self._put(self._frame.flush())
        self._put(fmt.image_trailer(self._raw_size))
        self._context.__exit__(None, None, None)
        return ImageRef(self._blob.digest, self._blob.size_bytes, self._raw_size)

    def abandon(self) -> None:
        """Drop what was written."""
        reason = InterruptedError("the image was abandoned")
        try:
            self._context.__exit__(type(reason), reason, None)
        except InterruptedError:
            pass  # the blob store drops its file and hands the reason on

    def _put(self, data: bytes) -> None:
        try:
            self._blob.write(data)
        except OSError as error:
            self.failure = error
            raise


class ImageStore:
    """Images in a blob store. `versions` says what writes them and goes into each; it must be the same for equal state."""

    def __init__(self, blobs: BlobStore, versions: Mapping[str, str]) -> None:
        self.blobs = blobs
        self.versions = dict(versions)

    def in_child(self) -> ImageStore:
        """The same store for a forked child, with locks of its own: a thread of the parent may have held the parent's."""
        return ImageStore(BlobStore(self.blobs.folder, self.blobs.disk), self.versions)

    def writer(self, service: str, part: str) -> ImageWriter:
        """A writer for one part's pickle. Raises OSError."""
        return ImageWriter(self.blobs, fmt.image_header(service, part, self.versions))

    def put(self, service: str, part: str, raw: bytes) -> ImageRef:
        """Write an image whose pickle is at hand."""
        writer = self.writer(service, part)
        try:
            writer.write(raw)
            return writer.finish()
        except BaseException:
            writer.abandon()
            raise

    def open_raw(self, digest: bytes) -> BinaryIO:
        """The image's file as it is, not verified: to copy it elsewhere."""
        try:
            return self.blobs.open(digest)
        except BlobMissing:
            raise ImageDamaged(digest, "is missing") from None

    def read(self, ref: ImageRef) -> Image:
        """The image, after its digest, its sizes and its frame proved right. Raises ImageDamaged or IncompatibleFormat."""
        try:
            data = self.blobs.get(ref.digest)
        except BlobMissing:
            raise ImageDamaged(ref.digest, "is missing") from None
        except BlobDamaged:
            raise ImageDamaged(ref.digest, "its bytes are not those that its name promises") from None
        except OSError as error:
            raise _damaged(ref.digest, error) from error
        if len(data) != ref.size:
            raise ImageDamaged(ref.digest, f"has {len(data)} bytes and the manifest says {ref.size}")
        image = decode(ref.digest, data)
        if len(image.raw) != ref.raw_size:
            raise ImageDamaged(ref.digest, f"holds {len(image.raw)} bytes and the manifest says {ref.raw_size}")
        return image

    def verify(self, ref: ImageRef) -> None:
        """Raise ImageDamaged unless the file is there, of the right length, and has the digest that names it."""
        try:
            if self.blobs.size_bytes(ref.digest) != ref.size:
                raise ImageDamaged(ref.digest, f"is not {ref.size} bytes long")
            if not self.blobs.verify(ref.digest):
                raise ImageDamaged(ref.digest, "its bytes are not those that its name promises")
        except BlobMissing:
            raise ImageDamaged(ref.digest, "is missing") from None
        except OSError as error:
            raise _damaged(ref.digest, error) from error

    def path(self, digest: bytes) -> str:
        """Where the image's file lies."""
        return os.fspath(self.blobs.path(digest))


def _damaged(digest: bytes, error: OSError) -> Exception:
    """What an error of the disk says of an image: the medium's is damage; no permission or no descriptors is not."""
    return ImageDamaged(digest, f"cannot be read: {error}") if error.errno == errno.EIO else error


def decode(digest: bytes, data: bytes) -> Image:
    """An image from its file's bytes, whose digest was verified. Raises ImageDamaged or IncompatibleFormat."""
    fields, start = fmt.read_image_header(digest, data[: fmt.IMAGE_HEADER.size + fmt.FIELDS_SIZE_BYTES_MAX])
    if len(data) < start + fmt.IMAGE_TRAILER.size:
        raise ImageDamaged(digest, "is cut")
    raw_size = fmt.read_image_trailer(digest, data)
    frame = memoryview(data)[start : -fmt.IMAGE_TRAILER.size]
    if raw_size > len(frame) * RATIO_MAX:
        raise ImageDamaged(digest, f"says that {len(frame)} bytes hold {raw_size}")
    try:
        decompressor = zstandard.ZstdDecompressor()
        raw = decompressor.decompress(frame, max_output_size=max(raw_size, 1), allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError) as error:
        raise ImageDamaged(digest, f"its frame: {error}") from error
    if len(raw) != raw_size:
        raise ImageDamaged(digest, f"says {raw_size} bytes and holds {len(raw)}")
    return Image(fields["service"], fields["part"], cast(Mapping[str, str], fields.get("versions", {})), raw)
