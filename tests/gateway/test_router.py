"""The router: which service, operation, region and account a request is for."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.daemon.gateway.errors import MalformedRequest, NotImplementedYet, UnknownService
from holdfast.daemon.gateway.message import HttpRequest
from holdfast.daemon.gateway.router import Router

pytestmark = pytest.mark.anyio

FORM = "application/x-www-form-urlencoded; charset=utf-8"


def signed(service: str, region: str = "eu-west-1", key: str = "AKIAIOSFODNN7EXAMPLE") -> dict[str, str]:
    scope = f"{key}/20261121/{region}/{service}/aws4_request"
    return {"authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00"}


def request(method: str = "POST", target: str = "/", body: bytes = b"", **headers: str) -> HttpRequest:
    path, _, query = target.partition("?")
    named = {"host": "localhost:4566", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return HttpRequest(method, path, query, tuple(named.items()), body)


async def route(http: HttpRequest, **options: Any) -> Any:
    return await Router(**options).route(http)


@pytest.mark.parametrize(
    ("signing", "headers", "target", "module", "operation"),
    [
        ("sqs", {"x_amz_target": "AmazonSQS.SendMessage"}, "/", "sqs", "SendMessage"),
        ("dynamodb", {"x_amz_target": "DynamoDB_20120810.PutItem"}, "/", "dynamodb", "PutItem"),
        ("dynamodb", {"x_amz_target": "DynamoDBStreams_20120810.GetRecords"}, "/", "dynamodbstreams", "GetRecords"),
        ("dynamodb", {"x_amz_target": "DynamoDB_20111205.PutItem"}, "/", "dynamodb_v20111205", "PutItem"),
        ("mediastore", {"x_amz_target": "MediaStore_20170901.ListContainers"}, "/", "mediastore", "ListContainers"),
        ("timestream", {"x_amz_target": "Timestream_20181101.Query"}, "/", "timestreamquery", "Query"),
        ("timestream", {"x_amz_target": "Timestream_20181101.WriteRecords"}, "/", "timestreamwrite", "WriteRecords"),
        ("ses", {}, "/v2/email/identities", "sesv2", "CreateEmailIdentity"),
        ("lambda", {}, "/2015-03-31/functions", "awslambda", "CreateFunction"),
        ("s3", {"x_amz_account_id": "123456789012"}, "/v20180820/jobs", "s3control", "CreateJob"),
        ("sagemaker", {}, "/endpoints/x/invocations", "sagemakerruntime", "InvokeEndpoint"),
        ("es", {}, "/2021-01-01/opensearch/domain", "opensearch", "CreateDomain"),
        ("es", {}, "/2015-01-01/es/domain", "es", "CreateElasticsearchDomain"),
        ("apigateway", {}, "/restapis", "apigateway", "CreateRestApi"),
        ("apigateway", {}, "/v2/apis", "apigatewayv2", "CreateApi"),
        ("execute-api", {}, "/@connections/abc", "apigatewaymanagementapi", "PostToConnection"),
        ("bedrock", {}, "/agents/a/agentversions/", "bedrockagent", "ListAgentVersions"),
        ("eventbridge", {"x_amz_target": "AWSEvents.PutEvents"}, "/", "events", "PutEvents"),
        ("EVENTS", {"x_amz_target": "AWSEvents.PutEvents"}, "/", "events", "PutEvents"),
    ],
)
async def test_signed_request_names_its_service(
    signing: str, headers: dict[str, str], target: str, module: str, operation: str
) -> None:
    """A signature names the service; path and target settle what several services sign for alike."""
    routed = await route(request("POST", target, **headers, **signed(signing)))
    assert (routed.service, routed.operation, routed.region) == (module, operation, "eu-west-1")


@pytest.mark.parametrize(
    ("signing", "body", "module", "operation"),
    [
        ("elasticloadbalancing", b"Action=CreateLoadBalancer&Version=2015-12-01", "elbv2", "CreateLoadBalancer"),
        ("elasticloadbalancing", b"Version=2012-06-01&Action=CreateLoadBalancer", "elb", "CreateLoadBalancer"),
        ("sqs", b"Action=ReceiveMessage&WaitTimeSeconds=20", "sqs", "ReceiveMessage"),
        ("ec2", b"Action=RunInstances", "ec2", "RunInstances"),
        ("ec2", b"Subaction=Describe&Action=RunInstances", "ec2", "RunInstances"),
        ("iam", b"UserName=Action=x", "iam", ""),
        ("sts", b"Action=%47etCallerIdentity", "sts", "GetCallerIdentity"),
        ("sts", b"Action=<script>", "sts", ""),
    ],
)
async def test_form_names_its_operation(signing: str, body: bytes, module: str, operation: str) -> None:
    """The query protocol's operation is the form's Action, decoded, and only ever a name."""
    routed = await route(request(body=body, content_type=FORM, **signed(signing)))
    assert (routed.service, routed.operation) == (module, operation)


@pytest.mark.parametrize(
    ("http", "module", "operation", "region"),
    [
        (request(x_amz_target="AWSCognitoIdentityProviderService.SignUp"), "cognitoidp", "SignUp", "us-east-1"),
        (request(x_amz_target="AmazonSQS.SendMessage", host="sqs.eu-central-1.localhost.localstack.cloud:4566"),
         "sqs", "SendMessage", "eu-central-1"),
        (request(body=b"Action=AssumeRoleWithSAML&RoleArn=x", content_type=FORM), "sts", "AssumeRoleWithSAML", "us-east-1"),
        (request(body=b"Action=Select&Version=2009-04-15", content_type=FORM, user_agent="x region/eu-west-3"),
         "sdb", "Select", "eu-west-3"),
        (request("GET", "/000000000000/q?Action=SendMessage&MessageBody=x"), "sqs", "SendMessage", "us-east-1"),
        (request("GET", "/eu-west-2_abc/.well-known/jwks.json"), "cognitoidp", "", "eu-west-2"),
        (request("GET", "/latest/meta-data/iam"), "instance_metadata", "", "us-east-1"),
        (request("POST", "/moto-api/reset"), "moto_api", "", "us-east-1"),
        (request("PUT", "/cloudformation_ap-south-1/cfnresponse?stack=x"), "cloudformation", "", "ap-south-1"),
        (request("GET", "/", host="sts.us-west-2.amazonaws.com"), "sts", "", "us-west-2"),
        (request("GET", "/bucket/key"), "s3", "GetObject", "us-east-1"),
        (request("GET", "/"), "s3", "ListBuckets", "us-east-1"),
    ],
)  # fmt: skip
async def test_unsigned_request_is_recognised(http: HttpRequest, module: str, operation: str, region: str) -> None:
    """Without a signature the target, host, form or path name the service; what is left is S3's."""
    routed = await route(http)
    assert (routed.service, routed.operation, routed.region) == (module, operation, region)


