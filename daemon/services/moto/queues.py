"""A look at an SQS queue from outside: when its next message can be received. Reads moto's state, changes and creates nothing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

__all__ = ["QueueView", "look"]


@dataclass(frozen=True, slots=True)
class QueueView:
    """`wait_s`: the queue's own ReceiveMessageWaitTimeSeconds. `next_at_s`: when, in seconds since 1970, the first message can
    be received; that is in the past when one can be received now, and None when there is none."""

    wait_s: int
    next_at_s: float | None


def look(account: str, region: str, name: str, now_s: float) -> QueueView | None:
    """The queue `name` at `now_s`; None when there is no such queue, or SQS is not in memory."""
    module = sys.modules.get("moto.sqs.models")
    if module is None:
        return None
    backend = module.sqs_backends.get(account, {}).get(region)
    queue = backend.queues.get(name) if backend is not None else None
    if queue is None:
        return None
    return QueueView(int(queue.receive_message_wait_time_seconds or 0), _next_at_s(queue, now_s))


def _next_at_s(queue: Any, now_s: float) -> float | None:
    # Copies: a slow command may be at work on the executor's thread.
    pending = list(queue.pending_messages) if queue.fifo_queue else []
    blocked = {message.group_id for message in pending if message.group_id and _at_s(message) > now_s}
    first: float | None = None
    for message in list(queue._messages):
        at_s = _at_s(message)
        if at_s <= now_s and message.group_id in blocked:
            continue  # its group waits for a message that is in flight; that one's own time counts
        if at_s <= now_s:
            return at_s
        if first is None or at_s < first:
            first = at_s
    return first


def _at_s(message: Any) -> float:
    at_ms: float = max(message.visible_at, message.delayed_until)
    return at_ms / 1000
