"""The HTTP edge: who may come in, what a request asks for, and how the answer looks.

- `app`: the ASGI application, from socket to executor and back; `server`: uvicorn as it is run here; `protocol`: its connections
- `message`, `body`: a request's head, and its body within limits; `limits`: all limits of the edge
- `guard`, `cors`, `bucket_cors`: hosts and origins that may come in, and what their browsers are told
- `addressing`, `hosts`, `operations`, `router`: from an HTTP request to service, operation, region and account
- `waiting`: long polls; `errors`: AWS-shaped errors
"""

from __future__ import annotations

from holdfast.daemon.gateway.app import Gateway, Phase
from holdfast.daemon.gateway.errors import failure
from holdfast.daemon.gateway.guard import Guard, GuardSettings
from holdfast.daemon.gateway.limits import Limits
from holdfast.daemon.gateway.router import Router
from holdfast.daemon.gateway.waiting import LongPolls

__all__ = ["Gateway", "Guard", "GuardSettings", "Limits", "LongPolls", "Phase", "Router", "failure"]
