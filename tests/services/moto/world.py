"""A world of AWS resources, made by the calls a user makes, and the reads that tell whether it is still the same.

`RECIPES` maps a service to what is done to it; each recipe may lean on those above it. `sweep` then calls every operation that
looks like a read and needs no parameter.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

Reads = list[tuple[str, str, dict[str, Any]]]
Client = Callable[..., Any]

REGION = "us-east-1"
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/worker"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})

RECIPES: dict[str, Callable[[Client], Reads]] = {}


def recipe(service: str) -> Callable[[Callable[[Client], Reads]], Callable[[Client], Reads]]:
    def add(function: Callable[[Client], Reads]) -> Callable[[Client], Reads]:
        RECIPES[service] = function
        return function

    return add


def now_ms() -> int:
    """CloudWatch Logs takes no events of another time."""
    return time.time_ns() // 1_000_000


def archive() -> bytes:
    """A Lambda function's code."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as zipped:
        zipped.writestr(
            zipfile.ZipInfo("lambda_function.py", (2026, 1, 1, 0, 0, 0)),
            "def lambda_handler(event, context):\n    return event\n",
        )
    return made.getvalue()


@recipe("iam")
def _iam(client: Client) -> Reads:
    iam = client("iam")
    iam.create_role(RoleName="worker", AssumeRolePolicyDocument=TRUST, Tags=[{"Key": "a", "Value": "b"}])
    iam.create_user(UserName="ann")
    iam.create_group(GroupName="staff")
    iam.add_user_to_group(GroupName="staff", UserName="ann")
    iam.create_access_key(UserName="ann")
    policy = iam.create_policy(PolicyName="p", PolicyDocument=POLICY)
    iam.attach_role_policy(RoleName="worker", PolicyArn=policy["Policy"]["Arn"])
    iam.put_user_policy(UserName="ann", PolicyName="inline", PolicyDocument=POLICY)
    iam.create_instance_profile(InstanceProfileName="profile")
    iam.add_role_to_instance_profile(InstanceProfileName="profile", RoleName="worker")
    return [
        ("iam", "get_role", {"RoleName": "worker"}),
        ("iam", "list_attached_role_policies", {"RoleName": "worker"}),
        ("iam", "list_access_keys", {"UserName": "ann"}),
        ("iam", "list_groups_for_user", {"UserName": "ann"}),
        ("iam", "get_user_policy", {"UserName": "ann", "PolicyName": "inline"}),
    ]


@recipe("sts")
def _sts(client: Client) -> Reads:
    client("sts").assume_role(RoleArn=ROLE, RoleSessionName="session")
    return [("sts", "get_caller_identity", {})]


@recipe("s3")
def _s3(client: Client) -> Reads:
    s3 = client("s3")
    s3.create_bucket(Bucket="plain")
    s3.create_bucket(Bucket="versions")
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    for body in (b"first", b"second", b"third"):
        s3.put_object(Bucket="versions", Key="k", Body=body, Metadata={"n": body.decode()})
    s3.delete_object(Bucket="versions", Key="k")
    s3.put_object(Bucket="plain", Key="deep/key", Body=b"x" * 100_000, ContentType="text/plain", Tagging="a=b")
    upload = s3.create_multipart_upload(Bucket="plain", Key="parts")["UploadId"]
    s3.upload_part(Bucket="plain", Key="parts", UploadId=upload, PartNumber=1, Body=b"p" * (5 << 20))
    first = s3.list_object_versions(Bucket="versions")["Versions"][-1]["VersionId"]
    return [
        ("s3", "list_object_versions", {"Bucket": "versions"}),
        ("s3", "get_object", {"Bucket": "versions", "Key": "k", "VersionId": first}),
        ("s3", "get_object", {"Bucket": "plain", "Key": "deep/key"}),
        ("s3", "get_object_tagging", {"Bucket": "plain", "Key": "deep/key"}),
        ("s3", "list_multipart_uploads", {"Bucket": "plain"}),
        ("s3", "list_parts", {"Bucket": "plain", "Key": "parts", "UploadId": upload}),
    ]


