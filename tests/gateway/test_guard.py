"""The guard: no page of a stranger reaches a backend or a control route."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.daemon.gateway import GuardSettings

pytestmark = pytest.mark.anyio

OURS = [
    "localhost:4566",
    "127.0.0.1:4566",
    "127.8.9.10",
    "[::1]:4566",
    "bucket.localhost:4566",
    "localhost.localstack.cloud:4566",
    "bucket.s3.localhost.localstack.cloud:4566",
    "LOCALHOST:4566",
    "localhost.:4566",
    "sync-localhost:4566",
    "data-localhost.localstack.cloud",
    "123456789012.localhost:4566",
    "sqs.us-east-1.amazonaws.com",
]
FOREIGN = [
    "evil.example",
    "evil.example:4566",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "localstack.cloud",
    "amazonaws.com.evil.example",
    "evilamazonaws.com",
    "evil-localhost",
    "192.168.1.7:4566",
    "0.0.0.0:4566",
    "[::]:4566",
    "localhost:99999",
    "localhost:4566@evil.example",
    "localhost/evil",
    "local host",
    "",
]


@pytest.mark.parametrize("host", OURS)
async def test_own_host_is_let_in(host: str, edge: Any) -> None:
    """Loopback, its names, LocalStack's domain, AWS's names and botocore's prefixed forms are served."""
    assert (await edge.ask("GET", "/b/k", {"host": host})).status == 200


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("target", ["/b/k", "/_localstack/health", "/moto-api/reset"])
async def test_rebound_host_is_kept_out(host: str, target: str, edge: Any) -> None:
    """A name that a stranger can point to this machine reaches nothing."""
    answer = await edge.ask("GET", target, {"host": host})
    assert answer.status == 403
    assert not edge.executor.requests
    assert not edge.control.requests


async def test_request_without_one_host_is_kept_out(edge: Any) -> None:
    """No Host, or two, is not a request that a client of ours sends; HTTP/1.0 knows none, and no browser speaks it."""
    assert (await edge.ask("GET", "/b/k", [("host", "localhost"), ("host", "localhost")])).status == 403
    assert not edge.executor.requests


async def test_allowed_hosts_are_let_in(make_edge: Callable[..., Any]) -> None:
    """HOLDFAST_ALLOWED_HOSTS opens names, and with `*.` all names below one."""
    edge = make_edge(GuardSettings(allowed_hosts=("localstack", "Host.Docker.Internal", "*.dev.example")))
    for host in ("localstack:4566", "host.docker.internal:4566", "bucket.dev.example"):
        assert (await edge.ask("GET", "/b/k", {"host": host})).status == 200
    for host in ("dev.example", "x.localstack", "evil.example"):
        assert (await edge.ask("GET", "/b/k", {"host": host})).status == 403


async def test_literal_address_of_the_connection_is_let_in(edge: Any) -> None:
    """A container is reached by its own address; a page that got there by rebinding would send a name."""
    local = {"server": ("172.17.0.2", 4566)}
    assert (await edge.ask("GET", "/b/k", {"host": "172.17.0.2:4566"}, **local)).status == 200
    assert (await edge.ask("GET", "/b/k", {"host": "172.17.0.3:4566"}, **local)).status == 403


