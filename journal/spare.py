"""The next segment, made ahead of time, so that neither a commit nor a request waits for a disk to be filled with zeros.

It is also where a full disk shows first: what cannot be prepared is not promised. A spare that could not be made is
tried again when someone asks for room, so a disk that was full heals by itself.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time

from holdfast.journal.disk import Disk, File
from holdfast.journal.options import JournalOptions
from holdfast.journal.segment import prepare_spare

__all__ = ["Spare"]

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Spare:
    """At most one prepared file. `want` begins to make it, `take` hands it over; any thread may call either."""

    def __init__(self, disk: Disk, folder: str, options: JournalOptions) -> None:
        self.error: OSError | None = None
        self._disk = disk
        self._folder = folder
        self._options = options
        self._size_bytes = min(options.first_segment_bytes, options.segment_bytes)
        self._file: File | None = None
        self._made_bytes = 0
        self._failed_at_s = float("-inf")
        self._filling = False
        self._changed = threading.Condition()

    @property
    def made_bytes(self) -> int:
        """The size of the prepared file, 0 when there is none."""
        return self._made_bytes

    @property
    def full(self) -> bool:
        """True when the last try found the disk full."""
        return self.error is not None and self.error.errno in FULL

    def want(self) -> None:
        """See to it that a spare is made, unless there is one, or a try failed a moment ago."""
        with self._changed:
            if self._file is not None or self._filling or self._failed_lately():
                return
            self._filling = True
        if self._options.prepare_ahead:
            threading.Thread(target=self._fill, name="holdfast-journal-spare", daemon=True).start()
        else:
            self._fill()

    def provide(self, size_bytes: int) -> bool:
        """True when there is a spare of at least that size; waits for one, or makes it, unless a try failed a moment ago."""
        with self._changed:
            self._changed.wait_for(lambda: not self._filling)
            if self._made_bytes >= size_bytes:
                return True
            if self._failed_lately():
                return False
            self._filling = True
        self._fill(size_bytes)
        return self._made_bytes >= size_bytes

    def take(self) -> tuple[File, int]:
        """Hand over the spare and its size; makes one at once when there is none. Raises OSError when that cannot be."""
        with self._changed:
            self._changed.wait_for(lambda: not self._filling)
            missing = self._filling = self._file is None
        if missing:
            self._fill()
        with self._changed:
            if self._file is None:
                assert self.error is not None
                raise self.error
            taken = self._file, self._made_bytes
            self._file, self._made_bytes = None, 0
            self._size_bytes = min(2 * self._size_bytes, self._options.segment_bytes)
        return taken

    def close(self) -> None:
        """Wait for what is being made and remove it: the next life makes its own, and removes what is left here."""
        with self._changed:
            self._changed.wait_for(lambda: not self._filling)
            file, self._file, self._made_bytes = self._file, None, 0
        if file is not None:
            self._discard(file)

    def _failed_lately(self) -> bool:
        return time.perf_counter() - self._failed_at_s < self._options.full_retry_s

    def _fill(self, least_bytes: int = 0) -> None:
        """Make a spare, in place of one that is too small."""
        made: tuple[File, int] | None = None
        failure: OSError | None = None
        try:
            made = self._make(least_bytes)
        except OSError as error:
            failure = error
        except Exception as error:  # whatever it is, nobody may be left waiting for this spare
            failure = OSError(errno.EIO, f"a journal segment could not be prepared: {error!r}")
        with self._changed:
            old = self._file
            if made is not None:
                self._file, self._made_bytes = made
            else:
                self._failed_at_s = time.perf_counter()
            self.error = failure
            self._filling = False
            self._changed.notify_all()
        if old is not None and made is not None:
            self._discard(old)

    def _discard(self, file: File) -> None:
        file.close()
        with contextlib.suppress(OSError):  # on a disk that failed, the failure is what is to be heard of, not this
            self._disk.unlink(file.path)

    def _make(self, least_bytes: int) -> tuple[File, int]:
        """A file of the wanted size or, on a disk with too little room, of the smallest that will do."""
        smallest_bytes = max(min(self._options.first_segment_bytes, self._size_bytes), least_bytes)
        sizes = sorted({max(self._size_bytes, least_bytes), smallest_bytes}, reverse=True)
        for size_bytes in sizes:
            try:
                if self._disk.free_bytes(self._folder) < size_bytes + self._options.headroom_bytes:
                    raise OSError(errno.ENOSPC, "too little room for a journal segment", self._folder)
                return prepare_spare(self._disk, self._folder, size_bytes if self._options.zero_fill else 0), size_bytes
            except OSError as error:
                if error.errno not in FULL or size_bytes == sizes[-1]:
                    raise
        raise AssertionError("there is always a size to try")
