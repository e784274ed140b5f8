"""A daemon that says what it is told to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from holdfast.daemon.command import Reply
from holdfast.daemon.control import Routes, Stages, build_routes
from holdfast.daemon.gateway.message import HttpRequest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeDaemon:
    """Every answer is an attribute."""

    version = "1.2.3"
    session_id = "11111111-2222-3333-4444-555555555555"
    machine_id = "volume-1"
    uptime_s = 12.7
    is_serving = True
    is_persistent = True

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.stops: list[bool] = []

    def services(self) -> Mapping[str, str]:
        return self.states

    def status(self) -> Mapping[str, Any]:
        return {"journal": {"sync": "always"}}

    def stop(self, *, restart: bool) -> None:
        self.stops.append(restart)


class Client:
    """Asks the control routes without a gateway."""

    def __init__(self) -> None:
        self.daemon = FakeDaemon()
        self.stages = Stages()
        self.routes: Routes = build_routes(self.daemon, self.stages)

    async def ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        request = HttpRequest(method, path, headers=(("host", "localhost:4566"),), body=body)
        assert self.routes.owns(request)
        return await self.routes.answer(request)


@pytest.fixture
def client() -> Client:
    return Client()
