"""The current images under names that people look for: `state/api_states/<service>/{backend,store}.state`.

A view is a second name of the image's file (its mode then is 0444, so that nobody edits an image by accident) or, where the file
system has no second names, a copy. Nothing here is ever read back, so nothing is synced: after a crash a view may be older.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from typing import Final

from holdfast.journal.disk import ASIDE_PREFIX, Disk, LocalDisk, write_aside
from holdfast.snapshot.images import ImageRef, ImageStore
from holdfast.snapshot.manifest import Manifest

__all__ = ["Views"]

SUFFIX: Final = ".state"
READ_ONLY: Final = 0o444
COPY_CHUNK_BYTES: Final = 1 << 20


class Views:
    """A folder of views. `state_folder` is the volume's `state/`."""

    def __init__(self, state_folder: str | os.PathLike[str], images: ImageStore, disk: Disk | None = None) -> None:
        self.folder = os.path.join(os.fspath(state_folder), "api_states")
        self._images = images
        self._disk = disk or LocalDisk()

    def show(self, manifest: Manifest, services: Iterable[str] | None = None) -> None:
        """Let the views of `services` (None: of all) show what `manifest` names. Raises OSError."""
        for service in manifest.services if services is None else services:
            folder = os.path.join(self.folder, service)
            self._disk.make_folder(folder)
            wanted = {part + SUFFIX: ref for part, ref in manifest.services[service].parts.items()}
            for name, ref in wanted.items():
                self._point(os.path.join(folder, name), ref)
            for name in self._disk.listdir(folder):
                if name.endswith(SUFFIX) and name not in wanted:
                    self._disk.unlink(os.path.join(folder, name))

    def _point(self, path: str, ref: ImageRef) -> None:
        aside = os.path.join(os.path.dirname(path), f"{ASIDE_PREFIX}{secrets.token_hex(8)}")
        image = self._images.path(ref.digest)
        try:
            self._disk.link(image, aside)
        except OSError:  # another file system, or one without links, or too many of them
            write_aside(self._disk, path, self._chunks(ref))
            return
        if isinstance(self._disk, LocalDisk):
            os.chmod(aside, READ_ONLY)
        self._disk.rename(aside, path)
        if self._disk.exists(aside):  # rename(2): two names of one file are left as they are
            self._disk.unlink(aside)

    def _chunks(self, ref: ImageRef) -> Iterable[bytes]:
        with self._images.open_raw(ref.digest) as stream:
            while chunk := stream.read(COPY_CHUNK_BYTES):
                yield chunk
