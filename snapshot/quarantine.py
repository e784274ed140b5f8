"""Where goes what cannot be read: the file itself, beside it why, and the names of the images that must outlive it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from holdfast.journal.disk import Disk, LocalDisk, write_aside

__all__ = ["Quarantine", "Quarantined"]

REASON: Final = ".reason"
KEEPS: Final = ".keeps"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that was set aside: where it was, where it is, and why."""

    path: str
    quarantined_path: str
    reason: str


class Quarantine:
    """A folder that things only ever enter. `holdfast` never reads a file back from it, nor removes one."""

    def __init__(self, folder: str | os.PathLike[str], disk: Disk | None = None) -> None:
        self.folder = os.fspath(folder)
        self._disk = disk or LocalDisk()
        self._disk.make_folder(self.folder)

    def take(self, path: str, reason: str, keeps: Iterable[bytes] = ()) -> Quarantined:
        """Move a file here. The reason and the names are durable first, so that whatever a crash leaves is explained.

        `keeps` are digests of images that are still whole and that nothing else may name any more.
        """
        target = self._free_name(os.path.basename(path))
        write_aside(self._disk, target + REASON, [f"{path}\n{reason}\n".encode()])
        names = "".join(f"{digest.hex()}\n" for digest in keeps)
        if names:
            write_aside(self._disk, target + KEEPS, [names.encode()])
        self._disk.rename(path, target)
        self._disk.fsync_dir(
            self.folder
        )  # the new name first: between the two syncs a power cut may leave both, never none
        self._disk.fsync_dir(os.path.dirname(path))
        return Quarantined(path, target, reason)

    def names(self, infix: str) -> list[str]:
        """The names of quarantined files that contain `infix`."""
        return [
            name for name in self._disk.listdir(self.folder) if infix in name and not name.endswith((REASON, KEEPS))
        ]

    def keeps(self) -> set[bytes]:
        """The digests of all images that something in here may still need."""
        found: set[bytes] = set()
        for name in self._disk.listdir(self.folder):
            if name.endswith(KEEPS):
                with self._disk.open(os.path.join(self.folder, name)) as file:
                    lines = file.pread(file.size_bytes(), 0).decode("ascii").split()
                found.update(bytes.fromhex(line) for line in lines)
        return found

    def _free_name(self, name: str) -> str:
        target = os.path.join(self.folder, name)
        number = 1
        while self._disk.exists(target) or self._disk.exists(target + REASON):
            number += 1
            target = os.path.join(self.folder, f"{name}.{number}")
        return target
