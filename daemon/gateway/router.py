"""The router: an HTTP request becomes a command's `Request`: service, operation, region, account.

Where a request names its service, in this order (moto.moto_server.werkzeug_app, and what LocalStack's clients rely on):

1. the credential scope of its signature, in the Authorization header or in a presigned URL;
2. unsigned: the X-Amz-Target, the host, the Version or Action of a form, a well-known path;
3. otherwise it is S3's, as a plain GET of an object is.

The region comes from the scope, else the host, else the user agent, else us-east-1. The account is the access key if that is 12
digits, else the default; that a key made through IAM speaks for its own account is looked up where IAM's state is, when the
command runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from holdfast.daemon.command import Request
from holdfast.daemon.gateway.addressing import BY_MODULE, BY_TARGET, BY_VERSION, candidates
from holdfast.daemon.gateway.errors import MalformedRequest, NotImplementedYet, UnknownService, UnsupportedProtocol
from holdfast.daemon.gateway.hosts import REGION, Address, parse_authority, resolve
from holdfast.daemon.gateway.message import HOP_BY_HOP
from holdfast.daemon.gateway.operations import Operations, form_field

if TYPE_CHECKING:
    from holdfast.daemon.gateway.message import HttpRequest

__all__ = ["DEFAULT_ACCOUNT", "DEFAULT_REGION", "Router", "Scope", "scope_of"]

DEFAULT_ACCOUNT = "000000000000"
"""LocalStack's default account, not moto's (CONTRACT.md)."""

DEFAULT_REGION = "us-east-1"

UNSIGNED_ACTIONS = {"AssumeRoleWithSAML": "sts", "AssumeRoleWithWebIdentity": "sts"}
"""Actions of the query protocol that clients send without a signature."""

INVOKED_HOSTS = frozenset({"execute-api", "lambda-url"})
"""Labels of the hosts at which APIs and functions themselves are called, rather than the service that manages them."""

_ACCOUNT = re.compile(r"\d{12}")
_QUERY_CREDENTIAL = re.compile(r"(?:^|&)X-Amz-Credential=([^&]*)", re.IGNORECASE)
_AGENT_REGION = re.compile(rf"region/({REGION.pattern})")
_POOL_PAGE = re.compile(r"/(?P<pool>[^/]+)/\.well-known/(?:jwks\.json|openid-configuration)/?")
_SELF_CALL = re.compile(rf"/(?P<service>[a-z0-9-]+)_(?P<region>{REGION.pattern})/.*")
_QUEUE_PATH = re.compile(r"/(?:queue/[^/]+/)?\d{12}/[A-Za-z0-9_.-]+/?")


@dataclass(frozen=True, slots=True)
class Scope:
    """Who signed, and for what: any part is empty when the request does not say."""

    access_key: str = ""
    region: str = ""
    service: str = ""


class Router:
    """Turns requests into commands. `suffixes` are the domains a user allowed, whose first labels may be a bucket's name."""

    def __init__(self, default_account: str = DEFAULT_ACCOUNT, *, suffixes: tuple[str, ...] = ()) -> None:
        self._default_account = default_account
        self._suffixes = suffixes
        self._operations = Operations()

    def service(self, request: HttpRequest) -> str:
        """The service that a request is for, as far as its head says, for errors and limits; empty when it is unclear."""
        try:
            return self._modules(request, scope_of(request), self._address(request))[0]
        except (MalformedRequest, NotImplementedYet, UnknownService):
            return ""

    async def route(self, request: HttpRequest) -> Request:
        """The command's request. Raises UnknownService, MalformedRequest, NotImplementedYet, UnsupportedProtocol."""
        if request.get("smithy-protocol"):
            raise UnsupportedProtocol(f"the protocol {request.get('smithy-protocol')!r} is not served")
        scope, address = scope_of(request), self._address(request)
        modules = self._modules(request, scope, address)
        bucket = _bucket(modules[0], scope, address)
        path = f"/{bucket}{request.path}" if bucket else request.path
        module, operation = await self._operations.find(modules, request, path)
        region = self._region(request, scope, address)
        routed = Request(
            service=module,
            operation=operation,
            region=region,
            account=self._account(request, scope),
            method=request.method,
            target=request.target,
            headers=tuple(pair for pair in request.headers if pair[0] not in HOP_BY_HOP),
            body=request.body,
        )
        return _path_style(routed, path, request.query) if bucket or _names_s3(module, address) else routed

    def _address(self, request: HttpRequest) -> Address:
        try:
            return resolve(parse_authority(request.get("host")).name, self._suffixes)
        except ValueError:
            return Address()

    def _modules(self, request: HttpRequest, scope: Scope, address: Address) -> tuple[str, ...]:
        if request.path.startswith("/moto-api") or request.path == "/favicon.ico":
            return ("moto_api",)
        if request.path.startswith(("/latest/meta-data/", "/latest/api/")):
            return ("instance_metadata",)
        if scope.service:
            return self._signed(request, scope.service)
        return self._unsigned(request, address)

    def _signed(self, request: HttpRequest, service: str) -> tuple[str, ...]:
        modules = self._candidates(request, service)
        if not modules:
            raise UnknownService(
                f"the service {service!r} that the request is signed for is not one of those served here"
            )
        return modules

    def _candidates(self, request: HttpRequest, service: str) -> tuple[str, ...]:
        version = form_field(request, "Version") if request.is_form or request.query else ""
        target, host = request.get("x-amz-target"), request.get("host")
        return candidates(service.lower(), path=request.path, target=target, version=version, host=host)

    def _unsigned(self, request: HttpRequest, address: Address) -> tuple[str, ...]:
        target = request.get("x-amz-target")
        if target:
            service = BY_TARGET.get(target.rpartition(".")[0])
            if service is None:
                raise UnknownService(f"X-Amz-Target {target!r} names no service that is served here")
            return self._candidates(request, service.signing)
        if not INVOKED_HOSTS.isdisjoint(address.labels.split(".")) and "/@connections" not in request.path:
            raise NotImplementedYet("APIs and function URLs cannot be called at hosts of their own")
        if address.module:
            return self._candidates(request, BY_MODULE[address.module].signing) or (address.module,)
        return self._by_form(request) or _by_path(request.path) or self._plain(request, address)

    def _by_form(self, request: HttpRequest) -> tuple[str, ...]:
        if not request.is_form and not request.query:
            return ()
        service = BY_VERSION.get(form_field(request, "Version"))
        if service is not None:
            return (service.module,)
        action = form_field(request, "Action")
        if action in UNSIGNED_ACTIONS:
            return (UNSIGNED_ACTIONS[action],)
        return ("sqs",) if action and _QUEUE_PATH.fullmatch(request.path) else ()

    def _plain(self, request: HttpRequest, address: Address) -> tuple[str, ...]:
        if address.labels and not address.local:
            raise UnknownService(f"no service answers at the host {request.get('host')!r}")
        return ("s3",)

    def _region(self, request: HttpRequest, scope: Scope, address: Address) -> str:
        region = scope.region or address.region
        if region:
            return region
        page = _POOL_PAGE.fullmatch(request.path)
        if page is not None and "_" in page["pool"]:
            return page["pool"].rpartition("_")[0]
        called = _SELF_CALL.fullmatch(request.path) or _AGENT_REGION.search(request.get("user-agent"))
        return called[called.lastindex or 0] if called else DEFAULT_REGION

    def _account(self, request: HttpRequest, scope: Scope) -> str:
        named = request.get("x-moto-account-id")
        for account in (named, scope.access_key):
            if _ACCOUNT.fullmatch(account):
                return account
        return self._default_account


