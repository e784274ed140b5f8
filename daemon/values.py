"""Values of settings: their types, how each is written as text, and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from holdfast.daemon.units import format_duration, format_size, parse_duration, parse_size
from holdfast.snapshot import SaveStrategy

__all__ = [
    "ACCOUNT",
    "ADDRESSES",
    "AUTO_SWITCH",
    "DEFAULT_PORT",
    "FOLDER",
    "INTERVAL",
    "LEVEL",
    "NAMES",
    "RETENTION",
    "SWITCH",
    "Address",
    "Kind",
    "LoadStrategy",
    "LogLevel",
    "Retention",
    "SaveStrategy",
    "one_of",
]

DEFAULT_PORT = 4566
"""LocalStack's port: what every client that speaks of a local AWS tries first."""

FLUSH_INTERVAL_MIN_S = 0.1
FLUSH_INTERVAL_MAX_S = 86400.0

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class LoadStrategy(StrEnum):
    """When a service's image is read into memory (DESIGN section 7)."""

    ON_REQUEST = "ON_REQUEST"
    ON_STARTUP = "ON_STARTUP"
    MANUAL = "MANUAL"


class LogLevel(StrEnum):
    """How much is logged, from most to least."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Address(NamedTuple):
    """A host and a TCP port to listen on. The host `localhost` stands for 127.0.0.1 and ::1."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Retention(NamedTuple):
    """How much of the journal is kept for time travel: whichever limit is reached first. None is no limit."""

    age_s: float | None
    size_bytes: int | None

    def __str__(self) -> str:
        age = [] if self.age_s is None else [format_duration(self.age_s)]
        size = [] if self.size_bytes is None else [format_size(self.size_bytes)]
        return ",".join(age + size)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """How a setting is written: `parse` raises ValueError for what `allowed` does not describe; `show` is its inverse."""

    parse: Callable[[str], T]
    allowed: str
    show: Callable[[T], str] = str


def one_of(kind: type[E]) -> Kind[E]:
    values = {value.lower(): value for value in kind}

    def parse(text: str) -> E:
        try:
            return values[text.strip().lower()]
        except KeyError:
            raise ValueError("not one of them") from None

    return Kind(parse, ", ".join(values.values()))


def _parse_switch(text: str) -> bool:
    try:
        return {
            "1": True,
            "true": True,
            "on": True,
            "yes": True,
            "0": False,
            "false": False,
            "off": False,
            "no": False,
        }[text.strip().lower()]
    except KeyError:
        raise ValueError("neither on nor off") from None


def _parse_interval(text: str) -> float:
    seconds = parse_duration(text)
    if not FLUSH_INTERVAL_MIN_S <= seconds <= FLUSH_INTERVAL_MAX_S:
        raise ValueError("out of range")
    return seconds


def _parse_retention(text: str) -> Retention:
    age_s: float | None = None
    size_bytes: int | None = None
    parts = [part for part in text.split(",") if part.strip()]
    if not parts:
        raise ValueError("neither an age nor a size")
    for part in parts:
        try:
            age_s = _first(age_s, parse_duration(part))
        except ValueError:
            size_bytes = _first(size_bytes, parse_size(part))
    return Retention(age_s, size_bytes)


def _first(earlier: T | None, value: T) -> T:
    if earlier is not None:
        raise ValueError("given twice")
    return value


_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\s\[\]/]+)\]|(?P<host>[^\s:\[\]/@]*))(?::(?P<port>[0-9]{1,5}))?")


def _parse_address(text: str) -> Address:
    match = _ADDRESS.fullmatch(f":{text}" if text.isdecimal() else text)
    if match is None:
        raise ValueError("neither HOST:PORT nor [IPv6]:PORT")
    port = int(match["port"] or DEFAULT_PORT)
    if port >= 1 << 16:
        raise ValueError("no such port")
    return Address(match["v6"] or match["host"] or "localhost", port)


def _parse_addresses(text: str) -> tuple[Address, ...]:
    addresses = tuple(_parse_address(part) for part in _parse_names(text))
    if not addresses:
        raise ValueError("no address")
    return addresses


def _parse_names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _parse_folder(text: str) -> Path:
    if "\0" in text:
        raise ValueError("a path has no null byte")
    return Path(text).expanduser().absolute()


def _parse_account(text: str) -> str:
    if len(text) != 12 or not (text.isdecimal() and text.isascii()):
        raise ValueError("not twelve digits")
    return text


def _parse_level(text: str) -> LogLevel:
    lowered = text.strip().lower()
    return LogLevel({"warning": "warn", "trace-internal": "trace"}.get(lowered, lowered))


def _join(parts: tuple[object, ...]) -> str:
    return ",".join(str(part) for part in parts)


SWITCH = Kind(_parse_switch, "1 or 0", lambda on: "1" if on else "0")
AUTO_SWITCH: Kind[bool | None] = Kind(
    lambda text: None if text.strip().lower() == "auto" else _parse_switch(text),
    "on, off or auto",
    lambda on: {None: "auto", True: "on", False: "off"}[on],
)
NAMES = Kind(_parse_names, "names with commas between them", _join)
ADDRESSES = Kind(_parse_addresses, "HOST:PORT, with commas between several", _join)
LEVEL: Kind[LogLevel | None] = Kind(_parse_level, ", ".join(LogLevel), lambda level: str(level or "info"))
FOLDER = Kind(_parse_folder, "the path of a folder")
ACCOUNT = Kind(_parse_account, "twelve digits")
INTERVAL = Kind(_parse_interval, "a time from 100ms to 1d; a bare number is seconds", format_duration)
RETENTION = Kind(_parse_retention, "an age, a size, or both as 1h,1GiB; 0 keeps only what recovery needs")
