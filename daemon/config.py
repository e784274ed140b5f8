"""Settings: what a user may set, declared once.

Each field of `Settings` is one row of the table: its name in the environment, its kind (how it is read and what is
allowed), its default, and what it means. Reading, error messages and the README's table all come from there.

A setting is looked for on the command line, then in the environment, then in a TOML file (`--config`, or `holdfast.toml` in
the volume), then it has its default. An empty value counts as not set, as it does in a compose file.
"""

# ruff: noqa: RUF009 - `setting` is dataclasses.field with a row of the table as its metadata

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from holdfast.daemon.environment import without_effect
from holdfast.daemon.errors import ConfigError
from holdfast.daemon.units import format_duration, format_size
from holdfast.daemon.values import (
    ACCOUNT,
    ADDRESSES,
    AUTO_SWITCH,
    DEFAULT_PORT,
    FOLDER,
    INTERVAL,
    LEVEL,
    NAMES,
    RETENTION,
    SWITCH,
    Address,
    Kind,
    LoadStrategy,
    LogLevel,
    Retention,
    SaveStrategy,
    one_of,
)
from holdfast.journal import JournalOptions, SyncMode

__all__ = [
    "CONFIG_FILE",
    "Address",
    "ConfigError",
    "LoadStrategy",
    "LogLevel",
    "Retention",
    "SaveStrategy",
    "Setting",
    "Settings",
    "default_volume",
    "settings_table",
]

CONFIG_FILE = "holdfast.toml"
"""The name under which a settings file is looked for in the volume."""

