"""The gateway as an application: from a request's head to the reply, whatever goes wrong between."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import anyio
import pytest

from holdfast.daemon.command import Reply
from holdfast.daemon.gateway import Limits
from holdfast.daemon.services.moto.dispatch import UnknownService

pytestmark = pytest.mark.anyio

JSON = {"x-amz-target": "AmazonSQS.SendMessage"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
SIGNED = "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"


def xml(body: bytes) -> Any:
    return ET.fromstring(body)


async def test_request_reaches_the_executor_and_its_reply_the_client(edge: Any) -> None:
    """What the service answers is what the client gets: status, headers, body."""
    edge.executor.reply = Reply(201, (("ETag", '"x"'), ("x-amz-meta-a", "é"), ("connection", "close")), b"made")
    answer = await edge.ask("PUT", "/b/k?x=1", body=b"data")
    (request,) = edge.executor.requests
    assert (request.method, request.target, request.body) == ("PUT", "/b/k?x=1", b"data")
    assert (answer.status, answer.body) == (201, b"made")
    assert answer.headers["etag"] == '"x"'
    assert answer.headers["x-amz-meta-a"] == "é"
    assert answer.headers["content-length"] == "4"
    assert answer.headers["date"].endswith("GMT")
    assert "connection" not in answer.headers


async def test_head_has_the_length_and_no_body(edge: Any) -> None:
    """A HEAD is told how long the object is, and is sent nothing of it."""
    edge.executor.reply = Reply(200, (("content-length", "1234"),), b"")
    answer = await edge.ask("HEAD", "/b/k")
    assert (answer.headers["content-length"], answer.body) == ("1234", b"")


async def test_reply_with_a_line_break_in_a_header_stays_one_reply(edge: Any) -> None:
    """A header's value cannot end the header: nobody splits a response."""
    edge.executor.reply = Reply(200, (("x-amz-meta-a", "1\r\nset-cookie: x"),), b"")
    answer = await edge.ask("GET", "/b/k")
    assert answer.headers["x-amz-meta-a"] == "1  set-cookie: x"
    assert "set-cookie" not in answer.headers


async def test_refusal_of_the_journal_is_a_503_that_clients_repeat(edge: Any, refused: type[Exception]) -> None:
    """Nothing was executed: the client hears it in its own protocol, and when to come again."""
    edge.executor.error = refused("the disk is full")
    answer = await edge.ask("POST", "/", {**JSON, "authorization": SIGNED.format("sqs")})
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert json.loads(answer.body) == {"__type": "ServiceUnavailableException", "message": "the disk is full"}
    answer = await edge.ask("PUT", "/b/k", {"authorization": SIGNED.format("s3")})
    assert xml(answer.body).findtext("Code") == "ServiceUnavailable"
    assert answer.status == 503


async def test_bug_is_answered_without_a_traceback(edge: Any) -> None:
    """Whatever fails inside, the client gets InternalFailure and not a line of our code."""
    edge.executor.error = RuntimeError("secret detail in /home/user/app.py")
    answer = await edge.ask("POST", "/", {**JSON, "authorization": SIGNED.format("sqs")})
    assert answer.status == 500
    assert json.loads(answer.body)["__type"] == "InternalFailure"
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({**JSON, "authorization": SIGNED.format("amplify")}, "UnknownServiceException"),
        ({"authorization": SIGNED.format("amplify"), "content-type": "application/json"}, "UnknownServiceException"),
        ({**FORM, "authorization": SIGNED.format("amplify")}, "UnknownService"),
        ({"authorization": SIGNED.format("amplify")}, "UnknownServiceException"),
        ({**JSON, "authorization": "AWS4-HMAC-SHA256 x"}, "IncompleteSignatureException"),
    ],
)
async def test_unknown_service_is_an_error_of_the_clients_protocol(
    headers: dict[str, str], code: str, edge: Any
) -> None:
    """A service that there is not is said so in the way the client reads errors, never a 500."""
    answer = await edge.ask("POST", "/", headers)
    assert answer.status in {400, 404}
    if answer.body.startswith(b"{"):
        named = json.loads(answer.body).get("__type") or answer.headers["x-amzn-errortype"]
    else:
        named = xml(answer.body).findtext(".//Code")
    assert named == code
    assert not edge.executor.requests


