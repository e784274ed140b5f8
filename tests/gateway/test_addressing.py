"""The table of services, held to botocore and to moto: one operation of every service, as botocore itself sends it."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from botocore.model import OperationModel, Shape

from holdfast.daemon.gateway.addressing import BY_MODULE, SERVICES
from holdfast.daemon.gateway.message import HttpRequest
from holdfast.daemon.gateway.router import Router

pytestmark = pytest.mark.anyio

REGION = "eu-west-1"
INTERNAL = {"dynamodb_v20111205", "instance_metadata", "moto_api"}
MODELLED = [service for service in SERVICES if service.module not in INTERNAL]

OPERATIONS_EACH = int(os.environ.get("GATEWAY_TEST_OPERATIONS", "3"))
"""Operations of each service that are sent: the first, a middle and the last by name; 0 is all 11,399 of them (a minute)."""


SAME_ON_THE_WIRE = {
    ("s3", "GetBucketLifecycle"): ("s3", "GetBucketLifecycleConfiguration"),
    ("s3", "PutBucketLifecycle"): ("s3", "PutBucketLifecycleConfiguration"),
    ("s3", "GetBucketNotification"): ("s3", "GetBucketNotificationConfiguration"),
    ("s3", "ListDirectoryBuckets"): ("s3", "ListBuckets"),
    ("s3", "PutBucketNotification"): ("s3", "PutBucketNotificationConfiguration"),
    **{
        ("timestreamquery", name): ("timestreamwrite", name)
        for name in ("DescribeEndpoints", "ListTagsForResource", "TagResource", "UntagResource")
    },
}
"""Deprecated operations, and operations of two services in one, that no request tells apart from these."""


class Captured(Exception):
    """Carries a request out of botocore before it is sent."""


@pytest.fixture(scope="module")
def session() -> Any:
    return botocore.session.get_session()


def sample(shape: Shape | None, depth: int = 0) -> Any:
    """A value that botocore's serializer takes for `shape`: required members only."""
    if shape is None:
        return {}
    match shape.type_name:
        case "structure":
            required = set(shape.required_members)
            uri = {n for n, m in shape.members.items() if m.serialization.get("location") == "uri"}
            return {name: sample(shape.members[name], depth + 1) for name in required | uri} if depth < 6 else {}
        case "list":
            return [sample(shape.member, depth + 1)] * max(1, shape.metadata.get("min", 1)) if depth < 6 else []
        case "map":
            return {}
        case "string":
            if shape.enum:
                return shape.enum[0]
            return ("123456789012" * 9)[: max(12, shape.metadata.get("min", 12))]
        case "integer" | "long":
            return max(1, shape.metadata.get("min", 1))
        case "float" | "double":
            return 1.0
        case "boolean":
            return True
        case "timestamp":
            return 1700000000
        case "blob":
            return b"x" * max(1, shape.metadata.get("min", 1))
    raise AssertionError(shape.type_name)


def sent(session: Any, model: str, operation: OperationModel) -> AWSPreparedRequest | None:
    """The signed request that botocore would send for `operation` to an endpoint on this machine.

    None for streams in both directions, which need HTTP/2 and which botocore has no method for.
    """
    client = session.create_client(
        model,
        region_name=REGION,
        endpoint_url="http://localhost:4566",
        aws_access_key_id="111122223333",
        aws_secret_access_key="x",
        config=Config(parameter_validation=False, retries={"max_attempts": 0}),
    )
    captured: list[AWSPreparedRequest] = []

    def capture(request: AWSPreparedRequest, **_: Any) -> None:
        captured.append(request)
        raise Captured

    client.meta.events.register("before-send", capture)
    method = next((name for name, op in client.meta.method_to_api_mapping.items() if op == operation.name), "")
    if not hasattr(client, method):
        assert operation.has_event_stream_input
        return None
    with pytest.raises(Captured):
        getattr(client, method)(**sample(operation.input_shape))
    return captured[0]


def arrived(request: AWSPreparedRequest) -> HttpRequest:
    url = urlsplit(request.url)
    headers = [
        (name.lower(), value.decode() if isinstance(value, bytes) else str(value))
        for name, value in request.headers.items()
    ]
    if not any(name == "host" for name, _ in headers):
        headers.append(("host", url.netloc))
    body = request.body.read() if hasattr(request.body, "read") else request.body or b""
    body = body.encode() if isinstance(body, str) else body
    return HttpRequest(request.method, url.path, url.query, tuple(headers), body)


def chosen(names: list[str]) -> list[str]:
    if not OPERATIONS_EACH or len(names) <= OPERATIONS_EACH:
        return names
    return [names[0], names[len(names) // 2], names[-1]][:OPERATIONS_EACH]


@pytest.mark.parametrize("service", MODELLED, ids=lambda s: s.module)
async def test_botocores_requests_are_recognised(service: Any, session: Any) -> None:
    """What botocore signs and serializes for a service is routed to that service, by its operation's name."""
    model = session.get_service_model(service.model)
    router = Router()
    for name in chosen(sorted(model.operation_names)):
        request = sent(session, service.model, model.operation_model(name))
        if request is None:
            continue
        routed = await router.route(arrived(request))
        wanted = (service.module, name)
        assert (routed.service, routed.operation) == SAME_ON_THE_WIRE.get(wanted, wanted)
        # Some operations are not signed, and SimpleDB's old signature has no region in it.
        if "Authorization" in request.headers:
            assert (routed.region, routed.account) == (REGION, "111122223333")


@pytest.mark.parametrize("service", MODELLED, ids=lambda s: s.module)
def test_row_agrees_with_botocore(service: Any, session: Any) -> None:
    """Signing name, target and version of a row are those of botocore's model."""
    model = session.get_service_model(service.model)
    assert service.signing == model.signing_name
    assert service.prefix == model.endpoint_prefix
    assert service.target == model.metadata.get("targetPrefix", "")
    if service.version:
        assert service.version == model.api_version
    assert service.protocol.value in (model.metadata.get("protocols") or [model.protocol])


def test_every_service_of_moto_has_a_row() -> None:
    """Nothing that the installed moto serves is missing, and nothing is in the table that moto does not have."""
    import moto

    modules = {
        entry.name for entry in os.scandir(os.path.dirname(moto.__file__)) if os.path.exists(f"{entry.path}/urls.py")
    }
    modules |= {"moto_api"}
    assert {service.module for service in SERVICES} == modules - {"moto_proxy"}


def test_rows_are_unique() -> None:
    """A module stands once in the table."""
    assert len(BY_MODULE) == len(SERVICES)
