"""What control routes need of the running daemon. The composition root implements it; tests use a fake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["EDITION", "Daemon"]

EDITION = "community"
"""What clients of LocalStack take for: no licence needed (CONTRACT.md)."""


class Daemon(Protocol):
    """The daemon as its control routes see it."""

    @property
    def version(self) -> str:
        """The installed version."""

    @property
    def session_id(self) -> str:
        """Names this life of the process."""

    @property
    def machine_id(self) -> str:
        """Names this volume, without saying anything about the machine."""

    @property
    def uptime_s(self) -> float:
        """Seconds since the process started."""

    @property
    def is_serving(self) -> bool:
        """True from the end of recovery until the daemon is told to stop."""

    @property
    def is_persistent(self) -> bool:
        """True when state outlives the process."""

    def services(self) -> Mapping[str, str]:
        """States of services by moto's name: `running`, `error`, ...; one that is left out is `available`."""

    def status(self) -> Mapping[str, Any]:
        """What Holdfast promises and does: journal, checkpoints, strategy, loss; values for JSON."""

    def stop(self, *, restart: bool) -> None:
        """Begin to stop, and to start again if `restart`; returns at once."""
