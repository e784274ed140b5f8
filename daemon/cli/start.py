"""`holdfast start`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.daemon.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.daemon.config import Settings

__all__ = ["start"]

# What a replay in another process must find the same (DESIGN section 5): the order of sets of strings, and local time.
FIXED = {"PYTHONHASHSEED": "0", "TZ": "UTC"}

ALREADY = "HOLDFAST_REEXECUTED"


@click.command()
@click.option(
    "--listen",
    multiple=True,
    metavar="HOST:PORT",
    help="Listen here instead of on localhost:4566; may be given several times.",
)
@click.option("--volume", metavar="DIR", help="The folder that holds all state; it is made when it is missing.")
@click.option("-d", "--detach", is_flag=True, help="Run in the background; return when it is ready.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Read settings from this TOML file.")
@click.option("--insecure", is_flag=True, help="Open the control routes to other machines without a token.")
def start(listen: tuple[str, ...], volume: str | None, detach: bool, config: Path | None, insecure: bool) -> None:
    """Start the daemon and serve until SIGTERM or Ctrl-C.

    Prints `Ready.` once it serves. A second Ctrl-C ends it without waiting for requests under way.

    \b
    Examples:
      holdfast start
      holdfast start --volume ./volume --listen 127.0.0.1:4567
      holdfast start -d
    """
    overrides: dict[str, str] = {}
    if listen:
        overrides["GATEWAY_LISTEN"] = ",".join(listen)
    if volume:
        overrides["LOCALSTACK_VOLUME_DIR"] = volume
    if insecure:
        overrides["HOLDFAST_INSECURE"] = "1"
    if detach:
        from holdfast.daemon.cli.detach import run_detached

        run_detached(_settings(overrides, config), _arguments(overrides, config))
        return
    _fix_process()
    raise click.exceptions.Exit(_serve(_settings(overrides, config)))


def _settings(overrides: dict[str, str], config: Path | None) -> Settings:
    from holdfast.daemon.config import Settings

    return Settings.load(os.environ, config.absolute() if config else None, overrides)


def _arguments(overrides: dict[str, str], config: Path | None) -> list[str]:
    """The command line of the same start without `-d`."""
    arguments = ["start"]
    if "GATEWAY_LISTEN" in overrides:
        arguments += ["--listen", overrides["GATEWAY_LISTEN"]]
    if "LOCALSTACK_VOLUME_DIR" in overrides:
        arguments += ["--volume", str(Path(overrides["LOCALSTACK_VOLUME_DIR"]).expanduser().absolute())]
    if config is not None:
        arguments += ["--config", str(config.absolute())]
    if "HOLDFAST_INSECURE" in overrides:
        arguments += ["--insecure"]
    return arguments


def _fix_process() -> None:
    """Execute this program again with hash order and time zone fixed, unless they are.

    Before any heavy import, lock or descriptor of ours; sockets that systemd passed stay open, and the process keeps its number.
    """
    again = os.environ.pop(ALREADY, "")
    if all(os.environ.get(name) == value for name, value in FIXED.items()) and not sys.flags.hash_randomization:
        return
    if again:
        raise HoldfastError("this Python ignores PYTHONHASHSEED (started with -E or -I): a replay would not be exact")
    sys.stdout.flush()
    sys.stderr.flush()
    # The same interpreter with the same arguments.
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **FIXED, ALREADY: "1"})  # noqa: S606


def _serve(settings: Settings) -> int:
    from functools import partial

    import anyio
    import structlog

    from holdfast.daemon import logs
    from holdfast.daemon.app import serve

    logs.configure(settings.level)
    if settings.unknown:
        structlog.get_logger(__name__).warning(
            "set in the environment but without effect here", variables=list(settings.unknown)
        )
    run = partial(serve, settings, ready=partial(_say_ready, settings))
    try:
        return anyio.run(run, backend_options={"use_uvloop": True})
    except ExceptionGroup as group:
        # Task groups wrap what their tasks raise; a sentence meant for the user is the only thing in there, or it is a defect.
        if (error := _only(group)) is None:
            raise
        raise error from group


def _only(group: ExceptionGroup[Exception]) -> HoldfastError | None:
    if len(group.exceptions) != 1:
        return None
    inner = group.exceptions[0]
    if isinstance(inner, ExceptionGroup):
        return _only(inner)
    return inner if isinstance(inner, HoldfastError) else None


def _say_ready(settings: Settings) -> None:
    """Standard output: where it serves, what it promises, and the line that scripts and test containers wait for."""
    where = ", ".join(f"http://{address}" for address in settings.listen)
    what = f"state in {settings.volume}" if settings.persistence else "state in memory only"
    print(f"holdfast serves {where}, {what}; {settings.loss_bound}\nReady.", flush=True)
