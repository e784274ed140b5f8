"""`holdfast journal`: look into a volume's journal, and cut it where it is damaged."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from holdfast.daemon.cli.reading import Reading, format_time, volume_option
from holdfast.daemon.errors import VolumeError

if TYPE_CHECKING:
    from holdfast.journal import Record
    from holdfast.journal.scan import Progress, Scan

__all__ = ["journal"]

NO_END = 1 << 63


@click.group()
def journal() -> None:
    """Look into a volume's journal, or repair it.

    stat, verify and dump change nothing, and no daemon needs to run. While one does, what it is just writing can show as a torn
    tail.

    \b
    Examples:
      holdfast journal stat --volume ./volume
      holdfast journal verify
      holdfast journal dump --from 100 --json
    """


@journal.command()
@volume_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def stat(volume: str | None, as_json: bool) -> None:
    """Say what the journal holds: segments, bytes, LSNs."""
    folder = _Folder(volume)
    facts = folder.facts(folder.scan(thorough=False))
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        click.echo(f"{name}: {'none' if value is None else value}")


@journal.command()
@volume_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(volume: str | None, as_json: bool) -> None:
    """Read every segment and check every checksum.

    Ends with 0 when all is well, and with a torn tail alone, which a crash leaves and the next start cuts; with 1 when there is
    damage, named with file, offset and LSN.
    """
    folder = _Folder(volume)
    with _bar() as progress:
        found = folder.scan(thorough=True, progress=progress)
    if as_json:
        click.echo(json.dumps(folder.facts(found)))
    else:
        click.echo(f"{found.records} records in {found.groups} groups verified, up to LSN {found.last_lsn}")
        if found.torn is not None:
            click.echo(
                f"torn tail: {found.torn.path} is unfinished from offset {found.torn.offset} on (LSN {found.torn.lsn});"
                " nothing acknowledged was in it, the next start sets it aside"
            )
    for damage in found.damages:
        click.echo(
            f"holdfast: {damage.path}, offset {damage.offset}, LSN {damage.lsn}: {damage.reason}"
            " (behind the checkpoint: recovery does not need it)",
            err=True,
        )
    if found.damages:
        raise click.exceptions.Exit(1)


@journal.command()
@volume_option
@click.option("--from", "from_lsn", type=click.IntRange(min=1), default=1, metavar="LSN", help="Begin with this LSN.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a record.")
@click.option(
    "--bodies", is_flag=True, help="Print requests as well, with whatever secrets are in them (implies --json)."
)
def dump(volume: str | None, from_lsn: int, as_json: bool, bodies: bool) -> None:
    """Print the records: time, LSN, service, operation, size. No secrets unless `--bodies`."""
    folder = _Folder(volume)
    for record in folder.records(from_lsn):
        facts = _describe(record, bodies)
        if as_json or bodies:
            click.echo(json.dumps(facts))
        else:
            what = f"{record.service}.{record.operation or '?'}" if record.service else ""
            click.echo(f"{facts['time']}  {record.lsn:>8}  {facts['kind']:<8}  {what}  {len(record.payload)} bytes")


@journal.command()
@volume_option
@click.option(
    "--accept-loss-after",
    "last_lsn",
    type=click.IntRange(min=0),
    required=True,
    metavar="LSN",
    help="The last LSN to keep, as the message about the damage names it.",
)
def repair(volume: str | None, last_lsn: int) -> None:
    """Cut a damaged journal, and so lose what was acknowledged after LSN.

    The bytes behind the cut go to quarantine. No daemon may run on the volume. Going back to an older copy of the volume is the
    other way on.

    \b
    Example:
      holdfast journal repair --volume ./volume --accept-loss-after 1041
    """
    from holdfast.daemon.volume import Volume
    from holdfast.journal import JournalError, repair_journal

    reading = Reading(volume)
    with Volume.open(reading.path) as held:
        try:
            done = repair_journal(
                held.journal,
                accept_loss_after=last_lsn,
                quarantine=held.quarantine,
                checkpoint_lsn=reading.checkpoint_lsn(),
                state_id=held.state_id,
            )
        except (JournalError, OSError) as error:
            raise VolumeError(str(error)) from error
    click.echo(f"the journal ends at LSN {done.last_lsn}; the next command is LSN {done.next_lsn}")
    for path in done.quarantined:
        click.echo(f"set aside: {path}")


class _Folder:
    """The journal of one volume, opened for reading."""

    def __init__(self, volume: str | None) -> None:
        from holdfast.journal import LocalDisk

        reading = Reading(volume)
        self.state_id = reading.identity.state_id
        self.path = str(reading.path / "journal")
        self.was_off = reading.journal_was_off
        self.checkpoint_lsn = reading.checkpoint_lsn()
        self.disk = LocalDisk()

    def scan(self, *, thorough: bool, progress: Progress | None = None) -> Scan:
        """What the journal holds. Raises VolumeError where it is damaged."""
        from holdfast.journal import JournalError
        from holdfast.journal.scan import scan

        try:
            return scan(
                self.disk,
                self.path,
                state_id=self.state_id,
                checkpoint_lsn=self.checkpoint_lsn,
                may_end_below=self.was_off,
                thorough=thorough,
                progress=progress,
            )
        except (JournalError, OSError) as error:
            raise VolumeError(str(error)) from error

    def records(self, from_lsn: int) -> Iterator[Record]:
        """The records from `from_lsn` on, up to the first that cannot be read. Raises VolumeError if that is damage."""
        from holdfast.journal import JournalError
        from holdfast.journal.scan import read_records
        from holdfast.journal.segment import list_segments

        segments = list_segments(self.disk, self.path)
        try:
            for (_, path), following in zip(segments, [*segments[1:], None], strict=True):
                if following is not None and following[0].first_lsn <= from_lsn:
                    continue
                with self.disk.open(path) as file:
                    for record in read_records(file, path, (), state_id=self.state_id, next_lsn=0, upto_lsn=NO_END):
                        if record.lsn >= from_lsn:
                            yield record
        except JournalError:
            torn = self.scan(thorough=True).torn  # tells a torn tail from damage, and raises for the latter
            if torn is not None:
                click.echo(f"holdfast: torn tail from LSN {torn.lsn} on", err=True)

    def facts(self, found: Scan) -> dict[str, Any]:
        """A scan's findings by name."""
        return {
            "segments": len(found.segments),
            "size_bytes": sum(segment.size_bytes for segment in found.segments),
            "first_lsn": found.segments[0].header.first_lsn if found.segments else None,
            "last_lsn": found.last_lsn,
            "checkpoint_lsn": self.checkpoint_lsn,
            "epoch": found.epoch,
            "groups_read": found.groups,
            "records_read": found.records,
            "torn_tail_lsn": found.torn.lsn if found.torn is not None else None,
            "damages": len(found.damages),
        }


@contextmanager
def _bar() -> Iterator[Progress | None]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=0, label="verifying", file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield progress


def _describe(record: Record, bodies: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "lsn": record.lsn,
        "epoch": record.epoch,
        "time": format_time(record.time_ns),
        "kind": record.kind.name.lower(),
        "service": record.service,
        "operation": record.operation,
        "size_bytes": len(record.payload),
        "blobs": [digest.hex() for digest in record.blobs],
    }
    if bodies:
        facts["payload"] = _payload(record)
    return facts


def _payload(record: Record) -> Any:
    from holdfast.daemon.command import Command
    from holdfast.journal import Kind

    if record.kind is not Kind.COMMAND:
        return {"base64": base64.b64encode(record.payload).decode()}
    command = Command.unpack(record.payload)
    request = command.request
    try:
        body = {"body": request.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(request.body).decode()}
    return {
        "account": request.account,
        "region": request.region,
        "method": request.method,
        "target": request.target,
        "headers": [list(header) for header in request.headers],
        **body,
        "touched": list(command.touched),
        "status": command.status,
    }
