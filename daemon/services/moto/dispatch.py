"""Dispatch: an AWS request straight to moto's response class, with no web framework between.

moto's own server builds one Flask application per service and lets Flask match the path, then calls the handler with a
werkzeug request. Here the path is matched against the service's own patterns, in moto's order (as its in-process mode does),
and the same handler is called with the same kind of request. `from_wsgi_server` is set, because there is a server in front.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from holdfast.daemon.command import Reply, Request
from holdfast.daemon.services.moto import credentials, forms
from holdfast.daemon.services.moto.classification import is_slow, watch_ticks
from holdfast.daemon.services.moto.credentials import access_key_of, account_of

__all__ = ["Dispatch", "UnknownService"]

type_handler = Callable[[Any, str, Any], Any]

DEFAULT_ACCOUNT = "000000000000"
"""The account of a request that names none: LocalStack's, not moto's 123456789012 (CONTRACT.md)."""

URL_MODULES = {"moto_api": "moto.moto_api._internal.urls"}
"""Where a service's URL patterns lie, if not in moto.<service>.urls."""


REGION = "holdfast.region"
"""The WSGI environment's name for the region that the router found."""


class UnknownService(LookupError):
    """Raised when moto has no service of that name."""


class Dispatch:
    """Calls moto. Not re-entrant: one command at a time, under the executor's controls."""

    def __init__(
        self,
        default_account: str = DEFAULT_ACCOUNT,
        *,
        ticked: Callable[[], None] = lambda: None,
        touched: Callable[[str], None] = lambda _: None,
        resetting: Callable[[], None] = lambda: None,
    ) -> None:
        """`ticked` is called when looking at a resource moved it on, `touched` for what moto's own control routes change past
        every hook, `resetting` before they reset all."""
        self._default_account = default_account
        self._ticked = ticked
        self._touched = touched
        self._resetting = resetting
        self._reached: set[tuple[str, str, str]] = set()
        self._handlers: dict[str, list[tuple[re.Pattern[str], type_handler]]] = {}
        self._request_class: Any = None

    def ready(self, service: str) -> bool:
        """True when `service` is imported and can run without stalling the event loop for that."""
        return service in self._handlers

    @property
    def prepared(self) -> frozenset[str]:
        """The services that are imported."""
        return frozenset(self._handlers)

    def account_of(self, request: Request) -> str:
        """The account that `request` speaks for: its access key's, if IAM or STS issued that, else what the router read."""
        return account_of(access_key_of(request)) or request.account or self._default_account

    def slow(self, request: Request) -> bool:
        """True when `request` is known to take over 20 ms, or is the first to reach its service in an account and region:
        that makes a backend, which takes up to 5 s (EC2's images, SSM's public parameters)."""
        place = (request.service, request.account, request.region)
        if place in self._reached:
            return is_slow(request)
        self._reached.add(place)
        return True

    def prepare(self, service: str) -> None:
        """Import what `service` needs: up to 1.5 s the first time. Raises UnknownService."""
        if self._request_class is None:
            self._prepare_moto()
        if service in self._handlers:
            return
        module = URL_MODULES.get(service, f"moto.{service}.urls")
        if not service.isidentifier() or importlib.util.find_spec(f"moto.{service}") is None:
            raise UnknownService(service)
        urls = importlib.import_module(module)
        self._handlers[service] = [(re.compile(path.format("")), handler) for path, handler in urls.url_paths.items()]

    def _prepare_moto(self) -> None:
        """Import moto's core and set what must be set before any service is imported."""
        import moto.core
        import moto.core.models
        from moto.core.config import default_user_config
        from moto.core.request import Request as MotoRequest

        moto.core.DEFAULT_ACCOUNT_ID = moto.core.models.DEFAULT_ACCOUNT_ID = self._default_account
        default_user_config["lambda"]["use_docker"] = False
        default_user_config["batch"]["use_docker"] = False

        class ServerRequest(MotoRequest):  # type: ignore[misc]
            from_wsgi_server = True

        credentials.install()
        forms.install()
        _take_region_from_request()
        watch_ticks(self._ticked)
        self._request_class = ServerRequest

    def __call__(self, request: Request) -> Reply:
        """Run `request` in moto now, on this thread. A service's own errors are replies; whatever else moto raises is raised."""
        from botocore.exceptions import ClientError
        from werkzeug.exceptions import HTTPException

        path = request.target.partition("?")[0] or "/"
        handler = self._handler(request.service, path)
        if handler is None:
            raise NotImplementedError(f"nothing answers at {path}")
        if request.service == "moto_api":
            self._touched("moto_api")
            if path == "/moto-api/reset":
                self._resetting()
        environ = self._environ(request, path)
        moto_request = self._request_class(environ)
        try:
            result = handler(moto_request, moto_request.raw_url, moto_request.headers)
        except ClientError as error:
            result = 400, {}, error.response["Error"]["Message"]
        except HTTPException as error:
            result = error.code, dict(error.get_headers()), error.get_body()
        if len(result) != 3:
            result = 200, {}, result
        return _reply(request.method, *result)

    def _handler(self, service: str, path: str) -> type_handler | None:
        for pattern, handler in self._handlers[service]:
            if pattern.match(path):
                return handler
        return None

    def _environ(self, request: Request, path: str) -> dict[str, Any]:
        """A WSGI environment as moto's server makes it, for the original request."""
        query = request.target.partition("?")[2]
        preserved: dict[str, str] = {}
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            # WSGI carries the decoded path as Latin-1 text (PEP 3333).
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "RAW_URI": request.target,
            "REQUEST_URI": request.target,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "4566",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.input_terminated": True,
            "moto.preserved_header_names": preserved,
            REGION: request.region,
        }
        for name, value in request.headers:
            key = name.upper().replace("-", "_")
            if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                key = f"HTTP_{key}"
            if "_" in name:
                # An underscore may not stand in for a dash; S3's metadata keys keep theirs (moto.core.request).
                if not name.startswith("x-amz-meta-"):
                    continue
                preserved.setdefault(key, name)
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        environ["CONTENT_LENGTH"] = str(len(request.body))
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self.account_of(request)
        return environ


def _take_region_from_request() -> None:
    """moto looks for the region in the Authorization header, an amazonaws.com host or the user agent, and misses it in
    presigned and unsigned requests; the router has read it already."""
    from moto.core.responses import BaseResponse

    found = BaseResponse.get_region_from_url

    def get_region_from_url(self: Any, request: Any, full_url: str) -> str:
        region: str = request.environ.get(REGION) or found(self, request, full_url)
        return region

    BaseResponse.get_region_from_url = get_region_from_url


def _reply(method: str, status: int | str, headers: Mapping[str, Any], content: Any) -> Reply:
    """What a handler returned, as bytes and text: handlers give text, bytes or iterables of either, and headers of any type."""
    if isinstance(content, str):
        body = content.encode()
    elif isinstance(content, (bytes, bytearray)):
        body = bytes(content)
    elif content is None:
        body = b""
    else:
        body = b"".join(part.encode() if isinstance(part, str) else part for part in content)
    listed: list[tuple[str, str]] = []
    for name, value in headers.items():
        lower = str(name).lower()
        if lower == "content-length" and method != "HEAD":
            continue
        listed.append((lower, value.decode() if isinstance(value, bytes) else str(value)))
    if not any(name == "content-type" for name, _ in listed):
        listed.append(("content-type", "text/html; charset=utf-8"))
    if not any(name == "content-length" for name, _ in listed):
        listed.append(("content-length", str(len(body))))
    return Reply(int(status), tuple(listed), body)
