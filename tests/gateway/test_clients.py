"""Real clients: boto3 over a real socket, through the gateway, into moto."""

from __future__ import annotations

import io
import json
import threading
import time
import urllib.request
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

REGION = "eu-west-1"
ACCOUNT = "000000000000"


@pytest.fixture
def name() -> str:
    """A name that nobody else uses: moto's state is shared by the tests of a process."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def client(served: Any) -> Callable[..., Any]:
    def make(service: str, *, key: str = "test", url: str = "", region: str = REGION, **config: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=url or served.url,
            region_name=region,
            aws_access_key_id=key,
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}, **config),
        )

    return make


def fetch(method: str, url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


# ---------------------------------------------------------------- S3


def test_s3_objects_come_back_as_they_went(client: Any, name: str) -> None:
    """Bytes, metadata, content type, odd keys: what was put is what is got."""
    s3 = client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    for key in ("plain", "a/b//c", "spaced key+plus", "ключ/é", "trailing/", "per%cent", "q?&=#"):
        body = key.encode() * 100
        s3.put_object(Bucket=name, Key=key, Body=body, Metadata={"a_b": "1", "c": "x"}, ContentType="text/x")
        got = s3.get_object(Bucket=name, Key=key)
        assert (got["Body"].read(), got["ContentType"]) == (body, "text/x")
        assert got["Metadata"] == {"a_b": "1", "c": "x"}
    head = s3.head_object(Bucket=name, Key="plain")
    assert head["ContentLength"] == 500
    assert len(s3.list_objects_v2(Bucket=name)["Contents"]) == 7
    assert s3.get_object(Bucket=name, Key="plain", Range="bytes=1-3")["Body"].read() == b"lai"
    with pytest.raises(ClientError) as missing:
        s3.get_object(Bucket=name, Key="missing")
    assert missing.value.response["Error"]["Code"] == "NoSuchKey"
    s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "plain"}]})
    assert len(s3.list_objects_v2(Bucket=name)["Contents"]) == 6


@pytest.mark.parametrize("checksum", ["CRC32", "SHA256"])
def test_s3_chunked_upload_is_decoded(checksum: str, client: Any, name: str) -> None:
    """boto3 sends a stream as aws-chunked with a trailing checksum: the object holds the data and not the chunks."""
    s3 = client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})

    class Stream(io.RawIOBase):
        """Not seekable, so that botocore has to chunk it."""

        left = 300_000

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            size = self.left if size < 0 else min(size, self.left)
            self.left -= size
            return b"x" * size

    s3.put_object(Bucket=name, Key="k", Body=io.BytesIO(b"x" * 300_000), ChecksumAlgorithm=checksum)
    assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"x" * 300_000


def test_s3_multipart_upload(client: Any, name: str) -> None:
    """Parts become one object."""
    s3 = client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    upload = s3.create_multipart_upload(Bucket=name, Key="big")["UploadId"]
    parts = []
    for number, size in ((1, 5 << 20), (2, 1000)):
        part = s3.upload_part(Bucket=name, Key="big", UploadId=upload, PartNumber=number, Body=bytes([number]) * size)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    s3.complete_multipart_upload(Bucket=name, Key="big", UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=name, Key="big")["Body"].read() == b"\x01" * (5 << 20) + b"\x02" * 1000


@pytest.mark.parametrize("signature", ["s3v4", "s3"])
def test_s3_presigned_urls(signature: str, client: Any, name: str) -> None:
    """A presigned URL puts and gets without any header of AWS's."""
    s3 = client("s3", signature_version=signature)
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    put = s3.generate_presigned_url("put_object", {"Bucket": name, "Key": "k"})
    assert fetch("PUT", put, b"data", **{"content-type": ""})[0] == 200
    get = s3.generate_presigned_url("get_object", {"Bucket": name, "Key": "k"})
    assert fetch("GET", get) == (200, b"data")


def test_s3_presigned_post(client: Any, name: str) -> None:
    """A browser's form upload arrives."""
    s3 = client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    post = s3.generate_presigned_post(name, "form-key")
    boundary = "xxBOUNDARYxx"
    fields = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in post["fields"].items()
    )
    file = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nuploaded\r\n--{boundary}--\r\n'
    status, _ = fetch(
        "POST", post["url"], (fields + file).encode(), **{"content-type": f"multipart/form-data; boundary={boundary}"}
    )
    assert status in {200, 204}
    assert s3.get_object(Bucket=name, Key="form-key")["Body"].read() == b"uploaded"