STRANGERS: list[dict[str, str]] = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost.evil.example"},
    {"origin": "chrome-extension://abc"},
    {"origin": "http://localhost:3000@evil.example"},
    {"referer": "https://evil.example/page"},
    {"referer": "nonsense"},
    {"sec-fetch-site": "cross-site"},
]
NEIGHBOURS: list[dict[str, str]] = [
    {"origin": "http://localhost:3000"},
    {"origin": "https://127.0.0.1:8443"},
    {"origin": "http://[::1]:5173"},
    {"origin": "http://app.localhost"},
    {"referer": "http://localhost:3000/page"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {},
]
METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"]
TYPES = ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"]
TARGETS = ["/", "/b/k", "/?Action=CreateUser&Version=2010-05-08", "/moto-api/reset", "/_localstack/state/reset"]


async def test_strangers_page_reaches_nothing_whatever_it_sends(edge: Any) -> None:
    """8 kinds of strangers by 7 methods by 5 content types by 5 targets on every host of ours: no backend, no control route."""
    asked = 0
    for page, method, kind, target in itertools.product(STRANGERS, METHODS, TYPES, TARGETS):
        headers = {**page, **({"content-type": kind} if kind else {}), "host": OURS[asked % len(OURS)]}
        answer = await edge.ask(method, target, headers, b"Action=CreateUser&UserName=x")
        assert answer.status == 403, (page, method, kind, target, headers["host"])
        assert "access-control-allow-origin" not in answer.headers
        asked += 1
    assert asked == 8 * 7 * 5 * 5
    # All that ran was the question for a bucket's own rules, which let nobody in here.
    assert {(request.operation, request.body) for request in edge.executor.requests} == {("GetBucketCors", b"")}
    assert not edge.control.requests


async def test_only_own_hosts_and_known_origins_reach_a_backend(edge: Any) -> None:
    """8 hosts by 6 origins by 7 methods by 5 content types: what is let in is exactly what both checks know."""
    hosts = dict.fromkeys(["localhost:4566", "127.0.0.1:4566", "[::1]:4566", "b.s3.localhost.localstack.cloud"], True)
    hosts |= dict.fromkeys(["evil.example", "127.0.0.1.nip.io:4566", "localhost.evil.example", "10.0.0.7:4566"], False)
    origins = dict.fromkeys(["", "http://localhost:3000", "http://127.0.0.1:4566"], True)
    origins |= dict.fromkeys(["null", "https://evil.example", "http://localhost.evil.example"], False)
    reached = 0
    for host, origin, method, kind in itertools.product(hosts, origins, METHODS, TYPES):
        edge.executor.requests.clear()
        headers = {"host": host, "origin": origin, "content-type": kind}
        answer = await edge.ask(method, "/b/k", {name: value for name, value in headers.items() if value})
        is_ours = hosts[host] and origins[origin]
        ran = [request for request in edge.executor.requests if request.operation != "GetBucketCors"]
        assert (answer.status == 200, len(ran)) == (is_ours, int(is_ours)), headers
        reached += len(ran)
    assert reached == 4 * 3 * 7 * 5


@pytest.mark.parametrize("page", NEIGHBOURS)
async def test_page_on_this_machine_uses_aws_routes(page: dict[str, str], edge: Any) -> None:
    """Pages on loopback, whatever their port, and clients that are no page are served."""
    answer = await edge.ask("PUT", "/b/k", page)
    assert answer.status == 200
    if "origin" in page:
        assert answer.headers["access-control-allow-origin"] == page["origin"]
        assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("page", [page for page in NEIGHBOURS if page.get("sec-fetch-site") != "none" and page])
async def test_control_routes_need_the_same_origin(page: dict[str, str], edge: Any) -> None:
    """Another port on this machine is another program: it may not reset a whole state."""
    assert (await edge.ask("POST", "/_localstack/state/reset", page)).status == 403
    assert not edge.control.requests


async def test_own_page_uses_control_routes(edge: Any) -> None:
    """The dashboard is a page of this very endpoint."""
    for host in ("localhost:4566", "127.0.0.1:4566", "[::1]:4566"):
        answer = await edge.ask("POST", "/_localstack/x", {"host": host, "origin": f"http://{host}"})
        assert answer.status == 200
    assert (await edge.ask("POST", "/_localstack/x", {"origin": "https://localhost:4566"})).status == 403


async def test_control_routes_are_not_served_at_aws_names(edge: Any) -> None:
    """What is sent to AWS's names is AWS's."""
    assert (await edge.ask("GET", "/_localstack/health", {"host": "s3.amazonaws.com"})).status == 403


async def test_extra_origins_are_let_in(make_edge: Callable[..., Any]) -> None:
    """EXTRA_CORS_ALLOWED_ORIGINS names whole origins; DISABLE_CORS_CHECKS lets all in, to AWS routes only."""
    extra = make_edge(GuardSettings(allowed_origins=("https://app.example",)))
    assert (await extra.ask("PUT", "/b/k", {"origin": "https://app.example"})).status == 200
    assert (await extra.ask("PUT", "/b/k", {"origin": "https://app.example.evil"})).status == 403
    assert (await extra.ask("POST", "/_localstack/x", {"origin": "https://app.example"})).status == 200
    disabled = make_edge(GuardSettings(disable_cors_checks=True))
    assert (await disabled.ask("PUT", "/b/k", {"origin": "https://any.example"})).status == 200
    assert (await disabled.ask("POST", "/_localstack/x", {"origin": "https://any.example"})).status == 403


async def test_preflight_is_answered_for_those_who_may(edge: Any) -> None:
    """A browser asks before it sends; the answer lets a page on this machine use any method and its headers."""
    asked = {
        "origin": "http://localhost:3000",
        "access-control-request-method": "PUT",
        "access-control-request-headers": "x-amz-target,authorization",
        "access-control-request-private-network": "true",
    }
    answer = await edge.ask("OPTIONS", "/b/k", asked)
    assert answer.status == 204
    assert answer.headers["access-control-allow-headers"] == "x-amz-target,authorization"
    assert "PUT" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert not edge.executor.requests
    stranger = await edge.ask("OPTIONS", "/b/k", {**asked, "origin": "https://evil.example"})
    assert stranger.status == 403


async def test_control_routes_need_the_token_from_elsewhere(make_edge: Callable[..., Any]) -> None:
    """Another machine needs the token, as a bearer or as Basic's password; health and info need none."""
    edge = make_edge(GuardSettings(token="s3cret"))
    away = {"client": ("192.168.1.9", 40000)}
    basic = base64.b64encode(b":s3cret").decode()
    for authorization, status in (
        ("", 401),
        ("Bearer wrong", 401),
        ("Bearer s3cret", 200),
        (f"Basic {basic}", 200),
        ("Basic %%%", 401),
        ("Digest s3cret", 401),
    ):
        answer = await edge.ask("POST", "/_localstack/x", {"authorization": authorization}, **away)
        assert answer.status == status, authorization
    for target in ("/_localstack/health", "/_localstack/info"):
        assert (await edge.ask("GET", target, **away)).status == 200
    assert (await edge.ask("POST", "/_localstack/health", **away)).status == 401
    assert (await edge.ask("POST", "/_localstack/x")).status == 200


async def test_without_a_token_control_routes_are_for_this_machine(make_edge: Callable[..., Any]) -> None:
    """No token was made: nobody from elsewhere gets in, unless that was asked for."""
    away = {"client": ("192.168.1.9", 40000)}
    closed, insecure = make_edge(), make_edge(GuardSettings(insecure=True))
    assert (await closed.ask("POST", "/_localstack/x", {"authorization": "Bearer "}, **away)).status == 401
    assert (await insecure.ask("POST", "/_localstack/x", **away)).status == 200
