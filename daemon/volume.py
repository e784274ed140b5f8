"""The volume: the one folder that holds all state of a daemon, held by one daemon at a time.

    <volume>/
      format        what this folder is: format version, state id, creation time; JSON, written once
      LOCK          locked (flock) by the running daemon; its text says who that is
      journal/ images/ manifests/ state/ quarantine/
      journal-off   there while the journal is switched off
      token         the secret that opens control routes to other machines, made when first needed
      holdfast.toml, init/, holdfast.log     the user's settings and hooks, and the log of `holdfast start -d`

Regular files and folders only; sockets live in the runtime folder. Folders are 0700 and files 0600, all of one owner, and no
link is followed: what lies here decides what the daemon executes on load.

A folder that is not empty and has no `format` is somebody else's: nothing in it is touched.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from holdfast.daemon.errors import VolumeError
from holdfast.daemon.lock import describe, take_lock

__all__ = [
    "FOLDERS",
    "FORMAT_VERSION",
    "LOG_FILE",
    "Format",
    "Volume",
    "VolumeError",
    "check",
    "identity_of",
    "runtime_folder",
]

FORMAT_VERSION = 1
"""Of the folder as a whole; journal segments, images and manifests carry versions of their own."""

FOLDERS = ("journal", "images", "manifests", "state", "quarantine")
LOG_FILE = "holdfast.log"

ALLOWED_IN_EMPTY = frozenset({"holdfast.toml", "init", LOG_FILE, f"{LOG_FILE}.1", "LOCK", "lost+found"})
"""What may lie in a folder that counts as empty: what a user prepares, what a first start killed half-way leaves, and what a
freshly made file system has."""

JOURNAL_OFF = "journal-off"
"""A file that is there while the journal is switched off."""

FORMAT_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Format:
    """What `format` says: the identity that journal segments and manifests repeat, so that two volumes are never mixed."""

    version: int
    state_id: bytes
    created_ns: int

    def pack(self) -> bytes:
        """The file's bytes."""
        fields = {"format": self.version, "state_id": self.state_id.hex(), "created_ns": self.created_ns}
        return json.dumps({"holdfast": fields}, indent=1).encode() + b"\n"

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Raises ValueError for what `pack` did not write; a newer version is not looked into."""
        fields = json.loads(data)["holdfast"]
        version = fields["format"]
        if type(version) is not int or version < 1:
            raise ValueError("no version")
        if version > FORMAT_VERSION:
            return cls(version, b"", 0)
        state_id, created_ns = bytes.fromhex(fields["state_id"]), fields["created_ns"]
        if len(state_id) != 16 or type(created_ns) is not int:
            raise ValueError("no identity")
        return cls(version, state_id, created_ns)


class Volume:
    """An open volume: checked, locked, complete. Closed by `close` or by leaving it as a context."""

    def __init__(self, path: Path, folder_fd: int, lock_fd: int, identity: Format) -> None:
        self.path = path
        self._folder_fd = folder_fd
        self.lock_fd = lock_fd
        self._identity = identity

    @classmethod
    def open(cls, path: Path, endpoint: str = "") -> Self:
        """Open the volume at `path`, made if it is missing, and hold it until closed.

        `endpoint` is where this daemon listens, for the message a second one prints.
        Raises VolumeError, with nothing touched, for a folder that is not ours, not writable, of a newer format, or in use.
        """
        _make(path)
        folder_fd = _open_folder(path)
        try:
            identity = _identify(path, folder_fd)
            os.fchmod(folder_fd, 0o700)
            lock_fd = take_lock(path, folder_fd, endpoint)
            try:
                # Under the lock: of two first starts one writes the identity, the other has been sent away.
                identity = identity or _first_use(path, folder_fd)
                for name in FOLDERS:
                    _make_inside(path, folder_fd, name)
                os.fsync(folder_fd)  # the folders' names last: a journal must not vanish with its folder's entry
            except BaseException:
                os.close(lock_fd)
                raise
        except OSError as error:
            os.close(folder_fd)
            raise _unusable(path, error) from error
        except BaseException:
            os.close(folder_fd)
            raise
        return cls(path, folder_fd, lock_fd, identity)

    @property
    def state_id(self) -> bytes:
        """16 random bytes that name this state, the same for its whole life."""
        return self._identity.state_id

    @property
    def created_ns(self) -> int:
        """When the volume was first used, by the wall clock."""
        return self._identity.created_ns

    @property
    def journal(self) -> Path:
        """The journal's folder."""
        return self.path / "journal"

    @property
    def images(self) -> Path:
        """The folder of images and blobs."""
        return self.path / "images"

    @property
    def manifests(self) -> Path:
        """The folder of manifests."""
        return self.path / "manifests"

    @property
    def state(self) -> Path:
        """The folder that shows the current images and holds the services' assets."""
        return self.path / "state"

    @property
    def quarantine(self) -> Path:
        """The folder for what could not be read."""
        return self.path / "quarantine"

    def token(self) -> str:
        """The secret that opens control routes to other machines; made on first call, the same from then on."""
        try:
            return _read(self._folder_fd, "token").decode("ascii").strip()
        except FileNotFoundError:
            _write_durably(self._folder_fd, "token", secrets.token_urlsafe(32).encode("ascii") + b"\n")
            return _read(self._folder_fd, "token").decode("ascii").strip()

    @property
    def journal_was_off(self) -> bool:
        """True when the last life counted changes without journalling them: its checkpoint is newer than the journal."""
        return (self.path / JOURNAL_OFF).exists()

    def note_journal(self, *, on: bool) -> None:
        """Note durably whether changes are journalled: "off" before the first is made, "on" once the journal has begun."""
        if not on:
            _write_durably(self._folder_fd, JOURNAL_OFF, b"off\n")
        elif self.journal_was_off:
            os.unlink(JOURNAL_OFF, dir_fd=self._folder_fd)
            os.fsync(self._folder_fd)  # or a later end of the journal below its checkpoint would pass for intended

    def describe(self, endpoint: str) -> None:
        """Write into LOCK who holds it; again when the endpoint is known only after the lock was taken."""
        describe(self.lock_fd, endpoint)

    def close(self) -> None:
        """Give the volume back."""
        os.close(self.lock_fd)
        os.close(self._folder_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check(path: Path) -> None:
    """Raise what `Volume.open` would raise for a folder that is not ours or not usable, touching nothing and taking no lock."""
    if not path.exists() and not path.is_symlink():
        return
    folder_fd = _open_folder(path)
    try:
        _identify(path, folder_fd)
    except OSError as error:
        raise _unusable(path, error) from error
    finally:
        os.close(folder_fd)


def identity_of(path: Path) -> Format:
    """What the folder at `path` is, for commands that only read it. Raises VolumeError when it is no volume."""
    folder_fd = _open_folder(path)
    try:
        return _read_identity(path, folder_fd)
    except FileNotFoundError:
        raise VolumeError(f"{path} is not a volume of holdfast") from None
    except OSError as error:
        raise _unusable(path, error) from error
    finally:
        os.close(folder_fd)


def runtime_folder(env: Mapping[str, str]) -> Path:
    """Where sockets live: systemd's RUNTIME_DIRECTORY, else `holdfast` in XDG_RUNTIME_DIR, else /run/holdfast for root.

    Made 0700 if it is missing. Raises VolumeError when there is no such place or it is another user's.
    """
    if given := env.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        path = Path(given).resolve()  # with DynamicUser it is a link of systemd's making
    elif (xdg := env.get("XDG_RUNTIME_DIR", "")).startswith("/"):
        path = Path(xdg, "holdfast")
    elif os.geteuid() == 0:
        path = Path("/run/holdfast")
    else:
        raise VolumeError("there is no folder for sockets: XDG_RUNTIME_DIR is not set")
    _make(path)
    os.close(_open_folder(path))
    return path


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    except OSError as error:
        raise VolumeError(f"the folder {path} cannot be made: {error.strerror}") from error


def _open_folder(path: Path) -> int:
    """A descriptor of the folder itself, never of what a link points to, ours alone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise VolumeError(f"{path} is a link; name the folder it points to") from error
        raise _unusable(path, error) from error
    owner = os.fstat(fd).st_uid
    if owner != os.geteuid():
        os.close(fd)
        raise VolumeError(f"{path} belongs to {_user(owner)}, but this process runs as {_user(os.geteuid())}")
    return fd


def _user(uid: int) -> str:
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _identify(path: Path, folder_fd: int) -> Format | None:
    """The folder's identity; None when it is empty. Raises VolumeError when it is not ours or not usable."""
    writable = os.access(".", os.R_OK | os.W_OK | os.X_OK, dir_fd=folder_fd, effective_ids=True)
    if not writable or os.fstatvfs(folder_fd).f_flag & os.ST_RDONLY:
        raise VolumeError(f"{path} is not writable")
    names = set(os.listdir(folder_fd))
    if "format" not in names:
        foreign = sorted(name for name in names - ALLOWED_IN_EMPTY if not name.startswith("format."))
        if foreign:
            raise VolumeError(
                f"{path} is not a volume of holdfast and not empty (it holds {foreign[0]}); nothing was touched"
            )
        return None
    identity = _read_identity(path, folder_fd)
    for name in FOLDERS:
        if name in names:
            _check_inside(path, folder_fd, name)
    return identity


def _read_identity(path: Path, folder_fd: int) -> Format:
    try:
        identity = Format.unpack(_read(folder_fd, "format"))
    except (ValueError, KeyError, TypeError) as error:
        raise VolumeError(f"{path / 'format'} is not holdfast's or is damaged; nothing was touched") from error
    if identity.version > FORMAT_VERSION:
        raise VolumeError(
            f"{path} was written by a newer holdfast (format {identity.version}, this one reads up to {FORMAT_VERSION});"
            " nothing was touched"
        )
    return identity


def _check_inside(path: Path, folder_fd: int, name: str) -> None:
    entry = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    if not stat.S_ISDIR(entry.st_mode):
        raise VolumeError(f"{path / name} is not a folder; links are not followed")
    if entry.st_uid != os.geteuid():
        raise VolumeError(
            f"{path / name} belongs to {_user(entry.st_uid)}, but this process runs as {_user(os.geteuid())}"
        )


def _make_inside(path: Path, folder_fd: int, name: str) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=folder_fd)
    except FileExistsError:
        _check_inside(path, folder_fd, name)
        os.chmod(name, 0o700, dir_fd=folder_fd)


def _first_use(path: Path, folder_fd: int) -> Format:
    identity = _identify(path, folder_fd)
    if identity is None:
        identity = Format(FORMAT_VERSION, secrets.token_bytes(16), time.time_ns())
        _write_durably(folder_fd, "format", identity.pack())
    return identity


def _read(folder_fd: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        return os.read(fd, FORMAT_MAX_BYTES)
    finally:
        os.close(fd)


def _write_durably(folder_fd: int, name: str, data: bytes) -> None:
    aside = f"{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(aside, flags, 0o600, dir_fd=folder_fd)
    try:
        written = os.write(fd, data)
        assert written == len(data), "a few hundred bytes go in one write"
        os.fsync(fd)  # the name must never lead to a half-written file
    finally:
        os.close(fd)
    os.rename(aside, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    os.fsync(folder_fd)  # an identity that segments already repeat must not be replaced by another after a power cut


def _unusable(path: Path, error: OSError) -> VolumeError:
    if error.errno == errno.ENOTDIR:
        return VolumeError(f"{path} is not a folder")
    if error.errno == errno.ENOENT:
        return VolumeError(f"{path} does not exist")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return VolumeError(f"{path} is not writable")
    return VolumeError(f"{path} cannot be used: {error.strerror}")
