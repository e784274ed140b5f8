"""Durations and sizes as people write them: `15`, `500ms`, `1h`; `4096`, `64KiB`, `1GiB`."""

from __future__ import annotations

import re

__all__ = ["format_duration", "format_size", "parse_duration", "parse_size"]

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

# KB is 1,000 and KiB is 1,024, as in the standard; a bare K is what most people mean by it, 1,024.
BYTES = {
    "B": 1,
    "K": 1 << 10,
    "KB": 10**3,
    "KIB": 1 << 10,
    "M": 1 << 20,
    "MB": 10**6,
    "MIB": 1 << 20,
    "G": 1 << 30,
    "GB": 10**9,
    "GIB": 1 << 30,
    "T": 1 << 40,
    "TB": 10**12,
    "TIB": 1 << 40,
}

# At most 15 digits either side: beyond that a float is no longer exact, and nobody means it.
_QUANTITY = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(?P<unit>[A-Za-z]*)")


def _split(text: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a number with a unit")
    return float(match["number"]), match["unit"]


def parse_duration(text: str) -> float:
    """Seconds in `text`; without a unit it is seconds. Units are lower case: `5m` is minutes, `5M` a size. Raises ValueError."""
    number, unit = _split(text)
    scale = SECONDS.get(unit or "s")
    if scale is None:
        raise ValueError(f"{unit} is no unit of time")
    return number * scale


def parse_size(text: str) -> int:
    """Bytes in `text`; without a unit it is bytes. Raises ValueError."""
    number, unit = _split(text)
    scale = BYTES.get((unit or "B").upper())
    if scale is None:
        raise ValueError(f"{unit} is no unit of size")
    return int(number * scale)


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as `seconds`, to the millisecond: `1h`, `15s`, `250ms`."""
    milliseconds = round(seconds * 1000)
    for unit in ("d", "h", "m", "s"):
        scale_ms = round(SECONDS[unit] * 1000)
        if milliseconds and milliseconds % scale_ms == 0:
            return f"{milliseconds // scale_ms}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def format_size(size_bytes: int) -> str:
    """The shortest text that `parse_size` reads as `size_bytes`: `1GiB`, `4KiB`, `100B`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        scale = BYTES[unit.upper()]
        if size_bytes >= scale and size_bytes % scale == 0:
            return f"{size_bytes // scale}{unit}"
    return f"{size_bytes}B"