@recipe("sqs")
def _sqs(client: Client) -> Reads:
    sqs = client("sqs")
    queue = sqs.create_queue(QueueName="jobs", Attributes={"VisibilityTimeout": "60"}, tags={"a": "b"})["QueueUrl"]
    fifo = sqs.create_queue(QueueName="jobs.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    for number in range(3):
        sqs.send_message(
            QueueUrl=queue,
            MessageBody=f"message {number}",
            MessageAttributes={"n": {"DataType": "Number", "StringValue": "1"}},
        )
    sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=1)
    sqs.send_message(QueueUrl=fifo, MessageBody="ordered", MessageGroupId="g", MessageDeduplicationId="d")
    return [
        ("sqs", "get_queue_attributes", {"QueueUrl": queue, "AttributeNames": ["All"]}),
        ("sqs", "get_queue_attributes", {"QueueUrl": fifo, "AttributeNames": ["All"]}),
        ("sqs", "list_queue_tags", {"QueueUrl": queue}),
    ]


@recipe("sns")
def _sns(client: Client) -> Reads:
    sns = client("sns")
    topic = sns.create_topic(Name="news", Tags=[{"Key": "a", "Value": "b"}])["TopicArn"]
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:jobs",
        Attributes={"RawMessageDelivery": "true"},
    )
    sns.publish(TopicArn=topic, Message="hello")
    return [
        ("sns", "get_topic_attributes", {"TopicArn": topic}),
        ("sns", "list_subscriptions_by_topic", {"TopicArn": topic}),
    ]


