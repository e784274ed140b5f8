"""Which operation a request asks for: by its target, its `Action`, or, for REST services, by botocore's model.

The models are read by moto's own router, so that the journal's names are the ones moto dispatches by. moto and a service's model
are loaded when the first request needs them, on a worker thread.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_plus

from anyio import to_thread

from holdfast.daemon.gateway.addressing import BY_MODULE, Protocol

if TYPE_CHECKING:
    from holdfast.daemon.gateway.message import HttpRequest

__all__ = ["Operations", "form_field", "rpc_operation"]

OPERATION_CHARS_MAX = 128
"""AWS's longest operation name has 64; more is not a name, and is not carried into the journal."""

_NAME = re.compile(rf"[A-Za-z][A-Za-z0-9_]{{0,{OPERATION_CHARS_MAX - 1}}}")
_REST = frozenset({Protocol.REST_JSON, Protocol.REST_XML})


def form_field(request: HttpRequest, name: str) -> str:
    """The value of a field of the query protocol, in the query string or the body; empty when it is in neither."""
    if request.query:
        value = _field(request.query.encode("latin-1"), name)
        if value:
            return value
    return _field(request.body, name) if request.is_form else ""


def _field(form: bytes, name: str) -> str:
    # A search for the one field: a CloudFormation template in the same form can be a megabyte.
    match = re.search(rb"(?:^|&)%b=([^&]*)" % name.encode(), form)
    return unquote_plus(match[1].decode("latin-1")) if match else ""


def rpc_operation(request: HttpRequest) -> str:
    """The operation that the request itself names, without any model; empty when it names none."""
    target = request.get("x-amz-target")
    name = target.rpartition(".")[2] if target else form_field(request, "Action")
    return name if _NAME.fullmatch(name) else ""


class Operations:
    """Finds operations' names, and keeps the routers of the REST services that were asked for."""

    def __init__(self) -> None:
        self._routers: dict[str, Any] = {}

    async def find(self, modules: tuple[str, ...], request: HttpRequest, path: str) -> tuple[str, str]:
        """The service among `modules` whose model has an operation for the request, and the operation's name.

        When none has, the first module and an empty name: what moto serves is more than what the models hold. `path` is the
        request's, with an S3 bucket that stood in the host put in front.
        """
        for module in modules:
            operation = await self._rest(module, request, path) or self._rpc(module, request)
            if operation:
                return module, operation
        return modules[0], ""

    def _rpc(self, module: str, request: HttpRequest) -> str:
        # A field named Action in the query of an S3 request is the user's own.
        return "" if BY_MODULE[module].protocol in _REST else rpc_operation(request)

    async def _rest(self, module: str, request: HttpRequest, path: str) -> str:
        service = BY_MODULE[module]
        if service.protocol not in _REST:
            return ""
        if module not in self._routers:
            self._routers[module] = await to_thread.run_sync(_rest_router, service.model)
        return _match(self._routers[module], request, path)


def _rest_router(model: str) -> Any:
    """moto's router over the model of a REST service, None when botocore has no such model."""
    from botocore.exceptions import UnknownServiceError
    from moto.core.routing import RestRouter
    from moto.core.utils import get_service_model

    try:
        return RestRouter(get_service_model(model))
    except UnknownServiceError:
        return None


def _match(router: Any, request: HttpRequest, path: str) -> str:
    if router is None:
        return ""
    from werkzeug.exceptions import HTTPException

    try:
        operation, _ = router.match(_View(request, path))
    except HTTPException:
        return ""
    return str(operation.name)


class _Fields(dict[str, str]):
    """Headers by any spelling, as the model's constraints ask for them."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())


class _View:
    """The few attributes of moto's request that its REST router looks at."""

    __slots__ = ("args", "headers", "host", "method", "raw_path")

    def __init__(self, request: HttpRequest, path: str) -> None:
        self.method = request.method
        self.raw_path = path
        self.host = "localhost"
        self.args = dict(parse_qsl(request.query, keep_blank_values=True)) if request.query else {}
        self.headers = _Fields(request.headers)
