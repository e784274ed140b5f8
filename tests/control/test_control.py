"""Control routes, held to what LocalStack's own clients read (CONTRACT.md)."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from holdfast.daemon.command import Reply
from holdfast.daemon.control import Stage
from holdfast.daemon.control.stages import Script, ScriptState
from holdfast.daemon.gateway.message import HttpRequest

pytestmark = pytest.mark.anyio


def data(reply: Reply) -> Any:
    assert dict(reply.headers)["content-type"] == "application/json"
    return json.loads(reply.body)


@pytest.mark.parametrize("path", ["/_localstack/health", "/health", "/_localstack/health/"])
async def test_health_has_exactly_the_keys_that_clients_know(path: str, client: Any) -> None:
    """The top level is fixed; services carry AWS's names; ours lies under features.holdfast."""
    client.daemon.states = {"awslambda": "running", "sqs": "error"}
    reply = await client.ask("GET", path)
    report = data(reply)
    assert reply.status == 200
    assert list(report) == ["services", "edition", "version", "features"]
    assert (report["edition"], report["version"]) == ("community", "1.2.3")
    assert report["features"] == {"persistence": "initialized", "holdfast": {"journal": {"sync": "always"}}}
    services = report["services"]
    assert (services["lambda"], services["sqs"], services["s3"]) == ("running", "error", "available")
    assert len(services) > 160
    assert "moto_api" not in services


async def test_health_is_503_until_recovery_is_over(client: Any) -> None:
    """What waits for the status waits; what reads the body sees that services are starting."""
    client.daemon.is_serving = False
    reply = await client.ask("GET", "/_localstack/health")
    assert reply.status == 503
    assert set(data(reply)["services"].values()) == {"starting"}
    assert (await client.ask("HEAD", "/_localstack/health")).status == 503
    client.daemon.is_serving = True
    assert (await client.ask("HEAD", "/_localstack/health")).status == 200


async def test_memory_only_daemon_says_so(client: Any) -> None:
    """Without persistence the feature is disabled."""
    client.daemon.is_persistent = False
    assert data(await client.ask("GET", "/health"))["features"]["persistence"] == "disabled"


async def test_reported_features_merge(client: Any) -> None:
    """`features:x` is x within features; what is reported twice merges; our own are not overwritten."""
    for body in (
        {"features:initScripts": "initialized"},
        {"features": {"a": {"b": 1}}},
        {"features:a:c": 2, "other": 3},
    ):
        reply = await client.ask("PUT", "/_localstack/health", json.dumps(body).encode())
        assert (reply.status, data(reply)) == (200, {"status": "OK"})
    await client.ask("PUT", "/_localstack/health", b'{"features:persistence": "lost", "features:holdfast": 0}')
    report = data(await client.ask("GET", "/_localstack/health"))
    assert list(report) == ["services", "edition", "version", "features"]
    assert report["features"] == {
        "initScripts": "initialized",
        "a": {"b": 1, "c": 2},
        "other": 3,
        "persistence": "initialized",
        "holdfast": {"journal": {"sync": "always"}},
    }
    assert (await client.ask("PUT", "/_localstack/health", b"[]")).status == 400
    many = json.dumps({f"f{n}": n for n in range(100)}).encode()
    assert (await client.ask("PUT", "/_localstack/health", many)).status == 400


@pytest.mark.parametrize(("action", "restart"), [("kill", False), ("restart", True)])
async def test_health_stops_and_restarts(action: str, restart: bool, client: Any) -> None:
    """POST with an action is how clients stop a daemon; the reply is `ok`."""
    reply = await client.ask("POST", "/_localstack/health", json.dumps({"action": action}).encode())
    assert (reply.status, reply.body) == (200, b"ok")
    assert client.daemon.stops == [restart]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"nonsense", b'{"action": "dance"}'])
async def test_health_refuses_what_is_no_action(body: bytes, client: Any) -> None:
    """An empty body, or an action that there is not, is 400 and stops nothing."""
    assert (await client.ask("POST", "/_localstack/health", body)).status == 400
    assert client.daemon.stops == []


async def test_info_has_exactly_the_keys_that_clients_know(client: Any) -> None:
    """Nine keys; uptime is an integer."""
    info = data(await client.ask("GET", "/_localstack/info"))
    assert list(info) == [
        "version", "edition", "is_license_activated", "session_id", "machine_id", "system", "is_docker",
        "server_time_utc", "uptime",
    ]  # fmt: skip
    assert (info["uptime"], info["is_license_activated"]) == (12, False)
    assert dt.datetime.fromisoformat(info["server_time_utc"]).tzinfo is None


async def test_plugins_is_an_object(client: Any) -> None:
    """The providers, as LocalStack lists them."""
    client.daemon.states = {"sqs": "running"}
    providers = data(await client.ask("GET", "/_localstack/plugins"))["localstack.aws.provider"]
    loaded = {provider["name"]: provider["is_loaded"] for provider in providers}
    assert (loaded["sqs:moto"], loaded["s3:moto"]) == (True, False)


async def test_init_shows_stages_and_scripts(client: Any) -> None:
    """All stages, or one by its name; an unknown one is 404 in text."""
    client.stages.complete(Stage.BOOT)
    script = client.stages.add(Script(Stage.READY, "seed.sh"))
    script.state = ScriptState.ERROR
    shown = {"stage": "READY", "name": "seed.sh", "state": "ERROR"}
    assert data(await client.ask("GET", "/_localstack/init")) == {
        "completed": {"BOOT": True, "START": False, "READY": False, "SHUTDOWN": False},
        "scripts": [shown],
    }
    assert data(await client.ask("GET", "/_localstack/init/ready")) == {"completed": False, "scripts": [shown]}
    assert data(await client.ask("GET", "/_localstack/init/BOOT")) == {"completed": True, "scripts": []}
    unknown = await client.ask("GET", "/_localstack/init/lunch")
    assert unknown.status == 404
    assert dict(unknown.headers)["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "path", ["/_localstack", "/_localstack/", "/_localstack/nope", "/_holdfast/nope", "/_localstack/a/b/c"]
)
async def test_unknown_control_route_is_404_with_a_body(path: str, client: Any) -> None:
    """Never empty, never S3's XML: `lstk` would take that for a paid feature."""
    reply = await client.ask("GET", path)
    assert reply.status == 404
    assert data(reply)["error"] == "not found"


async def test_known_route_says_which_methods_it_takes(client: Any) -> None:
    """A wrong method is 405 and names the right ones."""
    reply = await client.ask("DELETE", "/_localstack/info")
    assert (reply.status, dict(reply.headers)["allow"]) == (405, "GET, HEAD")


async def test_status_is_json(client: Any) -> None:
    """`/_holdfast/status` is everything Holdfast says of itself."""
    assert data(await client.ask("GET", "/_holdfast/status")) == {"journal": {"sync": "always"}}


@pytest.mark.parametrize(
    "request_",
    [
        HttpRequest("GET", "/health", headers=(("authorization", "AWS4-HMAC-SHA256 Credential=x"),)),
        HttpRequest("GET", "/health", "X-Amz-Credential=x"),
        HttpRequest("PUT", "/health"),
        HttpRequest("GET", "/health/key"),
        HttpRequest("GET", "/_localstacks"),
        HttpRequest("GET", "/bucket/_localstack/health"),
    ],
)
async def test_bucket_that_is_called_health_stays_a_bucket(request_: HttpRequest, client: Any) -> None:
    """What a client signed, or writes, is for S3."""
    assert not client.routes.owns(request_)
