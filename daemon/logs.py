"""Logging: structlog for all, the standard library's loggers (uvicorn, moto, botocore) routed into it.

Coloured lines for a terminal, one JSON object a line otherwise; all on standard error, since standard output carries nothing
but what scripts wait for: `Ready.`. At info and above no secret and no body is ever written: an event may carry them only
under the names in SECRET_KEYS, which are blotted out unless the level is debug or lower.
"""

from __future__ import annotations

import datetime as dt
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from holdfast.daemon.values import LogLevel

__all__ = ["SECRET_KEYS", "configure"]

SECRET_KEYS = frozenset(
    {"authorization", "body", "headers", "passphrase", "password", "payload", "secret", "tape", "token"}
)

# structlog and logging have no level below debug; ours logs what each command did.
LEVELS = {
    LogLevel.TRACE: logging.DEBUG,
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARN: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}


def configure(level: LogLevel, stream: TextIO | None = None) -> None:
    """Set up logging for the process: at `level`, to `stream` (standard error if none is given)."""
    stream = stream or sys.stderr
    number = LEVELS[level]
    terminal = stream.isatty()
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _add_time,
    ]
    if number > logging.DEBUG:
        processors.append(_blot_secrets)
    if terminal:
        plain = structlog.dev.plain_traceback
        processors.append(structlog.dev.ConsoleRenderer(colors=True, exception_formatter=plain))
    else:
        # Without the values of local variables: they hold requests and state, and printing state may even load it.
        frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        processors += [structlog.processors.ExceptionRenderer(frames), structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Route()]
    # Other people's debug lines hold whole requests with their signatures: they are seen only at trace.
    root.setLevel(number if level is LogLevel.TRACE else max(number, logging.INFO))
    logging.getLogger("uvicorn").setLevel(
        max(root.level, logging.WARNING)
    )  # its starting and stopping is ours to report


class _Route(logging.Handler):
    """Hands records of the standard library's loggers to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # an argument that does not fit its format must not take the daemon down
            message = str(record.msg)
        structlog.get_logger().log(record.levelno, message, logger=record.name, exc_info=record.exc_info)


def _add_time(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # The wall clock may be frozen for a command that is just running; this one never is.
    from holdfast.daemon.services.determinism import wall_now_us

    now = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=wall_now_us())
    event["timestamp"] = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


def _blot_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event.keys() & SECRET_KEYS:
        event[key] = "[not shown]"
    return event
