"""Errors of the gateway, and their AWS shapes.

An error is raised where it is found, without knowing how the client wants to hear it; `render` writes it in the client's
protocol.
Shapes: https://smithy.io/2.0/aws/protocols/ for each protocol, and the S3 API reference ("REST error responses").
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, ClassVar
from xml.sax.saxutils import escape

from holdfast.daemon.command import Reply, Request
from holdfast.daemon.gateway.addressing import BY_MODULE, Protocol

if TYPE_CHECKING:
    from holdfast.daemon.gateway.message import HttpRequest

__all__ = [
    "BodyTooLarge",
    "ForeignHost",
    "ForeignOrigin",
    "GatewayError",
    "InternalFailure",
    "MalformedRequest",
    "NotImplementedYet",
    "Overloaded",
    "RequestTimeout",
    "ServiceUnavailable",
    "TokenNeeded",
    "UnknownService",
    "UnsupportedProtocol",
    "UriTooLong",
    "failure",
    "render",
]


# ---------------------------------------------------------------- what can be wrong


class GatewayError(Exception):
    """Base of what the gateway answers by itself. `codes` overrides `code` for single services (S3 has names of its own)."""

    status = 400
    code = "BadRequest"
    codes: ClassVar[dict[str, str]] = {}
    statuses: ClassVar[dict[str, int]] = {}
    retry_after_s: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


# the client is not let in


class ForeignHost(GatewayError):
    """Raised when the Host header names none of the hosts that may be asked for (DNS rebinding)."""

    status, code = 403, "AccessDenied"


class ForeignOrigin(GatewayError):
    """Raised when a page of another origin asks for something it may not."""

    status, code = 403, "AccessDenied"


class TokenNeeded(GatewayError):
    """Raised when a control route is asked for from elsewhere without the daemon's token."""

    status, code = 401, "AccessDenied"


# the request cannot be read


class MalformedRequest(GatewayError):
    """Raised when a request contradicts itself or its signature names no service."""

    status, code = 400, "IncompleteSignature"
    codes: ClassVar[dict[str, str]] = {"s3": "AuthorizationHeaderMalformed"}


class UnknownService(GatewayError):
    """Raised when a request names a service that there is not."""

    status, code = 404, "UnknownService"


class UnsupportedProtocol(GatewayError):
    """Raised when a request speaks a protocol that is not served."""

    status, code = 415, "UnsupportedProtocol"


# the request exceeds a limit


class BodyTooLarge(GatewayError):
    """Raised when a body is larger than its limit; the rest of it is not read."""

    status, code = 413, "RequestEntityTooLarge"
    codes: ClassVar[dict[str, str]] = {"s3": "EntityTooLarge"}
    statuses: ClassVar[dict[str, int]] = {"s3": 400}


class UriTooLong(GatewayError):
    """Raised when path and query together exceed their limit."""

    status, code = 414, "RequestUriTooLong"


class RequestTimeout(GatewayError):
    """Raised when a client stopped sending the body it announced."""

    status, code = 408, "RequestTimeout"
    statuses: ClassVar[dict[str, int]] = {"s3": 400}


# the daemon cannot take it now


class Overloaded(GatewayError):
    """Raised when too many requests, or too many bytes of bodies, are in work; nothing was executed."""

    status, code, retry_after_s = 503, "ServiceUnavailable", 1
    codes: ClassVar[dict[str, str]] = {"s3": "SlowDown"}


class ServiceUnavailable(GatewayError):
    """Raised when the journal refused: nothing was executed, or nothing can be acknowledged any more."""

    status, code, retry_after_s = 503, "ServiceUnavailable", 1


class NotImplementedYet(GatewayError):
    """Raised for what AWS has and nothing here answers."""

    status, code = 501, "NotImplemented"


class InternalFailure(GatewayError):
    """Raised for what should not happen. The traceback goes to the log, never to the client."""

    status, code = 500, "InternalFailure"
    codes: ClassVar[dict[str, str]] = {"s3": "InternalError"}


# ---------------------------------------------------------------- how the client hears it