@recipe("dynamodb")
def _dynamodb(client: Client) -> Reads:
    dynamodb = client("dynamodb")
    dynamodb.create_table(
        TableName="people",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "at", "AttributeType": "N"},
            {"AttributeName": "city", "AttributeType": "S"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-city",
                "KeySchema": [{"AttributeName": "city", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    for number in range(5):
        dynamodb.put_item(
            TableName="people",
            Item={
                "id": {"S": "a"},
                "at": {"N": str(number)},
                "city": {"S": "Rome"},
                "m": {"M": {"b": {"B": b"\x00\xff"}, "l": {"L": [{"NULL": True}]}}},
            },
        )
    dynamodb.update_item(
        TableName="people",
        Key={"id": {"S": "a"}, "at": {"N": "1"}},
        UpdateExpression="SET n = :n",
        ExpressionAttributeValues={":n": {"N": "7"}},
    )
    return [
        ("dynamodb", "scan", {"TableName": "people"}),
        ("dynamodb", "describe_table", {"TableName": "people"}),
        (
            "dynamodb",
            "query",
            {
                "TableName": "people",
                "IndexName": "by-city",
                "KeyConditionExpression": "city = :c",
                "ExpressionAttributeValues": {":c": {"S": "Rome"}},
            },
        ),
    ]


@recipe("dynamodbstreams")
def _dynamodbstreams(client: Client) -> Reads:
    streams = client("dynamodbstreams")
    arn = streams.list_streams(TableName="people")["Streams"][0]["StreamArn"]
    shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
    streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    return [("dynamodbstreams", "describe_stream", {"StreamArn": arn})]


@recipe("ssm")
def _ssm(client: Client) -> Reads:
    ssm = client("ssm")
    for value in ("one", "two"):
        ssm.put_parameter(Name="/app/setting", Value=value, Type="String", Overwrite=True)
    ssm.put_parameter(Name="/app/secret", Value="s", Type="SecureString")
    ssm.create_document(
        Content=json.dumps({"schemaVersion": "2.2", "description": "d", "mainSteps": []}),
        Name="doc",
        DocumentType="Command",
        DocumentFormat="JSON",
    )
    return [
        ("ssm", "get_parameter_history", {"Name": "/app/setting"}),
        ("ssm", "get_parameter", {"Name": "/app/secret", "WithDecryption": True}),
        ("ssm", "get_parameters_by_path", {"Path": "/app"}),
        ("ssm", "get_document", {"Name": "doc"}),
    ]


@recipe("secretsmanager")
def _secretsmanager(client: Client) -> Reads:
    secrets = client("secretsmanager")
    secrets.create_secret(Name="password", SecretString="hunter2")
    secrets.put_secret_value(SecretId="password", SecretString="hunter3")
    return [
        ("secretsmanager", "get_secret_value", {"SecretId": "password"}),
        ("secretsmanager", "list_secret_version_ids", {"SecretId": "password"}),
    ]


@recipe("kms")
def _kms(client: Client) -> Reads:
    kms = client("kms")
    key = kms.create_key(Description="symmetric")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/main", TargetKeyId=key)
    rsa = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    ecc = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    sealed = kms.encrypt(KeyId=key, Plaintext=b"attack at dawn")["CiphertextBlob"]
    kms.create_grant(KeyId=key, GranteePrincipal=ROLE, Operations=["Decrypt"])
    return [
        ("kms", "decrypt", {"CiphertextBlob": sealed}),
        ("kms", "describe_key", {"KeyId": "alias/main"}),
        ("kms", "get_public_key", {"KeyId": rsa}),
        ("kms", "get_public_key", {"KeyId": ecc}),
        ("kms", "list_grants", {"KeyId": key}),
    ]


@recipe("logs")
def _logs(client: Client) -> Reads:
    logs = client("logs")
    logs.create_log_group(logGroupName="/app")
    logs.create_log_stream(logGroupName="/app", logStreamName="one")
    logs.put_log_events(
        logGroupName="/app", logStreamName="one", logEvents=[{"timestamp": now_ms(), "message": "hello"}]
    )
    logs.put_retention_policy(logGroupName="/app", retentionInDays=7)
    return [
        ("logs", "get_log_events", {"logGroupName": "/app", "logStreamName": "one"}),
        ("logs", "describe_log_streams", {"logGroupName": "/app"}),
    ]


@recipe("awslambda")
def _awslambda(client: Client) -> Reads:
    functions = client("lambda")
    functions.create_function(
        FunctionName="work",
        Runtime="python3.12",
        Role=ROLE,
        Handler="lambda_function.lambda_handler",
        Code={"ZipFile": archive()},
        Environment={"Variables": {"A": "b"}},
    )
    functions.publish_version(FunctionName="work")
    functions.create_alias(FunctionName="work", Name="live", FunctionVersion="1")
    functions.add_permission(
        FunctionName="work", StatementId="s", Action="lambda:InvokeFunction", Principal="sns.amazonaws.com"
    )
    mapping = functions.create_event_source_mapping(
        EventSourceArn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:jobs", FunctionName="work", BatchSize=5
    )["UUID"]
    functions.publish_layer_version(LayerName="layer", Content={"ZipFile": archive()})
    return [
        ("lambda", "get_function", {"FunctionName": "work"}),
        ("lambda", "list_versions_by_function", {"FunctionName": "work"}),
        ("lambda", "get_policy", {"FunctionName": "work"}),
        ("lambda", "get_event_source_mapping", {"UUID": mapping}),
        ("lambda", "get_alias", {"FunctionName": "work", "Name": "live"}),
    ]


@recipe("events")
def _events(client: Client) -> Reads:
    events = client("events")
    events.put_rule(Name="every", ScheduleExpression="rate(5 minutes)")
    events.put_targets(Rule="every", Targets=[{"Id": "1", "Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:jobs"}])
    events.create_event_bus(Name="bus")
    events.put_rule(Name="match", EventBusName="bus", EventPattern=json.dumps({"source": ["app"]}))
    events.create_archive(ArchiveName="archive", EventSourceArn=f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/bus")
    events.put_events(Entries=[{"Source": "app", "DetailType": "t", "Detail": "{}", "EventBusName": "bus"}])
    return [
        ("events", "list_targets_by_rule", {"Rule": "every"}),
        ("events", "describe_archive", {"ArchiveName": "archive"}),
        ("events", "list_rules", {"EventBusName": "bus"}),
    ]


@recipe("kinesis")
def _kinesis(client: Client) -> Reads:
    kinesis = client("kinesis")
    kinesis.create_stream(StreamName="clicks", ShardCount=2)
    for number in range(4):
        kinesis.put_record(StreamName="clicks", Data=b"data", PartitionKey=str(number))
    return [
        ("kinesis", "describe_stream", {"StreamName": "clicks"}),
        ("kinesis", "list_shards", {"StreamName": "clicks"}),
    ]


@recipe("ec2")
def _ec2(client: Client) -> Reads:
    ec2 = client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="web", Description="d", VpcId=vpc)["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
    )
    image = ec2.describe_images()["Images"][0]["ImageId"]
    ec2.run_instances(ImageId=image, MinCount=2, MaxCount=2, SubnetId=subnet, SecurityGroupIds=[group])
    ec2.create_volume(AvailabilityZone="us-east-1a", Size=8)
    ec2.create_key_pair(KeyName="key")
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    ec2.create_transit_gateway(Description="t")
    ec2.create_vpc_peering_connection(VpcId=vpc, PeerVpcId=vpc)
    return [("ec2", "describe_subnets", {"Filters": [{"Name": "vpc-id", "Values": [vpc]}]})]


@recipe("cloudformation")
def _cloudformation(client: Client) -> Reads:
    template = {
        "Parameters": {"Stage": {"Type": "String", "Default": "dev"}},
        "Conditions": {"IsDev": {"Fn::Equals": [{"Ref": "Stage"}, "dev"]}},
        "Resources": {
            "Queue": {"Type": "AWS::SQS::Queue", "Condition": "IsDev", "Properties": {"QueueName": "stack-queue"}},
            "Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "stack-topic"}},
            "Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "stack-bucket"}},
            "Table": {
                "Type": "AWS::DynamoDB::Table",
                "Properties": {
                    "TableName": "stack-table",
                    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                    "BillingMode": "PAY_PER_REQUEST",
                },
            },
            "Role": {
                "Type": "AWS::IAM::Role",
                "Properties": {"RoleName": "stack-role", "AssumeRolePolicyDocument": json.loads(TRUST)},
            },
            "Function": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "FunctionName": "stack-function",
                    "Runtime": "python3.12",
                    "Handler": "index.handler",
                    "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                    "Code": {"ZipFile": "def handler(event, context): return event"},
                },
            },
            "Mapping": {
                "Type": "AWS::Lambda::EventSourceMapping",
                "Properties": {"FunctionName": {"Ref": "Function"}, "EventSourceArn": {"Fn::GetAtt": ["Queue", "Arn"]}},
            },
            "Group": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "stack-group"}},
            "Key": {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": {"Version": "2012-10-17", "Statement": []}}},
            "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.9.0.0/16"}},
            "Subnet": {"Type": "AWS::EC2::Subnet", "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.9.1.0/24"}},
        },
        "Outputs": {"QueueUrl": {"Value": {"Ref": "Queue"}, "Export": {"Name": "stack-queue-url"}}},
    }
    client("cloudformation").create_stack(
        StackName="stack", TemplateBody=json.dumps(template), Tags=[{"Key": "a", "Value": "b"}]
    )
    return [
        ("cloudformation", "describe_stacks", {"StackName": "stack"}),
        ("cloudformation", "list_stack_resources", {"StackName": "stack"}),
        ("cloudformation", "get_template", {"StackName": "stack"}),
        ("cloudformation", "describe_stack_events", {"StackName": "stack"}),
    ]


# --- reads -----------------------------------------------------------------------------------------------------------


def sweep(client: Client, name: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation of the service `name` (boto3's) that is named like a read and needs no parameter."""
    made = client(name)
    for method, operation in sorted(made.meta.method_to_api_mapping.items()):
        if operation.startswith(("List", "Describe", "Get")):
            shape = made.meta.service_model.operation_model(operation).input_shape
            if shape is None or not shape.required_members:
                yield name, method, {}
