"""`holdfast snapshot`: look at a volume's checkpoints and their images without changing them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from holdfast.daemon.cli.reading import Reading, format_time, volume_option
from holdfast.daemon.errors import VolumeError
from holdfast.daemon.units import format_size

if TYPE_CHECKING:
    from holdfast.snapshot import Manifest

__all__ = ["snapshot"]


@click.group()
def snapshot() -> None:
    """Look at a volume's checkpoints.

    Nothing is changed, and no daemon needs to run.

    \b
    Examples:
      holdfast snapshot list --volume ./volume
      holdfast snapshot show 1042
      holdfast snapshot verify
    """


@snapshot.command("list")
@volume_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a manifest.")
def list_(volume: str | None, as_json: bool) -> None:
    """List the manifests, newest first."""
    for manifest in Reading(volume).manifests():
        facts = _facts(manifest)
        if as_json:
            click.echo(json.dumps(facts))
            continue
        kind = "checkpoint" if manifest.complete else f"partial, without {', '.join(sorted(manifest.failed))}"
        size = format_size(facts["size_bytes"])
        click.echo(
            f"{facts['time']}  LSN {manifest.lsn:>8}  {manifest.reason:<11}  {len(manifest.services)} services  {size}  {kind}"
        )


@snapshot.command()
@click.argument("lsn", type=click.IntRange(min=0), required=False)
@volume_option
def show(lsn: int | None, volume: str | None) -> None:
    """Print one manifest as JSON: the one at LSN, or the newest."""
    reading = Reading(volume)
    for manifest in reading.manifests():
        if lsn is None or manifest.lsn == lsn:
            click.echo(json.dumps({**_facts(manifest), "services": _services(manifest)}, indent=2))
            return
    what = "no manifest" if lsn is None else f"no manifest for LSN {lsn}"
    raise VolumeError(f"the volume {reading.path} has {what}; `holdfast snapshot list` shows those it has")


@snapshot.command()
@volume_option
def verify(volume: str | None) -> None:
    """Read every image that a manifest names and check it against its digest.

    Ends with 1 when one is missing or damaged, or a manifest is.
    """
    from holdfast.journal import BlobStore
    from holdfast.snapshot import ImageStore, SnapshotError

    reading = Reading(volume)
    images = ImageStore(BlobStore(reading.path / "images"), {})
    refs = {ref.digest: ref for manifest in reading.manifests() for ref in manifest.images()}
    broken = 0
    for ref in refs.values():
        try:
            images.read(ref)
        except (SnapshotError, OSError) as error:
            broken += 1
            click.echo(f"holdfast: {error}", err=True)
    click.echo(f"{len(refs) - broken} of {len(refs)} images are whole")
    if broken or reading.damaged:
        raise click.exceptions.Exit(1)


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "lsn": manifest.lsn,
        "epoch": manifest.epoch,
        "time": format_time(manifest.time_ns),
        "reason": manifest.reason,
        "complete": manifest.complete,
        "failed": dict(manifest.failed),
        "size_bytes": sum(ref.size for ref in {ref.digest: ref for ref in manifest.images()}.values()),
        "versions": dict(manifest.versions),
        "digest": manifest.digest.hex(),
    }


def _services(manifest: Manifest) -> dict[str, Any]:
    return {
        name: {
            "lsn": entry.lsn,
            "links": sorted(entry.links),
            "parts": {
                part: {"digest": ref.digest.hex(), "size_bytes": ref.size, "raw_size_bytes": ref.raw_size}
                for part, ref in sorted(entry.parts.items())
            },
        }
        for name, entry in sorted(manifest.services.items())
    }
