"""Durations and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.daemon.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"), [("15", 15), ("500ms", 0.5), ("1.5 s", 1.5), ("5m", 300), ("1h", 3600), ("2d", 172800)]
)
def test_durations_are_seconds_unless_they_say_otherwise(text: str, seconds: float) -> None:
    """A bare number is seconds, as in LocalStack; units scale it."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("1KiB", 1024), ("1kb", 1000), ("5M", 5 << 20), ("1.5GiB", 3 << 29), ("2TB", 2 * 10**12)],
)
def test_sizes_are_bytes_unless_they_say_otherwise(text: str, size: int) -> None:
    """A bare number is bytes; KiB is 1,024 and KB is 1,000."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "h", "-1", "1e3", "1 fortnight", "nan", "inf", "\uff11", "1M", "9" * 40])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Nothing is guessed: a capital M is a size, a negative or infinite time is none."""
    with pytest.raises(ValueError, match=r"."):
        parse_duration(text)


@given(st.integers(0, 2**49))
def test_sizes_read_back_as_written(size: int) -> None:
    """What is shown can be typed in again."""
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10**9))
def test_durations_read_back_as_written(milliseconds: int) -> None:
    """What is shown can be typed in again."""
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)