async def test_service_that_moto_lacks_is_unknown(edge: Any) -> None:
    """The table may name what the installed moto has not: that is the same error."""
    edge.executor.error = UnknownService("sqs")
    answer = await edge.ask("POST", "/", {**JSON, "authorization": SIGNED.format("sqs")})
    assert answer.status == 404


async def test_body_over_its_limit_is_refused_unread(make_edge: Callable[..., Any]) -> None:
    """A body that is announced too large is not asked for; one that turns out too large is not kept."""
    edge = make_edge(limits=Limits(body_bytes_max=10, object_bytes_max=20))
    answer = await edge.ask("POST", "/", {**JSON, "content-length": "11"}, b"x" * 11)
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert json.loads(answer.body)["__type"] == "RequestEntityTooLargeException"
    answer = await edge.ask("PUT", "/b/k", {}, b"x" * 21)
    assert (answer.status, xml(answer.body).findtext("Code")) == (400, "EntityTooLarge")
    assert (await edge.ask("PUT", "/b/k", {"content-length": "20"}, b"x" * 20)).status == 200
    assert len(edge.executor.requests) == 1
    assert (await edge.ask("PUT", "/b/k", {"content-length": "-1"})).status == 400


async def test_bodies_together_have_a_limit(make_edge: Callable[..., Any]) -> None:
    """When the bodies in work fill their memory the next one is told to come again, and S3 calls that SlowDown."""
    edge = make_edge(limits=Limits(bodies_bytes_max=10))
    answer = await edge.ask("PUT", "/b/k", {}, b"x" * 11)
    assert (answer.status, xml(answer.body).findtext("Code")) == (503, "SlowDown")
    assert (await edge.ask("PUT", "/b/k", {}, b"x" * 10)).status == 200


async def test_too_many_requests_are_told_to_come_again(make_edge: Callable[..., Any]) -> None:
    """Beyond the limit of requests in work nothing is executed."""
    edge = make_edge(limits=Limits(requests_max=0))
    answer = await edge.ask("GET", "/b/k")
    assert (answer.status, xml(answer.body).findtext("Code")) == (503, "SlowDown")


async def test_uri_over_its_limit_is_refused(make_edge: Callable[..., Any]) -> None:
    """A target that no AWS client makes is 414."""
    edge = make_edge(limits=Limits(uri_bytes_max=100))
    assert (await edge.ask("GET", "/" + "x" * 100)).status == 414


async def test_client_that_stops_sending_is_let_go(make_edge: Callable[..., Any]) -> None:
    """A body whose next piece does not come is given up, with S3's name for it."""
    edge = make_edge(limits=Limits(body_timeout_s=0.01))

    async def never() -> Any:
        await anyio.sleep_forever()

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "PUT", "raw_path": b"/b/k", "query_string": b"", "headers": [(b"host", b"localhost")],
    }  # fmt: skip
    await edge.gateway(scope, never, send)
    assert sent[0]["status"] == 400
    assert xml(sent[1]["body"]).findtext("Code") == "RequestTimeout"
    assert edge.gateway.in_work == 0


async def test_aws_requests_wait_for_recovery(make_edge: Callable[..., Any]) -> None:
    """Before recovery is over nothing executes, and control routes answer."""
    edge = make_edge(serving=False)
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await edge.ask("GET", "/b/k"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        assert (await edge.ask("GET", "/_localstack/health")).status == 200
        await anyio.sleep(0.01)
        assert not answers
        assert not edge.executor.requests
        edge.gateway.serve()
    assert answers[0].status == 200


async def test_recovery_that_takes_long_is_a_503(make_edge: Callable[..., Any]) -> None:
    """A request does not wait for ever for recovery to end."""
    edge = make_edge(limits=Limits(first_byte_s=0.01), serving=False)
    assert (await edge.ask("GET", "/b/k")).status == 503


async def test_draining_gateway_takes_no_new_request(edge: Any) -> None:
    """On the way down new requests are told to come again; control routes answer to the end."""
    edge.gateway.drain()
    assert (await edge.ask("GET", "/b/k")).status == 503
    assert (await edge.ask("GET", "/_localstack/health")).status == 200
    assert not edge.executor.requests
