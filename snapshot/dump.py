"""Services' states to images: what a checkpoint does between two commands or in a forked child."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import msgpack

from holdfast.snapshot.images import ImageRef, ImageStore, ImageWriter
from holdfast.snapshot.source import Source

__all__ = ["Dumped", "OverBudget", "Pickled", "dump_images", "pickle_in_place", "write_images"]

REASON_CHARS_MAX: Final = 500
"""Of why a service failed: it goes into every manifest until it works again."""


@dataclass(slots=True)
class Dumped:
    """What came of a set of services: images of each, or why there are none."""

    parts: dict[str, dict[str, ImageRef]] = field(default_factory=dict)
    links: dict[str, frozenset[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    dump_ns: dict[str, int] = field(default_factory=dict)
    """How long pickling each took: what decides whether the next time it is done in place."""

    def pack(self) -> bytes:
        """The bytes a child hands to its parent."""
        parts = {
            service: {part: [ref.digest, ref.size, ref.raw_size] for part, ref in refs.items()}
            for service, refs in self.parts.items()
        }
        links = {service: sorted(others) for service, others in self.links.items()}
        return bytes(msgpack.packb((parts, links, self.failed, self.dump_ns)))

    @classmethod
    def unpack(cls, data: bytes) -> Dumped:
        """The reverse of `pack`."""
        parts, links, failed, dump_ns = msgpack.unpackb(data)
        return cls(
            {service: {part: ImageRef(*ref) for part, ref in refs.items()} for service, refs in parts.items()},
            {service: frozenset(others) for service, others in links.items()},
            failed,
            dump_ns,
        )

    def fail(self, service: str, error: BaseException) -> None:
        """Note that a service could not be written."""
        self.failed[service] = f"{type(error).__name__}: {error}"[:REASON_CHARS_MAX]


def dump_images(source: Source, images: ImageStore, services: Iterable[str]) -> Dumped:
    """Pickle services straight into images. A service that fails is reported and the rest go on; raises OSError for the disk."""
    dumped = Dumped()
    for service in services:
        started = time.thread_time_ns()  # of the processor: neither a busy machine nor the disk makes a service large
        writers: dict[str, ImageWriter] = {}
        try:
            links = source.dump(service, _opener(writers, lambda part, service=service: images.writer(service, part)))
            dumped.dump_ns[service] = time.thread_time_ns() - started
            parts = {part: writer.finish() for part, writer in writers.items()}
        except Exception as error:
            _abandon(writers)
            _raise_if_disk(writers, error)
            dumped.fail(service, error)
            continue
        dumped.parts[service] = parts
        dumped.links[service] = links
    return dumped


def _abandon(writers: Mapping[str, ImageWriter]) -> None:
    for writer in writers.values():
        writer.abandon()


def _raise_if_disk(writers: Mapping[str, ImageWriter], error: Exception) -> None:
    """A full or failing disk is no fault of the service: it ends the checkpoint. The codec wraps it, the writer remembers it."""
    for writer in writers.values():
        if writer.failure is not None:
            raise writer.failure from error
    if isinstance(error, OSError):
        raise error


def _opener(writers: dict[str, Any], make: Any) -> Any:
    def open_part(part: str) -> BinaryIO:
        if part in writers:
            raise ValueError(f"the part {part} is opened twice")
        writer: BinaryIO = make(part)
        writers[part] = writer
        return writer

    return open_part


# --- in place ----------------------------------------------------------------------------------------------------------


class OverBudget(Exception):
    """Raised when pickling between two commands takes longer than it was given."""


@dataclass(slots=True)
class Pickled:
    """Pickles in memory, not yet images."""

    raw: dict[str, dict[str, bytes]] = field(default_factory=dict)
    dumped: Dumped = field(default_factory=Dumped)


class _Budgeted(io.BytesIO):
    """Memory to pickle into until a deadline has passed; looked at once a frame, that is every 64 KiB."""

    def __init__(self, deadline_ns: int) -> None:
        super().__init__()
        self._deadline_ns = deadline_ns
        self.over = False

    def write(self, data: Any, /) -> int:
        if time.perf_counter_ns() > self._deadline_ns:
            self.over = True
            raise OverBudget
        return super().write(data)

    def close(self) -> None:
        pass  # its bytes are still wanted


def pickle_in_place(source: Source, services: Iterable[str], budget_ns: int) -> Pickled:
    """Pickle services into memory. Raises OverBudget once it took longer than `budget_ns`: estimates are of the past."""
    pickled = Pickled()
    deadline_ns = time.perf_counter_ns() + budget_ns
    for service in services:
        started = time.perf_counter_ns()
        if started > deadline_ns:
            raise OverBudget
        buffers: dict[str, _Budgeted] = {}
        try:
            links = source.dump(service, _opener(buffers, lambda _: _Budgeted(deadline_ns)))
        except Exception as error:
            if any(buffer.over for buffer in buffers.values()):
                raise OverBudget from error
            pickled.dumped.fail(service, error)
            continue
        pickled.raw[service] = {part: buffer.getvalue() for part, buffer in buffers.items()}
        pickled.dumped.links[service] = links
        pickled.dumped.dump_ns[service] = time.perf_counter_ns() - started
    return pickled


def write_images(images: ImageStore, pickled: Pickled) -> Dumped:
    """Make images of pickles. Raises OSError."""
    for service, parts in pickled.raw.items():
        pickled.dumped.parts[service] = {part: images.put(service, part, raw) for part, raw in parts.items()}
    return pickled.dumped
