"""Control routes: `/_localstack/*`, which LocalStack's own clients speak (CONTRACT.md), and `/_holdfast/*`.

- `routes`: which request is a control route, and which handler answers it; `Routes` is what the gateway is given
- `daemon`: what the routes need of the running daemon, as a protocol
- `health`, `info`, `stages`: the routes
"""

from __future__ import annotations

from holdfast.daemon.control.daemon import Daemon
from holdfast.daemon.control.health import Health
from holdfast.daemon.control.info import Info
from holdfast.daemon.control.routes import Routes
from holdfast.daemon.control.stages import Stage, Stages

__all__ = ["Daemon", "Health", "Info", "Routes", "Stage", "Stages", "build_routes"]


def build_routes(daemon: Daemon, stages: Stages) -> Routes:
    """Every control route there is."""
    routes = Routes()
    Health(daemon).mount(routes)
    Info(daemon).mount(routes)
    stages.mount(routes)
    return routes