CONFIG_MAX_BYTES = 64 * 1024
"""A settings file is a page; whatever is larger is another file."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    kind: Kind[Any]
    meaning: str
    aliases: tuple[str, ...] = ()
    default_shown: str | None = None


def setting(
    default: T | Callable[[], T],
    name: str,
    kind: Kind[T],
    meaning: str,
    *,
    aliases: tuple[str, ...] = (),
    default_shown: str | None = None,
) -> T:
    """Declare a field of Settings. A default that depends on the environment is given as a function."""
    row = {"setting": Setting(name, kind, meaning, aliases, default_shown)}
    if callable(default):
        return field(default_factory=default, metadata=row)
    return field(default=default, metadata=row)


def default_volume(env: Mapping[str, str]) -> Path:
    """The volume when none is named: `holdfast` in the XDG state folder."""
    home = Path(env.get("HOME") or Path("~").expanduser())
    state = env.get("XDG_STATE_HOME", "")
    # The XDG specification: a relative path in it is invalid and counts as not set.
    return (Path(state) if state.startswith("/") else home / ".local" / "state") / "holdfast"


def _process_default_volume() -> Path:
    return default_volume(os.environ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one daemon. Made by `load`; tests make them directly."""

    volume: Path = setting(
        _process_default_volume,
        "LOCALSTACK_VOLUME_DIR",
        FOLDER,
        "the volume: the folder that holds all state (`--volume`); it is made when it is missing",
        aliases=("DATA_DIR",),
        default_shown="$XDG_STATE_HOME/holdfast",
    )
    listen: tuple[Address, ...] = setting(
        (Address("localhost", DEFAULT_PORT),),
        "GATEWAY_LISTEN",
        ADDRESSES,
        "where to listen (`--listen`); `localhost` is 127.0.0.1 and ::1",
    )
    persistence: bool = setting(
        True,
        "PERSISTENCE",
        SWITCH,
        "0 keeps everything in memory and loses it at the end",
        aliases=("LOCALSTACK_PERSISTENCE",),
    )
    journal_sync: SyncMode = setting(
        SyncMode.ALWAYS,
        "JOURNAL_SYNC",
        one_of(SyncMode),
        "what a reply waits for: its bytes on the disk (always), handed to the kernel and synced within a second (interval),"
        " or nothing (off)",
    )
    save_strategy: SaveStrategy = setting(
        SaveStrategy.SCHEDULED,
        "SNAPSHOT_SAVE_STRATEGY",
        one_of(SaveStrategy),
        "when a checkpoint is written: every SNAPSHOT_FLUSH_INTERVAL, before each reply, at the end, or only when asked,"
        " which this version has no command for",
    )
    load_strategy: LoadStrategy = setting(
        LoadStrategy.ON_REQUEST,
        "SNAPSHOT_LOAD_STRATEGY",
        one_of(LoadStrategy),
        "when a service's saved state is read: when it is first used or at start; MANUAL is refused by this version",
    )
    flush_interval_s: float = setting(
        15.0,
        "SNAPSHOT_FLUSH_INTERVAL",
        INTERVAL,
        "the time between scheduled checkpoints",
    )
    journal: bool | None = setting(
        None,
        "JOURNAL",
        AUTO_SWITCH,
        "whether commands are journalled before they are acknowledged; auto is on for SCHEDULED and ON_REQUEST, else off",
    )
    journal_retention: Retention = setting(
        Retention(3600.0, 1 << 30),
        "JOURNAL_RETENTION",
        RETENTION,
        "how much of the journal is kept for time travel beyond what recovery needs, whichever is less",
    )
    services: tuple[str, ...] = setting(
        (),
        "SERVICES",
        NAMES,
        "the services that EAGER_SERVICE_LOADING imports; all are served whatever it says",
        default_shown="none",
    )
    eager_loading: bool = setting(
        False,
        "EAGER_SERVICE_LOADING",
        SWITCH,
        "1 imports the services of SERVICES at start, not at their first request",
    )
    account_id: str = setting(
        "000000000000",
        "MOTO_ACCOUNT_ID",
        ACCOUNT,
        "the account of requests whose access key names none; a key of twelve digits names its own",
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        "EXTRA_CORS_ALLOWED_ORIGINS",
        NAMES,
        "origins of web pages, besides those on this machine, that may use the AWS routes",
        default_shown="none",
    )
    disable_cors_checks: bool = setting(
        False, "DISABLE_CORS_CHECKS", SWITCH, "1 lets every web page use the AWS routes; control routes stay guarded"
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        "HOLDFAST_ALLOWED_HOSTS",
        NAMES,
        "names, or `*.name` for all below one, to answer to besides those of this machine and AWS's own",
        default_shown="none",
    )
    insecure: bool = setting(
        False,
        "HOLDFAST_INSECURE",
        SWITCH,
        "1 opens the control routes to other machines without a token (`--insecure`)",
    )
    debug: bool = setting(False, "DEBUG", SWITCH, "1 logs at level debug unless LS_LOG says otherwise")
    log_level: LogLevel | None = setting(
        None, "LS_LOG", LEVEL, "how much is logged; bodies and secrets are never logged at info or above"
    )

    config_file: Path | None = None
    """The TOML file that was read, if any."""

    unknown: tuple[str, ...] = ()
    """Environment variables that were meant for LocalStack or for us and are not acted on; named once in a warning."""

    @classmethod
    def load(cls, env: Mapping[str, str], file: Path | None = None, overrides: Mapping[str, str] | None = None) -> Self:
        """Settings from the command line (`overrides`, by setting name), `env`, a TOML file and the defaults.

        `file` is what `--config` named; without it `holdfast.toml` in the volume is read where it exists.
        Raises ConfigError naming key, value and what is allowed.
        """
        sources = [_Source("the command line", overrides or {}), _Source("the environment", env)]
        named_file = file is not None
        if file is not None:
            sources.append(_Source(str(file), _read_toml(file)))
        rows = dict(_rows())
        volume = _find(rows["volume"], sources, default_volume(env))
        if not named_file and (volume / CONFIG_FILE).is_file():
            file = volume / CONFIG_FILE
            found = _read_toml(file)
            row = rows["volume"]
            for name in (row.name, *row.aliases):
                if name in found:
                    raise ConfigError(
                        f"{name} in {file}: a file that lies in the volume cannot say where the volume is"
                    )
            sources.append(_Source(str(file), found))
        values: dict[str, Any] = {"volume": volume}
        for name, row in rows.items():
            if name != "volume" and (found_value := _find(row, sources, None)) is not None:
                values[name] = found_value
        return cls(**values, config_file=file, unknown=tuple(without_effect(env, _names())))

    def shown(self) -> Iterator[tuple[str, str]]:
        """Every setting's name and value, as a user would write it."""
        for field_name, row in _rows():
            yield row.name, row.kind.show(getattr(self, field_name))

    @property
    def journal_on(self) -> bool:
        """True when commands are journalled before they are acknowledged."""
        if not self.persistence:
            return False
        if self.journal is not None:
            return self.journal
        return self.save_strategy in {SaveStrategy.SCHEDULED, SaveStrategy.ON_REQUEST}

    @property
    def level(self) -> LogLevel:
        """What is logged, from LS_LOG and DEBUG."""
        return self.log_level or (LogLevel.DEBUG if self.debug else LogLevel.INFO)

    @property
    def loss_bound(self) -> str:
        """What a killed process and a power cut can lose, in one sentence: printed at start, shown in health."""
        if not self.persistence:
            return "everything is lost when the daemon ends (PERSISTENCE=0)"
        if not self.journal_on:
            since = "since start" if self.save_strategy is SaveStrategy.ON_SHUTDOWN else "since the last save"
            return f"kill -9 or power loss loses all {since} (SNAPSHOT_SAVE_STRATEGY={self.save_strategy}, no journal)"
        return {
            SyncMode.ALWAYS: "neither kill -9 nor power loss loses anything acknowledged (JOURNAL_SYNC=always)",
            SyncMode.INTERVAL: "kill -9 loses nothing acknowledged, power loss at most the last"
            f" {format_duration(JournalOptions().loss_bound_s)} (JOURNAL_SYNC=interval)",
            SyncMode.OFF: "kill -9 and power loss lose what was not yet written (JOURNAL_SYNC=off)",
        }[self.journal_sync]


