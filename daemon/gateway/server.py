"""uvicorn as it is run here: no signals, no logging set-up, no headers of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from holdfast.daemon.gateway.limits import Limits
from holdfast.daemon.gateway.protocol import with_limits

__all__ = ["Server", "build_server"]


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: those are the supervisor's. Set `should_exit` to stop it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def build_server(app: Callable[..., Any], limits: Limits | None = None, *, drain_s: int | None = None) -> Server:
    """A server for `app`; run it by `await server.serve(sockets=...)`, with sockets that listen already.

    When told to stop it waits up to `drain_s` for requests in work, for ever if that is None.
    """
    limits = limits or Limits()
    config = uvicorn.Config(
        app,
        http=with_limits(limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(limits.idle_timeout_s),
        timeout_graceful_shutdown=drain_s,
    )
    return Server(config)
