"""`holdfast status`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from holdfast.daemon.cli.client import Client, endpoint_option

__all__ = ["status"]


@click.command()
@endpoint_option
@click.option("--json", "as_json", is_flag=True, help="Print what the daemon's health says, as JSON.")
def status(endpoint: str, as_json: bool) -> None:
    """Say how the running daemon is.

    Ends with 0 when it serves and every service is well; with 1 when it does not serve, when a service could not be saved or
    loaded, or when nothing answers.

    \b
    Examples:
      holdfast status
      holdfast status --json | jq .features.holdfast
    """
    serving, health = Client(endpoint).health()
    if as_json:
        click.echo(json.dumps(health, indent=2))
    else:
        for line in describe(endpoint, serving, health):
            click.echo(line)
    if not serving or "error" in health.get("services", {}).values():
        raise click.exceptions.Exit(1)


def describe(endpoint: str, serving: bool, health: Mapping[str, Any]) -> Iterator[str]:
    """Health as lines to read."""
    yield f"holdfast {health.get('version', '?')} at {endpoint}: {'serving' if serving else 'not serving (yet)'}"
    states: dict[str, list[str]] = {}
    for name, state in health.get("services", {}).items():
        states.setdefault(str(state), []).append(name)
    for state in sorted(states):
        names = states[state]
        listed = "" if state == "available" else f": {', '.join(sorted(names))}"
        yield f"{len(names)} services {state}{listed}"
    yield from _lines(health["features"]["holdfast"], "")


def _lines(fields: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in fields.items():
        if isinstance(value, dict):
            if value:
                yield f"{indent}{name}:"
                yield from _lines(value, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{name}: {', '.join(str(item) for item in value) or 'none'}"
        else:
            yield f"{indent}{name}: {_word(value)}"


def _word(value: object) -> str:
    return {True: "yes", False: "no", None: "none"}[value] if value is None or isinstance(value, bool) else str(value)
