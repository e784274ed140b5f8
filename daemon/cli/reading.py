"""What commands that look into a volume share: which one, what it is, its manifests. They change nothing and need no daemon."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from holdfast.snapshot import Manifest

__all__ = ["Reading", "format_time", "volume_option"]

F = TypeVar("F", bound=Callable[..., Any])


def volume_option(command: F) -> F:
    """The option `--volume`, with the volume that `start` would use behind it."""
    return click.option("--volume", metavar="DIR", help="The volume; without it the one that start would use.")(command)


def format_time(time_ns: int) -> str:
    """A moment as ISO 8601 in UTC, to the microsecond."""
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=time_ns // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Reading:
    """A volume that is only looked at. Raises VolumeError when it is none."""

    def __init__(self, volume: str | None) -> None:
        from holdfast.daemon.config import Settings
        from holdfast.daemon.volume import JOURNAL_OFF, identity_of

        self.path = Settings.load(os.environ, None, {"LOCALSTACK_VOLUME_DIR": volume} if volume else {}).volume
        self.identity = identity_of(self.path)
        self.journal_was_off = (self.path / JOURNAL_OFF).exists()
        self.damaged = 0
        """Manifests that could not be read; each was said on standard error."""

    def manifests(self) -> Iterator[Manifest]:
        """The manifests that can be read, newest first."""
        from holdfast.snapshot import Manifest, SnapshotError

        for path in sorted((self.path / "manifests").glob("*.manifest"), reverse=True):
            try:
                yield Manifest.unpack(path.read_bytes(), str(path))
            except FileNotFoundError:
                continue  # a running daemon removed it just now
            except SnapshotError as error:
                self.damaged += 1
                click.echo(f"holdfast: {error}", err=True)

    def checkpoint_lsn(self) -> int:
        """The LSN of the newest checkpoint, 0 when there is none."""
        return next((manifest.lsn for manifest in self.manifests() if manifest.complete), 0)
