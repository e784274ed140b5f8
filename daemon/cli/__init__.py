"""The `holdfast` command: one module a verb, imported when the verb is used.

Light on purpose: a command that only asks a running daemon needs neither moto nor a server, and answers at once.
Errors are sentences on standard error; exit codes are in holdfast.daemon.errors.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

from holdfast.daemon.errors import HoldfastError

__all__ = ["main"]

# Verb -> the module that defines a click command of that name. Listed in the order in which help shows them.
VERBS = {
    "start": "holdfast.daemon.cli.start",
    "status": "holdfast.daemon.cli.status",
    "stop": "holdfast.daemon.cli.stop",
    "journal": "holdfast.daemon.cli.journal",
    "snapshot": "holdfast.daemon.cli.snapshot",
    "settings": "holdfast.daemon.cli.settings",
    "version": "holdfast.daemon.cli.version",
}


class Verbs(click.Group):
    """A group that imports a verb's module when it is asked for, and turns our errors into sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = VERBS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(importlib.import_module(module), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HoldfastError as error:
            click.echo(f"holdfast: {error}", err=True)
            ctx.exit(error.exit_code)


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A local AWS whose state survives anything: kill -9, power loss, upgrades, a full disk."""
