"""`holdfast version`."""

from __future__ import annotations

import click

__all__ = ["installed_version", "version"]


def installed_version() -> str:
    """The version of the installed distribution."""
    from importlib.metadata import version as version_of

    return version_of("holdfast")


@click.command()
def version() -> None:
    """Print the version of this command.

    \b
    Example:
      holdfast version
    """
    click.echo(installed_version())
