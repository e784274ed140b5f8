"""uvicorn as it is run here: no signals, no logging set-up, no headers of its own; and the sockets it listens on."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from holdfast.daemon.gateway.limits import Limits
from holdfast.daemon.gateway.protocol import with_limits

__all__ = ["Server", "bind", "build_server"]

BACKLOG = 1024
"""Connections that wait to be accepted: a test suite that starts a hundred clients at once stays far below."""

LOOPBACK = {"localhost": ("127.0.0.1", "::1"), "127.0.0.1": ("127.0.0.1", "::1")}
"""Hosts that mean both loopback addresses: resolvers disagree on which of them `localhost` is."""


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: those are the supervisor's. Set `should_exit` to stop it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def build_server(app: Callable[..., Any], limits: Limits | None = None, *, drain_s: int | None = None) -> Server:
    """A server for `app`; run it by `await server.serve(sockets=bind(...))`.

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
        backlog=BACKLOG,
    )
    return Server(config)


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for `host`, both loopback addresses for either of them.

    ::1 is left out where there is no IPv6. Port 0 takes a free one, the same for all. Raises OSError, with a sentence if the
    port is in use.
    """
    sockets: list[socket.socket] = []
    try:
        for address in LOOPBACK.get(host, (host,)):
            try:
                sockets.append(_bind(address, port))
            except OSError as error:
                if sockets and error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    continue
                raise
            port = sockets[0].getsockname()[1]
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(errno.EADDRINUSE, f"port {port} on {address} is in use by another program") from error
        raise
    listener.setblocking(False)
    return listener