@pytest.mark.parametrize(
    ("host", "target", "path"),
    [
        ("bucket.s3.localhost.localstack.cloud:4566", "/a/b?acl", "/bucket/a/b?acl"),
        ("my.dotted.bucket.s3.eu-west-1.localhost.localstack.cloud", "/k", "/my.dotted.bucket/k"),
        ("bucket.s3.localhost:4566", "/", "/bucket/"),
        ("bucket.localhost:4566", "/k", "/bucket/k"),
        ("logs.localhost:4566", "/k", "/logs/k"),
        ("my.dotted.bucket.localhost", "/k%2Fl//m", "/my.dotted.bucket/k%2Fl//m"),
        ("bucket.localhost.localstack.cloud", "/k", "/bucket/k"),
        ("bucket.s3.amazonaws.com", "/k", "/bucket/k"),
        ("bucket.s3-eu-west-1.amazonaws.com", "/k", "/bucket/k"),
        ("bucket.s3.dualstack.eu-west-1.amazonaws.com", "/k", "/bucket/k"),
        ("bucket.s3-website.eu-west-1.amazonaws.com", "/k", "/bucket/k"),
        ("bucket.holdfast.internal", "/k", "/bucket/k"),
        ("s3.localhost.localstack.cloud", "/b/k", "/b/k"),
        ("s3.eu-west-1.localhost.localstack.cloud", "/b/k", "/b/k"),
    ],
)
async def test_bucket_in_the_host_moves_into_the_path(host: str, target: str, path: str) -> None:
    """An S3 request is the same request whichever of the address styles a client uses."""
    routed = await route(request("GET", target, host=host, **signed("s3")), suffixes=("holdfast.internal",))
    assert (routed.target, routed.header("host")) == (path, "s3.eu-west-1.amazonaws.com")
    assert routed.service == "s3"


