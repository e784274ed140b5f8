"""What clients ask about the installation: `/_localstack/info` and `/_localstack/plugins` (CONTRACT.md)."""

from __future__ import annotations

import datetime as dt
import functools
import platform
from pathlib import Path

from holdfast.daemon.command import Reply
from holdfast.daemon.control.daemon import EDITION, Daemon
from holdfast.daemon.control.routes import Routes, json_reply
from holdfast.daemon.gateway.addressing import SERVICES
from holdfast.daemon.gateway.message import HttpRequest

__all__ = ["Info"]

PROVIDERS = "localstack.aws.provider"
"""LocalStack's name for the list of its services' implementations."""


class Info:
    """`/_localstack/info` and `/_localstack/plugins`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def mount(self, routes: Routes) -> None:
        """Add the routes."""
        routes.add("GET HEAD", "/_localstack/info", self.info)
        routes.add("GET HEAD", "/_localstack/plugins", self.plugins)

    async def info(self, request: HttpRequest) -> Reply:
        """Exactly the keys that clients know."""
        return json_reply(
            {
                "version": self._daemon.version,
                "edition": EDITION,
                "is_license_activated": False,
                "session_id": self._daemon.session_id,
                "machine_id": self._daemon.machine_id,
                "system": platform.system(),
                "is_docker": is_container(),
                "server_time_utc": dt.datetime.now(dt.UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
                "uptime": int(self._daemon.uptime_s),
            }
        )

    async def plugins(self, request: HttpRequest) -> Reply:
        """The services, as LocalStack lists its providers."""
        states = self._daemon.services()
        return json_reply(
            {
                PROVIDERS: [
                    {"name": f"{s.model}:moto", "is_init": True, "is_loaded": states.get(s.module) == "running"}
                    for s in SERVICES
                ]
            }
        )


@functools.cache
def is_container() -> bool:
    """True inside Docker or Podman, by the files that each leaves."""
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()
