"""Listening sockets: bound before anything slow, so that a port in use is found at once and early clients only wait."""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
from collections.abc import Mapping, Sequence

from holdfast.daemon.errors import ListenError
from holdfast.daemon.values import Address

__all__ = ["BACKLOG", "bind", "endpoint_of"]

BACKLOG = 1024
"""Connections that may wait to be accepted; the kernel cuts it to net.core.somaxconn."""

FIRST_ACTIVATED_FD = 3
"""sd_listen_fds(3): passed sockets start here."""

ASK_TIMEOUT_S = 1.0
"""How long the program that has our port is asked whether it is a holdfast."""

# No IPv6 on this machine (a container, often), or none on its loopback interface.
_NO_SUCH_FAMILY = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})


def bind(addresses: Sequence[Address], env: Mapping[str, str]) -> list[socket.socket]:
    """Listening sockets for `addresses`, or those that systemd passed, which win.

    `localhost` is 127.0.0.1 and, where the machine has it, ::1 on the same port. Port 0 is any free one.
    Raises ListenError, with nothing left bound, naming the address and, where it can be found out, who has it.
    """
    if activated := _activated(env):
        return activated
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            if address.host == "localhost":
                sockets.extend(_bind_loopback(address.port))
            else:
                sockets.extend(_bind_named(address))
    except BaseException:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def endpoint_of(sockets: Sequence[socket.socket]) -> str:
    """The URL by which a client on this machine reaches the first of `sockets`."""
    host, port = sockets[0].getsockname()[:2]
    if host in {"127.0.0.1", "::1", "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = "localhost"
    return f"http://{Address(host, port)}"


def _activated(env: Mapping[str, str]) -> list[socket.socket]:
    """The sockets that systemd passed to this process, as descriptors of our own.

    Those passed stay open and marked for the next exec: a daemon that starts itself again finds them as it did the first time.
    """
    count, pid = env.get("LISTEN_FDS", ""), env.get("LISTEN_PID", "")
    if not count.isdecimal() or pid != str(os.getpid()):
        return []
    sockets = []
    for fd in range(FIRST_ACTIVATED_FD, FIRST_ACTIVATED_FD + int(count)):
        try:
            passed = socket.socket(fileno=os.dup(fd))
            listening = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        except OSError as error:
            raise ListenError(
                f"descriptor {fd}, passed by socket activation, is no socket: {error.strerror}"
            ) from error
        if passed.type != socket.SOCK_STREAM or not listening:
            raise ListenError(f"descriptor {fd}, passed by socket activation, is not a listening stream socket")
        passed.setblocking(False)
        sockets.append(passed)
    return sockets


def _bind_loopback(port: int) -> list[socket.socket]:
    first = _bind_one(socket.AF_INET, Address("127.0.0.1", port))
    try:
        second = _bind_one(socket.AF_INET6, Address("::1", first.getsockname()[1]))
    except OSError as error:
        if error.errno in _NO_SUCH_FAMILY:
            return [first]
        first.close()
        raise
    except ListenError:
        first.close()
        raise
    return [first, second]


def _bind_named(address: Address) -> list[socket.socket]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ListenError(f"cannot listen on {address}: {address.host} is no address of this machine") from error
    family, _, _, _, (host, port, *_) = found[0]
    try:
        return [_bind_one(socket.AddressFamily(family), Address(str(host), int(port)))]
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror}") from error


def _bind_one(family: socket.AddressFamily, address: Address) -> socket.socket:
    """Raises ListenError when the port is taken or forbidden, OSError for what the caller may know how to answer."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port whose last owner was killed is free at once, not after the two minutes of TIME_WAIT.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address.host, address.port))
        bound.listen(BACKLOG)  # only listening finds out that another socket with SO_REUSEADDR has the port
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise ListenError(_who_has(address)) from error
        if error.errno == errno.EACCES:
            raise ListenError(f"port {address.port} needs privileges that this process does not have") from error
        raise
    return bound


def _who_has(address: Address) -> str:
    taken = f"port {address.port} on {address.host} is in use"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - compared, not bound
    connection = http.client.HTTPConnection(host, address.port, timeout=ASK_TIMEOUT_S)
    try:
        connection.request("GET", "/_localstack/health")
        health = json.loads(connection.getresponse().read(1 << 20))
        is_ours = "holdfast" in health["features"]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        is_ours = False
    finally:
        connection.close()
    if is_ours:
        return f"{taken} by another holdfast; `holdfast stop` ends it, `--listen` names another port"
    return f"{taken} by another program; `--listen` names another port"