@pytest.mark.parametrize(
    "host", ["localhost:4566", "127.0.0.1:4566", "[::1]:4566", "localstack:4566", "localhost.localstack.cloud"]
)
async def test_path_style_request_is_left_alone(host: str) -> None:
    """A host that names no bucket stays what it was."""
    routed = await route(request("PUT", "/bucket/k", host=host, **signed("s3")))
    assert (routed.target, routed.header("host"), routed.operation) == ("/bucket/k", host, "PutObject")


async def test_presigned_url_names_service_region_and_account() -> None:
    """A presigned URL says as much as a header does."""
    query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=111122223333%2F20261121%2Feu-north-1%2Fs3%2Faws4_request"
    routed = await route(request("GET", f"/b/k?{query}"))
    assert (routed.service, routed.operation, routed.region, routed.account) == (
        "s3", "GetObject", "eu-north-1", "111122223333",
    )  # fmt: skip
    old = await route(request("GET", "/b/k?AWSAccessKeyId=111122223333&Signature=x&Expires=1"))
    assert (old.service, old.account) == ("s3", "111122223333")


@pytest.mark.parametrize(
    ("key", "headers", "account"),
    [
        ("123456789012", {}, "123456789012"),
        ("AKIAIOSFODNN7EXAMPLE", {}, "000000000000"),
        ("test", {}, "000000000000"),
        ("1234567890123", {}, "000000000000"),
        ("test", {"x_moto_account_id": "222233334444"}, "222233334444"),
    ],
)
async def test_access_key_names_the_account(key: str, headers: dict[str, str], account: str) -> None:
    """Twelve digits are an account; every other key speaks for the default one, until IAM's state is asked."""
    routed = await route(request(x_amz_target="AmazonSQS.ListQueues", **headers, **signed("sqs", key=key)))
    assert routed.account == account


async def test_signature_of_sigv4a_has_its_region_in_a_header() -> None:
    """SigV4A signs for a set of regions: the first is the one."""
    credential = "AWS4-ECDSA-P256-SHA256 Credential=AKID/20261121/s3/aws4_request, SignedHeaders=host, Signature=0"
    routed = await route(request("GET", "/b", authorization=credential, x_amz_region_set="eu-west-1,us-east-1"))
    assert (routed.service, routed.region) == ("s3", "eu-west-1")
    anywhere = await route(request("GET", "/b", authorization=credential, x_amz_region_set="*"))
    assert anywhere.region == "us-east-1"


@pytest.mark.parametrize(
    ("http", "error"),
    [
        (request(**signed("amplify")), UnknownService),
        (request(host="amplify.us-east-1.amazonaws.com"), UnknownService),
        (request(x_amz_target="Foo.Bar"), UnknownService),
        (request(authorization="AWS4-HMAC-SHA256 Credential=AKID/s3, Signature=x"), MalformedRequest),
        (request(authorization="AWS4-HMAC-SHA256 nonsense"), MalformedRequest),
        (request("GET", "/b/k?X-Amz-Credential=x"), MalformedRequest),
        (request("GET", "/prod/x", host="abc.execute-api.localhost.localstack.cloud"), NotImplementedYet),
        (request("GET", "/", host="abc.lambda-url.us-east-1.localhost.localstack.cloud"), NotImplementedYet),
    ],
)
async def test_request_for_nobody_is_refused(http: HttpRequest, error: type[Exception]) -> None:
    """What names no service that there is, or cannot be read, is an error and not S3's."""
    with pytest.raises(error):
        await route(http)


async def test_hop_by_hop_headers_stay_at_the_edge() -> None:
    """A command carries what the service sees, and nothing of the connection."""
    routed = await route(
        request("PUT", "/b/k", connection="close", expect="100-continue", x_amz_meta_a="1", **signed("s3"))
    )
    names = {name for name, _ in routed.headers}
    assert names == {"host", "authorization", "x-amz-meta-a"}