@pytest.mark.parametrize(
    "suffix", ["s3.localhost.localstack.cloud", f"s3.{REGION}.localhost.localstack.cloud", "localhost", "s3.localhost"]
)
def test_s3_virtual_hosts(suffix: str, client: Any, name: str, served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket in the host is the bucket in the path, dots and all."""
    resolve_to_loopback(monkeypatch)
    path_style = client("s3")
    virtual = client("s3", url=f"http://{suffix}:{served.port}", s3={"addressing_style": "virtual"})
    for bucket in (name, f"{name}.with.dots"):
        path_style.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        virtual.put_object(Bucket=bucket, Key="a/b c", Body=b"x")
        assert path_style.get_object(Bucket=bucket, Key="a/b c")["Body"].read() == b"x"
        assert [entry["Key"] for entry in virtual.list_objects_v2(Bucket=bucket)["Contents"]] == ["a/b c"]
        assert fetch("GET", virtual.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a/b c"})) == (
            200,
            b"x",
        )


def test_s3_path_style_at_s3s_own_host(client: Any, name: str, served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At s3.localhost.localstack.cloud the first part of the path is the bucket; moto alone takes `s3` for it."""
    resolve_to_loopback(monkeypatch)
    s3 = client("s3", url=f"http://s3.localhost.localstack.cloud:{served.port}", s3={"addressing_style": "path"})
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    assert name in {bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]}
    assert client("s3").get_object(Bucket=name, Key="k")["Body"].read() == b"x"


def test_s3control_finds_its_way(client: Any, served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 Control signs as S3, and botocore puts the account before the host."""
    resolve_to_loopback(monkeypatch)
    control = client("s3control")
    block = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    control.put_public_access_block(AccountId=ACCOUNT, PublicAccessBlockConfiguration=block)
    assert control.get_public_access_block(AccountId=ACCOUNT)["PublicAccessBlockConfiguration"] == block


def resolve_to_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve every name to 127.0.0.1, as DNS does for these where there is one."""
    import socket

    original = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *args, **kwargs: original("127.0.0.1", *args, **kwargs))


# ---------------------------------------------------------------- SQS, in both protocols


def query_sqs(served: Any, action: str, path: str = "/", **fields: str) -> str:
    """A signed request of the query protocol, which SDKs of before 2023 speak."""
    body = urllib.parse.urlencode({"Action": action, "Version": "2012-11-05", **fields})
    request = AWSRequest("POST", f"{served.url}{path}", {"content-type": "application/x-www-form-urlencoded"}, body)
    SigV4Auth(Credentials("test", "test"), "sqs", REGION).add_auth(request)
    status, reply = fetch("POST", request.url, body.encode(), **dict(request.headers.items()))
    assert status == 200, reply
    return reply.decode()


def test_sqs_in_both_protocols(client: Any, name: str, served: Any) -> None:
    """A message sent in one protocol is received in the other."""
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    assert url == f"{served.url}/{ACCOUNT}/{name}"
    sqs.send_message(QueueUrl=url, MessageBody="json")
    assert "<Body>json</Body>" in query_sqs(served, "ReceiveMessage", f"/{ACCOUNT}/{name}", WaitTimeSeconds="5")
    query_sqs(served, "SendMessage", QueueUrl=url, MessageBody="xml")
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    assert message["Body"] == "xml"


@pytest.mark.parametrize("protocol", ["json", "query"])
def test_sqs_long_poll_ends_with_a_message(protocol: str, client: Any, name: str, served: Any) -> None:
    """A receive that waits is answered within moments of the send, and others are served meanwhile."""
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    got: list[float] = []

    def receive() -> None:
        if protocol == "json":
            assert client("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
        else:
            assert "<Body>x</Body>" in query_sqs(served, "ReceiveMessage", QueueUrl=url, WaitTimeSeconds="10")
        got.append(time.monotonic())

    thread = threading.Thread(target=receive)
    thread.start()
    time.sleep(0.5)
    assert not got
    sent = time.monotonic()
    sqs.send_message(QueueUrl=url, MessageBody="x")
    thread.join(timeout=5)
    assert got[0] - sent < 0.5


def test_sqs_long_poll_sees_delay_and_visibility(client: Any, name: str) -> None:
    """A delayed message, and one whose receiver let it time out, arrive in their time."""
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=name, Attributes={"ReceiveMessageWaitTimeSeconds": "8", "VisibilityTimeout": "1"})[
        "QueueUrl"
    ]
    sqs.send_message(QueueUrl=url, MessageBody="x", DelaySeconds=1)
    started = time.monotonic()
    (first,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert 0.9 < time.monotonic() - started < 2
    (second,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert second["MessageId"] == first["MessageId"]
    assert 1.8 < time.monotonic() - started < 3.5


def test_sqs_fifo_group_blocks_until_its_message_is_gone(client: Any, name: str) -> None:
    """The next message of a group is not for anyone while the one before it is in flight."""
    sqs = client("sqs")
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url = sqs.create_queue(QueueName=f"{name}.fifo", Attributes=attributes)["QueueUrl"]
    for body in ("a", "b"):
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="g")
    (first,) = sqs.receive_message(QueueUrl=url)["Messages"]
    started = time.monotonic()
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)
    assert 0.9 < time.monotonic() - started < 1.6
    threading.Timer(0.3, lambda: sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])).start()
    (second,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=8)["Messages"]
    assert second["Body"] == "b"
    assert time.monotonic() - started < 3


