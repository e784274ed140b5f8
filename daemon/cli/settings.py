"""`holdfast settings`."""

from __future__ import annotations

import os
from pathlib import Path

import click

__all__ = ["settings"]


@click.command()
@click.option("--volume", metavar="DIR", help="Read holdfast.toml of this volume, as start would.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Read this TOML file.")
@click.option("--table", is_flag=True, help="Print all settings with their meaning as a Markdown table.")
def settings(volume: str | None, config: Path | None, table: bool) -> None:
    """Show the settings that `holdfast start` would use here, as NAME=value.

    \b
    Examples:
      holdfast settings
      JOURNAL_SYNC=interval holdfast settings --volume ./volume
    """
    from holdfast.daemon.config import Settings, settings_table

    if table:
        click.echo(settings_table())
        return
    found = Settings.load(os.environ, config, {"LOCALSTACK_VOLUME_DIR": volume} if volume else {})
    for name, value in found.shown():
        click.echo(f"{name}={value}")
    for name in found.unknown:
        click.echo(f"holdfast: {name} is set but means nothing to holdfast", err=True)