class _Source(NamedTuple):
    name: str
    values: Mapping[str, str]


def _rows() -> Iterator[tuple[str, Setting]]:
    for declared in fields(Settings):
        if "setting" in declared.metadata:
            yield declared.name, declared.metadata["setting"]


def _names() -> list[str]:
    return [name for _, row in _rows() for name in (row.name, *row.aliases)]


def _find(row: Setting, sources: list[_Source], default: Any) -> Any:
    for source in sources:
        for name in (row.name, *row.aliases):
            text = source.values.get(name, "")
            if text.strip():
                return _parse(row, name, text, source.name)
    return default


def _parse(row: Setting, name: str, text: str, source: str) -> Any:
    try:
        return row.kind.parse(text)
    except ValueError:
        raise ConfigError(f"{name}={text!r} ({source}) is not allowed: it takes {row.kind.allowed}") from None


def _read_toml(file: Path) -> dict[str, str]:
    """The file's settings as text, by setting name; keys in either case."""
    try:
        with file.open("rb") as stream:
            data = stream.read(CONFIG_MAX_BYTES + 1)
        if len(data) > CONFIG_MAX_BYTES:
            raise ConfigError(f"{file} is larger than {format_size(CONFIG_MAX_BYTES)}: that is no settings file")
        table = tomllib.loads(data.decode())
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error
    known = _names()
    for key in table:
        if key.upper() not in known:
            raise ConfigError(f"{key} in {file} is no setting; the settings are {', '.join(known)}")
    return {key.upper(): _as_text(key, value, file) for key, value in table.items()}


def _as_text(key: str, value: object, file: Path) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    raise ConfigError(
        f"{key}={value!r} ({file}) is not allowed: it takes a string, a number, true, false or a list of strings"
    )


def settings_table() -> str:
    """The settings as a Markdown table; the README holds it, and a test holds the README to it."""
    defaults = {declared.name: declared.default for declared in fields(Settings)}
    lines = ["| setting | default | allowed | meaning |", "|---|---|---|---|"]
    for field_name, row in _rows():
        names = " or ".join(f"`{name}`" for name in (row.name, *row.aliases))
        default = row.default_shown or row.kind.show(defaults[field_name])
        lines.append(f"| {names} | `{default}` | {row.kind.allowed} | {row.meaning} |")
    return "\n".join(lines)