def scope_of(request: HttpRequest) -> Scope:
    """The credential scope of a request's signature. Raises MalformedRequest when it is signed and cannot be read."""
    authorization = request.get("authorization")
    scheme, _, rest = authorization.partition(" ")
    if scheme.startswith("AWS4-"):
        credential = re.search(r"Credential=([^,\s]*)", rest)
        return _parse_credential(credential[1] if credential else "", request)
    if scheme == "AWS":
        return Scope(access_key=rest.strip().partition(":")[0])
    presigned = _QUERY_CREDENTIAL.search(request.query) if request.query else None
    if presigned is not None:
        return _parse_credential(unquote(presigned[1]), request)
    # Signature version 2: S3's presigned URLs, and SimpleDB's forms.
    return Scope(access_key=form_field(request, "AWSAccessKeyId"))


def _parse_credential(credential: str, request: HttpRequest) -> Scope:
    """`<key>/<date>/<region>/<service>/aws4_request`; SigV4A has no region in it and names a set in a header."""
    match credential.rsplit("/", 4):
        case [key, _, region, service, "aws4_request"] if region and service:
            return Scope(key, region, service)
    match credential.rsplit("/", 3):
        case [key, _, service, "aws4_request"] if service:
            region = request.get("x-amz-region-set").partition(",")[0].strip("* ")
            return Scope(key, region, service)
    raise MalformedRequest(
        "the credential of the signature must be <access key>/<date>/<region>/<service>/aws4_request"
    )


def _by_path(path: str) -> tuple[str, ...]:
    if _POOL_PAGE.fullmatch(path):
        return ("cognitoidp",)
    called = _SELF_CALL.fullmatch(path)
    # moto calls itself so, for instance for the reply of a custom resource.
    return (called["service"],) if called and called["service"] in BY_MODULE else ()


def _names_s3(module: str, address: Address) -> bool:
    """True when the host names S3 in a way that moto would take for a bucket: moto knows only AWS's own names."""
    return module == "s3" and address.module == "s3" and address.local


def _bucket(module: str, scope: Scope, address: Address) -> str:
    """The bucket in the host of a virtual-hosted request, empty for any other."""
    if module != "s3" or scope.service == "s3-object-lambda" or "s3-accesspoint" in address.labels:
        return ""  # the last two have a route or an access point there
    if address.module == "s3":
        return address.bucket
    return address.labels if address.local else ""


def _path_style(request: Request, path: str, query: str) -> Request:
    """The same S3 request with its bucket in the path, at the host that moto knows S3 by."""
    authority = ("host", f"s3.{request.region}.amazonaws.com")
    headers = tuple(authority if pair[0] == "host" else pair for pair in request.headers)
    return replace(request, target=f"{path}?{query}" if query else path, headers=headers)