def test_sqs_errors_keep_their_codes(client: Any, served: Any) -> None:
    """An unknown queue is the same error in both protocols."""
    sqs = client("sqs")
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.receive_message(QueueUrl=f"{served.url}/{ACCOUNT}/nope", WaitTimeSeconds=20)


# ---------------------------------------------------------------- one walk through each of the others


def test_dynamodb_and_its_streams(client: Any, name: str) -> None:
    """Two services sign alike: the target tells them apart."""
    dynamodb = client("dynamodb")
    dynamodb.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    dynamodb.put_item(TableName=name, Item={"k": {"S": "é"}, "b": {"B": b"\x00\xff"}})
    assert dynamodb.get_item(TableName=name, Key={"k": {"S": "é"}})["Item"]["b"]["B"] == b"\x00\xff"
    streams = client("dynamodbstreams").list_streams(TableName=name)["Streams"]
    assert [stream["TableName"] for stream in streams] == [name]
    with pytest.raises(dynamodb.exceptions.ResourceNotFoundException):
        dynamodb.get_item(TableName="nope", Key={"k": {"S": "x"}})


def test_sns_feeds_sqs(client: Any, name: str) -> None:
    """A publish wakes a receive that waits on the subscribed queue."""
    sns, sqs = client("sns"), client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    topic = sns.create_topic(Name=name)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
    threading.Timer(0.3, lambda: sns.publish(TopicArn=topic, Message="hello")).start()
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=8)["Messages"]
    assert json.loads(message["Body"])["Message"] == "hello"


def test_accounts_are_apart(client: Any, name: str) -> None:
    """A 12-digit access key is an account; a key made by IAM speaks for the account it was made in."""
    one, other = client("sts", key="111111111111"), client("sts")
    assert one.get_caller_identity()["Account"] == "111111111111"
    assert other.get_caller_identity()["Account"] == ACCOUNT
    iam = client("iam", key="111111111111")
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    assert client("sts", key=key["AccessKeyId"]).get_caller_identity()["Account"] == "111111111111"
    with pytest.raises(ClientError) as missing:
        client("iam").get_user(UserName=name)
    assert missing.value.response["Error"]["Code"] == "NoSuchEntity"