def render(error: GatewayError, request: HttpRequest, service: str = "") -> Reply:
    """`error` in the protocol of `request`; `service` is moto's name, empty when it is not known."""
    is_signed = request.get("authorization").startswith("AWS4")
    protocol = _protocol(service, request.get("x-amz-target"), request.get("content-type"), is_signed=is_signed)
    return _shape(error, protocol, service, request.path)


def failure(request: Request, error: Exception) -> Reply:
    """The reply to a command whose service raised `error`: the executor's fallback, the same live and on replay.

    The text names the exception but not the place: that is in the log.
    """
    if isinstance(error, NotImplementedError):
        raised: GatewayError = NotImplementedYet(f"{request.service} {request.operation} is not implemented: {error}")
    else:
        raised = InternalFailure(
            f"{type(error).__name__} in {request.service} {request.operation}; the log has the details"
        )
    protocol = _protocol(request.service, request.header("x-amz-target"), request.header("content-type"))
    return _shape(raised, protocol, request.service, request.target.partition("?")[0])


def _protocol(service: str, target: str, content_type: str, *, is_signed: bool = False) -> Protocol | None:
    """How to speak to the client; None is S3's way, which is also the one for a request that says nothing at all.

    A service that is signed for and not known is most likely a new one, and those speak JSON over REST.
    """
    if target:
        return Protocol.JSON
    known = BY_MODULE.get(service)
    if content_type.startswith("application/x-www-form-urlencoded") and (
        known is None or known.protocol in (Protocol.JSON, Protocol.QUERY)
    ):
        return Protocol.QUERY
    if known is not None:
        return None if service == "s3" else known.protocol
    if content_type.startswith("application/x-amz-json"):
        return Protocol.JSON
    return Protocol.REST_JSON if is_signed or content_type.startswith("application/json") else None


def _shape(error: GatewayError, protocol: Protocol | None, service: str, resource: str) -> Reply:
    request_id = str(uuid.uuid4())
    kind = "s3" if protocol is None else service
    code, status = error.codes.get(kind, error.code), error.statuses.get(kind, error.status)
    headers = [("x-amzn-requestid", request_id)]
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(error.retry_after_s)))
    if protocol is Protocol.JSON or protocol is Protocol.REST_JSON:
        more, body = _json(error.message, code, protocol)
    elif protocol is None:
        more, body = _s3(error.message, code, request_id, resource)
    else:
        more, body = _xml(error.message, code, request_id, protocol, status)
    return Reply(status, (*headers, *more), body)


Headers = tuple[tuple[str, str], ...]


def _json(message: str, code: str, protocol: Protocol) -> tuple[Headers, bytes]:
    code = code if code.endswith(("Exception", "Failure")) else f"{code}Exception"
    if protocol is Protocol.JSON:
        return (("content-type", "application/x-amz-json-1.0"),), json.dumps(
            {"__type": code, "message": message}
        ).encode()
    named = (("content-type", "application/json"), ("x-amzn-errortype", code))
    return named, json.dumps({"message": message}).encode()


def _s3(message: str, code: str, request_id: str, resource: str) -> tuple[Headers, bytes]:
    named = (("content-type", "application/xml"), ("x-amz-request-id", request_id), ("x-amz-id-2", request_id))
    return named, _document(
        f"<Error>{_said(code, message)}<Resource>{_text(resource)}</Resource>"
        f"<RequestId>{request_id}</RequestId><HostId>{request_id}</HostId></Error>"
    )


def _xml(message: str, code: str, request_id: str, protocol: Protocol, status: int) -> tuple[Headers, bytes]:
    said = _said(code, message)
    if protocol is Protocol.EC2:
        text = f"<Response><Errors><Error>{said}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
    else:
        fault = "Receiver" if status >= 500 else "Sender"
        text = f"<ErrorResponse><Error><Type>{fault}</Type>{said}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    return (("content-type", "text/xml"),), _document(text)


def _said(code: str, message: str) -> str:
    return f"<Code>{code}</Code><Message>{_text(message)}</Message>"


def _document(text: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def _text(text: str) -> str:
    """Text for XML: escaped, and without the characters that XML 1.0 cannot carry even so."""
    return escape("".join(char if char >= " " else "?" for char in text))
