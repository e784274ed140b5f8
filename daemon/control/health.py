"""Health: what clients and containers wait on, exactly as LocalStack's clients expect it (CONTRACT.md).

200 only once recovery is over; before that, and while the daemon stops, 503 with the same body, so that what waits for the status
waits, and what reads the body sees why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.daemon.command import Reply
from holdfast.daemon.control.daemon import EDITION, Daemon
from holdfast.daemon.control.routes import Routes, body_object, json_reply, text_reply
from holdfast.daemon.gateway.addressing import SERVICES
from holdfast.daemon.gateway.message import HttpRequest

__all__ = ["Health"]

ACTIONS = ("restart", "kill")

REPORTED_KEYS_MAX = 64
"""Features that clients may report by PUT: there are three in use; more is a mistake that would grow for ever."""

_INTERNAL = frozenset({"dynamodb_v20111205", "instance_metadata", "moto_api"})


class Health:
    """`/_localstack/health`, `/health`, and `/_holdfast/status`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._reported: dict[str, Any] = {}

    def mount(self, routes: Routes) -> None:
        """Add the routes."""
        for path in ("/_localstack/health", "/health"):
            routes.add("GET HEAD", path, self.get)
        routes.add("PUT", "/_localstack/health", self.put)
        routes.add("POST", "/_localstack/health", self.post)
        routes.add("GET HEAD", "/_holdfast/status", self.status)

    async def get(self, request: HttpRequest) -> Reply:
        """States of services and features."""
        return json_reply(self.report(), 200 if self._daemon.is_serving else 503)

    def report(self) -> dict[str, Any]:
        """Health's body."""
        persistence = "initialized" if self._daemon.is_persistent else "disabled"
        features = {**self._reported, "persistence": persistence, "holdfast": dict(self._daemon.status())}
        return {
            "services": self._services(),
            "edition": EDITION,
            "version": self._daemon.version,
            "features": features,
        }

    def _services(self) -> dict[str, str]:
        known = self._daemon.services()
        default = "available" if self._daemon.is_serving else "starting"
        return {s.model: known.get(s.module, default) for s in SERVICES if s.module not in _INTERNAL}

    async def put(self, request: HttpRequest) -> Reply:
        """Take what a client reports: `features:x` is x within features. Health's top level is fixed, so what is reported beside
        the features is shown among them."""
        data = body_object(request)
        if data is None:
            return text_reply("a JSON object is needed", 400)
        reported: dict[str, Any] = {}
        for key, value in data.items():
            *outer, name = key.split(":")
            outer = outer[1:] if outer[:1] == ["features"] else outer
            if key == "features" and isinstance(value, dict):
                reported = _merged(reported, value)
            else:
                for part in reversed([*outer, name]):
                    value = {part: value}  # noqa: PLW2901 - wraps the value from the inside out
                reported = _merged(reported, value)
        merged = _merged(self._reported, reported)
        if len(merged) > REPORTED_KEYS_MAX:
            return text_reply(f"at most {REPORTED_KEYS_MAX} features can be reported", 400)
        self._reported = merged
        return json_reply({"status": "OK"})

    async def post(self, request: HttpRequest) -> Reply:
        """Restart or stop the daemon."""
        data = body_object(request)
        action = data.get("action") if data is not None else None
        if action not in ACTIONS:
            return text_reply(f"a JSON object with an action is needed: {' or '.join(ACTIONS)}", 400)
        self._daemon.stop(restart=action == "restart")
        return text_reply("ok")

    async def status(self, request: HttpRequest) -> Reply:
        """Everything Holdfast says of itself."""
        return json_reply(dict(self._daemon.status()))


def _merged(into: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`into` with `more` on top, objects merged within."""
    merged = dict(into)
    for key, value in more.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