def test_ec2_cloudformation_and_lambda(client: Any, name: str) -> None:
    """The EC2 and query protocols, a stack, and a function by REST."""
    ec2 = client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    assert ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"][0]["CidrBlock"] == "10.0.0.0/16"
    with pytest.raises(ClientError) as missing:
        ec2.describe_vpcs(VpcIds=["vpc-12345678"])
    assert missing.value.response["Error"]["Code"] == "InvalidVpcID.NotFound"

    template = {"Resources": {"Q": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": name}}}}
    stacks = client("cloudformation")
    stacks.create_stack(StackName=name, TemplateBody=json.dumps(template))
    assert stacks.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"

    role = client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", "def handler(event, context): return 1")
    functions = client("lambda")
    functions.create_function(
        FunctionName=name, Runtime="python3.12", Role=role, Handler="app.handler", Code={"ZipFile": code.getvalue()}
    )
    assert functions.get_function(FunctionName=name)["Configuration"]["Handler"] == "app.handler"


def test_services_of_every_protocol(client: Any, name: str) -> None:
    """rest-xml, rest-json, json and query: each answers, and each error has its code."""
    zone = client("route53").create_hosted_zone(Name=f"{name}.example", CallerReference=name)["HostedZone"]["Id"]
    assert client("route53").get_hosted_zone(Id=zone)["HostedZone"]["Name"] == f"{name}.example."
    with pytest.raises(ClientError) as missing:
        client("route53").get_hosted_zone(Id="/hostedzone/NOPE")
    assert missing.value.response["Error"]["Code"] == "NoSuchHostedZone"

    api = client("apigateway").create_rest_api(name=name)["id"]
    assert client("apigateway").get_rest_api(restApiId=api)["name"] == name
    assert client("apigatewayv2").create_api(Name=name, ProtocolType="HTTP")["Name"] == name

    client("ssm").put_parameter(Name=f"/{name}", Value="v", Type="String")
    assert client("ssm").get_parameter(Name=f"/{name}")["Parameter"]["Value"] == "v"
    client("secretsmanager").create_secret(Name=name, SecretString="s")
    assert client("secretsmanager").get_secret_value(SecretId=name)["SecretString"] == "s"
    kms = client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    assert kms.decrypt(CiphertextBlob=kms.encrypt(KeyId=key, Plaintext=b"p")["CiphertextBlob"])["Plaintext"] == b"p"
    client("cloudwatch").put_metric_data(Namespace=name, MetricData=[{"MetricName": "m", "Value": 1.0}])
    assert client("cloudwatch").list_metrics(Namespace=name)["Metrics"][0]["MetricName"] == "m"
    client("sesv2").create_email_identity(EmailIdentity=f"{name}@example.com")
    client("ses").verify_email_identity(EmailAddress=f"{name}@example.org")
    machine = client("stepfunctions").create_state_machine(
        name=name,
        definition='{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}',
        roleArn=f"arn:aws:iam::{ACCOUNT}:role/r",
    )
    assert machine["stateMachineArn"].endswith(name)
    balancer = client("elb").create_load_balancer(
        LoadBalancerName=name,
        Listeners=[{"Protocol": "tcp", "LoadBalancerPort": 80, "InstancePort": 80}],
        AvailabilityZones=[f"{REGION}a"],
    )
    assert balancer["DNSName"]
    assert client("elbv2").describe_load_balancers()["LoadBalancers"] == []


def test_jwks_of_a_user_pool(client: Any, name: str, served: Any) -> None:
    """The unsigned page of a user pool's keys is found by its path."""
    pool = client("cognito-idp").create_user_pool(PoolName=name)["UserPool"]["Id"]
    status, body = fetch("GET", f"{served.url}/{pool}/.well-known/jwks.json")
    assert status == 200
    assert json.loads(body)["keys"]


def test_unknown_service_of_boto3_is_a_clear_error(client: Any) -> None:
    """A service that is not served says so in words."""
    with pytest.raises(ClientError) as unknown:
        client("amplify").list_apps()
    assert unknown.value.response["Error"]["Code"] == "UnknownServiceException"
    assert "amplify" in unknown.value.response["Error"]["Message"]


# ---------------------------------------------------------------- bodies as other SDKs send them


def chunks(data: bytes, size: int, *, signed: bool, trailer: bytes = b"") -> bytes:
    """`data` as aws-chunked: pieces with their length, each signed in the older form."""
    extension = b";chunk-signature=" + b"0" * 64 if signed else b""
    out = b""
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        out += b"%x%b\r\n%b\r\n" % (len(piece), extension, piece)
    out += b"0%b\r\n" % extension
    return out + trailer + b"\r\n"


@pytest.mark.parametrize(
    ("sha", "signed", "trailer"),
    [
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", False, b"x-amz-checksum-crc32:AAAAAA==\r\n"),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", True, b""),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", True, b"x-amz-checksum-crc32:AAAAAA==\r\n"),
    ],
)
def test_s3_streamed_payloads_of_other_sdks(
    sha: str, signed: bool, trailer: bytes, client: Any, name: str, served: Any
) -> None:
    """Java, Go and .NET send aws-chunked in three forms: the object is the data, without lengths and signatures."""
    s3 = client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    data = bytes(range(256)) * 1000
    body = chunks(data, 65536, signed=signed, trailer=trailer)
    scope = f"test/20261121/{REGION}/s3/aws4_request"
    headers = {
        "authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        "x-amz-content-sha256": sha,
        "x-amz-decoded-content-length": str(len(data)),
        "content-encoding": "aws-chunked",
        "content-type": "application/octet-stream",
    }
    if trailer:
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    assert fetch("PUT", f"{served.url}/{name}/k", body, **headers)[0] == 200
    assert s3.get_object(Bucket=name, Key="k")["Body"].read() == data


def test_protocol_that_is_not_served_is_a_clear_error(served: Any) -> None:
    """A protocol that nothing here speaks is refused by its name."""
    authorization = (
        f"AWS4-HMAC-SHA256 Credential=test/20261121/{REGION}/monitoring/aws4_request, SignedHeaders=host, Signature=0"
    )
    headers = {"smithy-protocol": "rpc-v9", "authorization": authorization, "content-type": "application/json"}
    status, body = fetch("POST", f"{served.url}/service/X/operation/Y", b"{}", **headers)
    assert status == 415
    assert "rpc-v9" in json.loads(body)["message"]
