"""A mixed day of work on many services: every call changes state, later calls use what earlier ones returned."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["describe", "work"]

Client = Callable[[str], Any]

TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
ALLOW = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
ACCOUNT = "000000000000"


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("f.py"), "def handler(event, context): return event")
    return buffer.getvalue()


def work(aws: Client) -> int:
    """Do it all; returns how many changing calls were made."""
    return sum(1 for part in PARTS for _ in part(aws))


def _storage(aws: Client) -> Iterator[Any]:
    s3 = aws("s3")
    yield s3.create_bucket(Bucket="mixed")
    yield s3.put_bucket_versioning(Bucket="mixed", VersioningConfiguration={"Status": "Enabled"})
    for n in range(5):
        yield s3.put_object(Bucket="mixed", Key="versioned", Body=f"{n}".encode())
        yield s3.put_object(Bucket="mixed", Key=f"folder/key {n}+ü", Body=b"x" * 1000, Metadata={"n": str(n)})
    yield s3.delete_object(Bucket="mixed", Key="versioned")
    yield s3.put_object_tagging(Bucket="mixed", Key="folder/key 1+ü", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    upload = s3.create_multipart_upload(Bucket="mixed", Key="parts")
    yield upload
    arguments = {"Bucket": "mixed", "Key": "parts", "UploadId": upload["UploadId"]}
    part = s3.upload_part(**arguments, PartNumber=1, Body=b"y" * 600_000)
    yield part
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    yield s3.complete_multipart_upload(**arguments, MultipartUpload=parts)
    yield s3.copy_object(Bucket="mixed", Key="copied", CopySource="mixed/parts")
    yield s3.put_bucket_policy(Bucket="mixed", Policy=TRUST)


def _messages(aws: Client) -> Iterator[Any]:
    sqs, sns = aws("sqs"), aws("sns")
    queues = []
    for name in ("one", "two", "three.fifo"):
        fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"} if name.endswith("fifo") else {}
        reply = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "0", **fifo})
        queues.append(reply["QueueUrl"])
        yield reply
    for n in range(6):
        yield sqs.send_message(QueueUrl=queues[0], MessageBody=f"message {n}", DelaySeconds=n % 2)
    yield sqs.send_message(QueueUrl=queues[2], MessageBody="fifo", MessageGroupId="g")
    yield sqs.send_message_batch(QueueUrl=queues[1], Entries=[{"Id": str(n), "MessageBody": "b"} for n in range(3)])
    received = sqs.receive_message(QueueUrl=queues[1], VisibilityTimeout=30)
    yield received
    yield sqs.delete_message(QueueUrl=queues[1], ReceiptHandle=received["Messages"][0]["ReceiptHandle"])
    topic = sns.create_topic(Name="news")["TopicArn"]
    yield topic
    yield sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:us-east-1:{ACCOUNT}:one")
    yield sns.publish(TopicArn=topic, Message="to the queue")
    yield sns.tag_resource(ResourceArn=topic, Tags=[{"Key": "a", "Value": "b"}])


def _tables(aws: Client) -> Iterator[Any]:
    ddb = aws("dynamodb")
    for name in ("first", "second"):
        yield ddb.create_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
    for n in range(8):
        yield ddb.put_item(TableName="first", Item={"k": {"S": str(n)}, "n": {"N": str(n)}, "b": {"B": b"\x00\xff"}})
    yield ddb.update_item(
        TableName="first",
        Key={"k": {"S": "1"}},
        UpdateExpression="SET n = n + :x",
        ExpressionAttributeValues={":x": {"N": "5"}},
    )
    yield ddb.delete_item(TableName="first", Key={"k": {"S": "2"}})
    puts = [{"Put": {"TableName": "second", "Item": {"k": {"S": str(n)}}}} for n in range(3)]
    yield ddb.transact_write_items(TransactItems=puts)
    kinesis = aws("kinesis")
    yield kinesis.create_stream(StreamName="stream", ShardCount=2)
    for n in range(4):
        yield kinesis.put_record(StreamName="stream", Data=b"data", PartitionKey=str(n))


def _identity(aws: Client) -> Iterator[Any]:
    iam, sts = aws("iam"), aws("sts")
    for n in range(3):
        yield iam.create_role(RoleName=f"role-{n}", AssumeRolePolicyDocument=TRUST)
    yield iam.create_user(UserName="user")
    yield iam.create_access_key(UserName="user")
    policy = iam.create_policy(PolicyName="policy", PolicyDocument=ALLOW)["Policy"]["Arn"]
    yield policy
    yield iam.attach_role_policy(RoleName="role-0", PolicyArn=policy)
    yield iam.create_group(GroupName="group")
    yield iam.add_user_to_group(GroupName="group", UserName="user")
    yield iam.create_instance_profile(InstanceProfileName="profile")
    yield sts.assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/role-1", RoleSessionName="session")
    pool = aws("cognito-idp").create_user_pool(PoolName="pool")["UserPool"]["Id"]
    yield pool
    yield aws("cognito-idp").create_user_pool_client(UserPoolId=pool, ClientName="client")
    yield aws("cognito-idp").admin_create_user(UserPoolId=pool, Username="somebody")
    yield aws("cognito-identity").create_identity_pool(IdentityPoolName="pool", AllowUnauthenticatedIdentities=True)


def _secrets(aws: Client) -> Iterator[Any]:
    kms, secrets, ssm = aws("kms"), aws("secretsmanager"), aws("ssm")
    key = kms.create_key(Description="d")["KeyMetadata"]["KeyId"]
    yield key
    yield kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")
    yield kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
    yield kms.create_alias(AliasName="alias/a", TargetKeyId=key)
    yield kms.encrypt(KeyId=key, Plaintext=b"secret")
    yield kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    yield secrets.create_secret(Name="secret", SecretString="s")
    yield secrets.put_secret_value(SecretId="secret", SecretString="t")
    yield secrets.get_random_password()
    for n in range(5):
        yield ssm.put_parameter(Name=f"/p/{n}", Value=str(n), Type="SecureString" if n % 2 else "String")
    yield ssm.put_parameter(Name="/p/1", Value="again", Type="String", Overwrite=True)
    acm = aws("acm")
    yield acm.request_certificate(DomainName="example.com")
    pca = {"KeyAlgorithm": "RSA_2048", "SigningAlgorithm": "SHA256WITHRSA", "Subject": {"CommonName": "x"}}
    yield aws("acm-pca").create_certificate_authority(
        CertificateAuthorityConfiguration=pca, CertificateAuthorityType="ROOT"
    )


def _network(aws: Client) -> Iterator[Any]:
    ec2, elb = aws("ec2"), aws("elbv2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    yield vpc
    subnets = []
    for n in range(2):
        reply = ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"us-east-1{'ab'[n]}")
        subnets.append(reply["Subnet"]["SubnetId"])
        yield reply
    group = ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]
    yield group
    yield ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
    )
    yield ec2.create_key_pair(KeyName="rsa")
    yield ec2.create_key_pair(KeyName="ed", KeyType="ed25519")
    yield ec2.allocate_address(Domain="vpc")
    yield ec2.create_internet_gateway()
    yield ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)
    balancer = elb.create_load_balancer(Name="lb", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    yield balancer
    target = elb.create_target_group(Name="tg", Protocol="HTTP", Port=80, VpcId=vpc)["TargetGroups"][0][
        "TargetGroupArn"
    ]
    yield target
    forward = [{"Type": "forward", "TargetGroupArn": target}]
    listener = elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=forward)
    arn = listener["Listeners"][0]["ListenerArn"]
    yield arn
    conditions = [{"Field": "path-pattern", "Values": ["/x"]}]
    yield elb.create_rule(ListenerArn=arn, Priority=1, Conditions=conditions, Actions=forward)
    zone = aws("route53").create_hosted_zone(Name="example.org", CallerReference="r")["HostedZone"]["Id"]
    yield zone
    record = {"Name": "a.example.org", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "1.2.3.4"}]}
    changes = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
    yield aws("route53").change_resource_record_sets(HostedZoneId=zone, ChangeBatch=changes)


def _compute(aws: Client) -> Iterator[Any]:
    functions, gateway = aws("lambda"), aws("apigateway")
    yield functions.create_function(
        FunctionName="function",
        Runtime="python3.12",
        Role=f"arn:aws:iam::{ACCOUNT}:role/role-0",
        Handler="f.handler",
        Code={"ZipFile": _zip()},
        Publish=True,
    )
    yield functions.create_alias(FunctionName="function", Name="live", FunctionVersion="1")
    yield functions.create_event_source_mapping(
        EventSourceArn=f"arn:aws:sqs:us-east-1:{ACCOUNT}:two", FunctionName="function"
    )
    api = gateway.create_rest_api(name="api")["id"]
    yield api
    root = gateway.get_resources(restApiId=api)["items"][0]["id"]
    resource = gateway.create_resource(restApiId=api, parentId=root, pathPart="p")["id"]
    yield resource
    yield gateway.put_method(restApiId=api, resourceId=resource, httpMethod="GET", authorizationType="NONE")
    events, states, logs, watch = aws("events"), aws("stepfunctions"), aws("logs"), aws("cloudwatch")
    yield events.put_rule(Name="rule", ScheduleExpression="rate(1 day)")
    yield events.put_targets(Rule="rule", Targets=[{"Id": "1", "Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:one"}])
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}})
    yield states.create_state_machine(
        name="machine", definition=definition, roleArn=f"arn:aws:iam::{ACCOUNT}:role/role-0"
    )
    yield logs.create_log_group(logGroupName="/g")
    yield logs.create_log_stream(logGroupName="/g", logStreamName="s")
    yield logs.put_log_events(logGroupName="/g", logStreamName="s", logEvents=[{"timestamp": 1, "message": "m"}])
    metric = {"MetricName": "m", "Namespace": "n", "Period": 60, "EvaluationPeriods": 1, "Threshold": 1.0}
    yield watch.put_metric_alarm(
        AlarmName="alarm", ComparisonOperator="GreaterThanThreshold", Statistic="Sum", **metric
    )
    yield aws("ecr").create_repository(repositoryName="repository")
    yield aws("ecs").create_cluster(clusterName="cluster")
    yield aws("rds").create_db_instance(
        DBInstanceIdentifier="db",
        DBInstanceClass="db.t3.micro",
        Engine="postgres",
        MasterUsername="u",
        MasterUserPassword="password",
        AllocatedStorage=20,
    )


def _stacks(aws: Client) -> Iterator[Any]:
    template = {
        "Resources": {
            "Queue": {"Type": "AWS::SQS::Queue"},
            "Topic": {"Type": "AWS::SNS::Topic"},
            "Bucket": {"Type": "AWS::S3::Bucket"},
            "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": json.loads(TRUST)}},
        },
        "Outputs": {"Url": {"Value": {"Ref": "Queue"}}},
    }
    for name in ("stack", "gone"):
        yield aws("cloudformation").create_stack(StackName=name, TemplateBody=json.dumps(template))
    yield aws("cloudformation").delete_stack(StackName="gone")
    template["Resources"]["More"] = {"Type": "AWS::SQS::Queue"}
    yield aws("cloudformation").update_stack(StackName="stack", TemplateBody=json.dumps(template))


PARTS = (_storage, _messages, _tables, _identity, _secrets, _network, _compute, _stacks)


def describe(aws: Client) -> dict[str, Any]:
    """What a client sees of all of it: replies without what differs from call to call (request ids, dates, durations)."""
    calls: dict[str, tuple[str, str, dict[str, Any]]] = {
        "buckets": ("s3", "list_buckets", {}),
        "versions": ("s3", "list_object_versions", {"Bucket": "mixed"}),
        "policy": ("s3", "get_bucket_policy", {"Bucket": "mixed"}),
        "queues": ("sqs", "list_queues", {}),
        "topics": ("sns", "list_topics", {}),
        "subscriptions": ("sns", "list_subscriptions", {}),
        "tables": ("dynamodb", "list_tables", {}),
        "table": ("dynamodb", "describe_table", {"TableName": "first"}),
        "items": ("dynamodb", "scan", {"TableName": "first"}),
        "more items": ("dynamodb", "scan", {"TableName": "second"}),
        "stream": ("kinesis", "describe_stream", {"StreamName": "stream"}),
        "roles": ("iam", "list_roles", {}),
        "users": ("iam", "list_users", {}),
        "keys": ("iam", "list_access_keys", {"UserName": "user"}),
        "pools": ("cognito-idp", "list_user_pools", {"MaxResults": 10}),
        "kms": ("kms", "list_keys", {}),
        "aliases": ("kms", "list_aliases", {}),
        "secrets": ("secretsmanager", "list_secrets", {}),
        "secret": ("secretsmanager", "get_secret_value", {"SecretId": "secret"}),
        "parameters": ("ssm", "get_parameters_by_path", {"Path": "/p"}),
        "vpcs": ("ec2", "describe_vpcs", {}),
        "subnets": ("ec2", "describe_subnets", {}),
        "groups": ("ec2", "describe_security_groups", {}),
        "key pairs": ("ec2", "describe_key_pairs", {}),
        "volumes": ("ec2", "describe_volumes", {}),
        "target groups": ("elbv2", "describe_target_groups", {}),
        "zones": ("route53", "list_hosted_zones", {}),
        "functions": ("lambda", "list_functions", {}),
        "mappings": ("lambda", "list_event_source_mappings", {}),
        "apis": ("apigateway", "get_rest_apis", {}),
        "rules": ("events", "list_rules", {}),
        "targets": ("events", "list_targets_by_rule", {"Rule": "rule"}),
        "machines": ("stepfunctions", "list_state_machines", {}),
        "log groups": ("logs", "describe_log_groups", {}),
        "alarms": ("cloudwatch", "describe_alarms", {}),
        "repositories": ("ecr", "describe_repositories", {}),
        "clusters": ("ecs", "describe_clusters", {"clusters": ["cluster"]}),
        "databases": ("rds", "describe_db_instances", {}),
        "stacks": ("cloudformation", "describe_stacks", {}),
        "resources": ("cloudformation", "describe_stack_resources", {"StackName": "stack"}),
    }
    seen = {}
    for name, (service, call, arguments) in calls.items():
        reply = getattr(aws(service), call)(**arguments)
        reply.pop("ResponseMetadata")
        seen[name] = reply
    for database in seen["databases"]["DBInstances"]:
        database.pop("LatestRestorableTime")  # the time of asking
    return seen
