"""Stages of the daemon's life and the scripts that ran in them: `/_localstack/init` (CONTRACT.md)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from holdfast.daemon.command import Reply
from holdfast.daemon.control.routes import Routes, json_reply, text_reply
from holdfast.daemon.gateway.message import HttpRequest

__all__ = ["Script", "ScriptState", "Stage", "Stages"]


class Stage(enum.Enum):
    """When hooks run: before anything, once the port is open, once recovery is over, before the process ends."""

    BOOT = "BOOT"
    START = "START"
    READY = "READY"
    SHUTDOWN = "SHUTDOWN"


class ScriptState(enum.Enum):
    """What became of a script."""

    UNKNOWN = "UNKNOWN"
    RUNNING = "RUNNING"
    SUCCESSFUL = "SUCCESSFUL"
    ERROR = "ERROR"


@dataclass(slots=True)
class Script:
    """One hook: its file name, and how it went."""

    stage: Stage
    name: str
    state: ScriptState = ScriptState.UNKNOWN


class Stages:
    """Which stages are behind, and every script found."""

    def __init__(self) -> None:
        self._completed = dict.fromkeys(Stage, False)
        self._scripts: list[Script] = []

    def complete(self, stage: Stage) -> None:
        """`stage` is over, its scripts included."""
        self._completed[stage] = True

    def add(self, script: Script) -> Script:
        """List a script; its `state` may change as it runs."""
        self._scripts.append(script)
        return script

    def mount(self, routes: Routes) -> None:
        """Add the routes."""
        routes.add("GET HEAD", "/_localstack/init", self.all)
        routes.add("GET HEAD", "/_localstack/init/{stage}", self.one)

    async def all(self, request: HttpRequest) -> Reply:
        """Every stage and script."""
        completed = {stage.value: done for stage, done in self._completed.items()}
        return json_reply({"completed": completed, "scripts": [_shown(script) for script in self._scripts]})

    async def one(self, request: HttpRequest, stage: str) -> Reply:
        """One stage, by its name in any case."""
        try:
            wanted = Stage(stage.upper())
        except ValueError:
            return text_reply(f"no such stage {stage!r}; there are {', '.join(s.value for s in Stage)}", 404)
        scripts = [_shown(script) for script in self._scripts if script.stage is wanted]
        return json_reply({"completed": self._completed[wanted], "scripts": scripts})


def _shown(script: Script) -> dict[str, str]:
    return {"stage": script.stage.value, "name": script.name, "state": script.state.value}
