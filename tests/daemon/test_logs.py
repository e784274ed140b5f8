"""Logs: one JSON object a line, no secrets, other people's loggers included."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from holdfast.daemon import logs
from holdfast.daemon.values import LogLevel


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = before[0], before[1]
    structlog.configure(**before[2])


def logged(level: LogLevel, write: Any) -> list[dict[str, Any]]:
    stream = io.StringIO()
    logs.configure(level, stream)
    write()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_and_level() -> None:
    """Not a terminal: each event is one line that a machine reads, its time in UTC to the millisecond."""
    [event] = logged(LogLevel.INFO, lambda: structlog.get_logger("x").info("checkpoint\nwritten", lsn=7))
    assert (event["event"], event["level"], event["lsn"]) == ("checkpoint\nwritten", "info", 7)
    then = datetime.fromisoformat(event["timestamp"])
    assert abs((datetime.now(UTC) - then).total_seconds()) < 5


def test_secrets_and_bodies_are_not_shown_at_info() -> None:
    """What carries a secret or a request's body is blotted out at info and above, and shown at debug."""
    everything = dict.fromkeys(logs.SECRET_KEYS, "s3cret")

    def write() -> None:
        structlog.get_logger().warning("refused", **everything)

    [shown_at_info] = logged(LogLevel.INFO, write)
    assert "s3cret" not in json.dumps(shown_at_info)
    [shown_at_debug] = logged(LogLevel.DEBUG, write)
    assert shown_at_debug["token"] == "s3cret"


def test_loggers_of_the_standard_library_come_out_the_same_way() -> None:
    """uvicorn and moto log as everybody does; their lines have the same shape, errors with their traceback as data."""

    def write() -> None:
        logging.getLogger("uvicorn.error").warning("Invalid %s received.", "HTTP request")
        try:
            raise ValueError("inner")
        except ValueError:
            logging.getLogger("moto").exception("failed")
        logging.getLogger("moto").warning("%d", "no number")

    first, second, third = logged(LogLevel.INFO, write)
    assert (first["event"], first["level"], first["logger"]) == (
        "Invalid HTTP request received.",
        "warning",
        "uvicorn.error",
    )
    assert second["exception"][0]["exc_value"] == "inner"
    assert third["event"] == "%d"


def test_other_peoples_debug_lines_need_trace() -> None:
    """botocore's debug lines hold signed requests: `DEBUG=1` is about this program, LS_LOG=trace about all."""

    def write() -> None:
        logging.getLogger("botocore").debug("theirs")
        structlog.get_logger().debug("ours")

    assert [event["event"] for event in logged(LogLevel.INFO, write)] == []
    assert [event["event"] for event in logged(LogLevel.DEBUG, write)] == ["ours"]
    assert [event["event"] for event in logged(LogLevel.TRACE, write)] == ["theirs", "ours"]


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "terminal"])
def test_a_traceback_shows_no_local_variables(stream: io.StringIO) -> None:
    """Local variables of a failed command hold requests and state: a traceback names lines, not values."""
    logs.configure(LogLevel.INFO, stream)
    password = "s3cret"
    try:
        raise ValueError(len(password))
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "test_a_traceback_shows_no_local_variables" in stream.getvalue()
    assert password not in stream.getvalue()


def test_a_terminal_gets_lines_to_read() -> None:
    """On a terminal: the event first, in colour, no JSON."""
    stream = Terminal()
    logs.configure(LogLevel.INFO, stream)
    structlog.get_logger().info("stopping", signal="SIGTERM")
    assert "stopping" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
