"""SWF's timers: moto keeps a waiting thread for each one that a workflow started, which no image can hold.

What is needed to start it again lies in the workflow's history: when it was started and how long it runs. A timer that is due by
the time its workflow is loaded fires at once, as it would have, had the process lived.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from holdfast.daemon.services.determinism import wall_now_us
from holdfast.daemon.services.moto import backends

__all__ = ["DaemonTimer", "arm", "disarm", "prepare"]


class DaemonTimer(threading.Timer):
    """A timer that does not keep the process from ending."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.daemon = True


def prepare() -> None:
    """Have moto make timers that end with the process."""
    from moto.swf.models import workflow_execution

    workflow_execution.ThreadingTimer = DaemonTimer


def arm() -> None:
    """Start every timer that was loaded without its thread."""
    for execution, timer_id, timer in _timers():
        if timer.background_timer is None:
            due_in_s = max(0.0, _due_at_s(execution, timer.started_event_id) - wall_now_us() / 1e6)
            arguments = (timer.started_event_id, timer_id)
            timer.background_timer = DaemonTimer(due_in_s, execution._fire_timer, args=arguments)
            timer.start()


def disarm() -> None:
    """Stop every timer: what it would change is about to be replaced."""
    for _, _, timer in _timers():
        if timer.background_timer is not None:
            timer.cancel()


def _timers() -> Iterator[tuple[Any, str, Any]]:
    for _, holder in backends.imported("swf"):
        for _, _, backend in backends.quiet_items(holder):
            for domain in getattr(backend, "domains", ()):
                for execution in domain.workflow_executions:
                    for timer_id, timer in list(execution._timers.items()):
                        yield execution, timer_id, timer


def _due_at_s(execution: Any, event_id: int) -> float:
    started = next(event for event in execution._events if event.event_id == event_id)
    return float(started.event_timestamp) + float(started.event_attributes["startToFireTimeout"])
