"""The table of control routes: paths to handlers.

A control path that is not in the table is answered with 404 and a body, never as an S3 key: `lstk` takes an empty 404 for
"needs a paid plan", and an XML one would be S3's.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from holdfast.daemon.command import Reply
from holdfast.daemon.gateway.message import HttpRequest

__all__ = ["Handler", "Routes", "json_reply", "text_reply"]

Handler = Callable[..., Awaitable[Reply]]
"""Takes the request, and the parts of the path that the pattern names as keywords."""

ROOTS = ("_localstack", "_holdfast")


def json_reply(data: object, status: int = 200) -> Reply:
    """`data` as JSON."""
    return Reply(status, (("content-type", "application/json"),), json.dumps(data).encode())


def text_reply(text: str, status: int = 200) -> Reply:
    """Plain text."""
    return Reply(status, (("content-type", "text/plain; charset=utf-8"),), text.encode())


def body_object(request: HttpRequest) -> Mapping[str, Any] | None:
    """The JSON object in the request's body; None when there is none."""
    try:
        data = json.loads(request.body)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


class Routes:
    """Handlers by path and method. `{name}` in a pattern stands for one part of a path."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, ...], dict[str, Handler]] = {}

    def add(self, methods: str, pattern: str, handler: Handler) -> None:
        """Answer `methods` (separated by spaces) of `pattern` by `handler`."""
        by_method = self._handlers.setdefault(_parts(pattern), {})
        for method in methods.split():
            assert method not in by_method, f"{method} {pattern} has two handlers"
            by_method[method] = handler

    def owns(self, request: HttpRequest) -> bool:
        """True when the request is for a control route: by its path alone, whether that is known or not.

        `/health` at the root is one only if nobody signed the request: it could be a bucket's name.
        """
        if request.path.lstrip("/").partition("/")[0] in ROOTS:
            return True
        if request.path.rstrip("/") != "/health" or request.method not in {"GET", "HEAD"}:
            return False
        signed = request.get("authorization").startswith("AWS") or "X-Amz-" in request.query
        return not signed

    async def answer(self, request: HttpRequest) -> Reply:
        """The reply of the route's handler, or 404 or 405 with a body."""
        by_method, named = self._find(_parts(request.path))
        if by_method is None:
            return json_reply({"error": "not found", "message": f"there is no route {request.path}"}, 404)
        handler = by_method.get(request.method)
        if handler is None:
            reply = json_reply(
                {"error": "method not allowed", "message": f"{request.path} takes {_listed(by_method)}"}, 405
            )
            return Reply(reply.status, (*reply.headers, ("allow", _listed(by_method))), reply.body)
        return await handler(request, **named)

    def _find(self, parts: tuple[str, ...]) -> tuple[dict[str, Handler] | None, dict[str, str]]:
        exact = self._handlers.get(parts)
        if exact is not None:
            return exact, {}
        for pattern, by_method in self._handlers.items():
            if len(pattern) == len(parts) and all(_fits(want, part) for want, part in zip(pattern, parts, strict=True)):
                return by_method, {
                    want[1:-1]: unquote(part) for want, part in zip(pattern, parts, strict=True) if want[:1] == "{"
                }
        return None, {}


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/"))


def _fits(want: str, part: str) -> bool:
    return want == part or (want.startswith("{") and bool(part))


def _listed(by_method: Mapping[str, Handler]) -> str:
    return ", ".join(sorted(by_method))
