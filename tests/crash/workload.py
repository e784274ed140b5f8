"""What users do with a local AWS, in small steps, each of which leaves a fact that must outlive a crash.

A step either returns (then the daemon acknowledged it, and its fact is in `facts`) or is cut off by the crash (then it may or
may not have happened; its fact is in `doubtful` and is not held against anybody). Every worker has names of its own, so that
facts of different workers never overwrite one another.
"""

from __future__ import annotations

import io
import itertools
import json
import random
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from harness import Daemon

__all__ = ["STEPS", "Facts", "Worker", "check"]


@dataclass
class Facts:
    """What was acknowledged, as (kind, name) -> what the reply said of it."""

    known: dict[tuple[str, str], Any] = field(default_factory=dict)
    doubtful: set[tuple[str, str]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, name: str, value: Any) -> None:
        with self.lock:
            self.known[kind, name] = value


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("f.py"), "def handler(event, context): return event")
    return buffer.getvalue()


TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
TEMPLATE = json.dumps(
    {
        "Resources": {
            "Queue": {"Type": "AWS::SQS::Queue"},
            "Topic": {"Type": "AWS::SNS::Topic"},
            "Table": {
                "Type": "AWS::DynamoDB::Table",
                "Properties": {
                    "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}],
                    "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
                    "BillingMode": "PAY_PER_REQUEST",
                },
            },
        }
    }
)


class Worker:
    """One client that takes random steps until the daemon is gone."""

    def __init__(self, daemon: Daemon, facts: Facts, name: str, seed: int) -> None:
        self.daemon = daemon
        self.facts = facts
        self.name = name
        self.chance = random.Random(seed)
        self.numbers = itertools.count()
        self.steps = 0
        self.error: BaseException | None = None

    def aws(self, service: str) -> Any:
        return self.daemon.client(service)

    def fresh(self) -> str:
        return f"{self.name}-{next(self.numbers)}"

    def run(self) -> None:
        """Take steps until the daemon is killed. An error before that is kept in `error`: the test fails on it.

        What a kill looks like to boto3 varies: a refused connection, a reply without its body (which it takes for an empty one).
        """
        kinds, weights = zip(*((step, weight) for step, weight in STEPS.values()), strict=True)
        try:
            while True:
                self.chance.choices(kinds, weights)[0](self)
                self.steps += 1
        except Exception as error:
            if not self.daemon.killed:
                self.error = error

    def sure(self, kind: str, name: str, call: Callable[[], Any]) -> Any:
        """Take one step; while it is under way its fact is doubtful."""
        self.facts.doubtful.add((kind, name))
        reply = call()
        self.facts.doubtful.discard((kind, name))
        return reply


def put_object(worker: Worker) -> None:
    size = worker.chance.choice((10, 1000, 1000, 20_000, 400_000))
    body = worker.chance.randbytes(size)
    key = worker.fresh()
    reply = worker.sure("object", key, lambda: worker.aws("s3").put_object(Bucket="crash", Key=key, Body=body))
    worker.facts.add("object", key, {"etag": reply["ETag"], "body": body})


def send_message(worker: Worker) -> None:
    text = worker.fresh()
    reply = worker.sure(
        "message", text, lambda: worker.aws("sqs").send_message(QueueUrl=worker_queue(worker), MessageBody=text)
    )
    worker.facts.add("message", text, reply["MessageId"])


def worker_queue(worker: Worker) -> str:
    return f"{worker.daemon.endpoint}/000000000000/crash"


def put_item(worker: Worker) -> None:
    name = worker.fresh()
    item = {"k": {"S": name}, "v": {"B": worker.chance.randbytes(100)}}
    worker.sure("item", name, lambda: worker.aws("dynamodb").put_item(TableName="crash", Item=item))
    worker.facts.add("item", name, item)


def count_up(worker: Worker) -> None:
    """A counter that only ever grows: after a crash it is where it was acknowledged, or one further if that was under way."""

    def add_one() -> Any:
        return worker.aws("dynamodb").update_item(
            TableName="crash",
            Key={"k": {"S": f"counter-{worker.name}"}},
            UpdateExpression="ADD n :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
            ReturnValues="UPDATED_NEW",
        )

    reply = worker.sure("counter", worker.name, add_one)
    worker.facts.add("counter", worker.name, int(reply["Attributes"]["n"]["N"]))


def create_role(worker: Worker) -> None:
    name = worker.fresh()
    call = worker.aws("iam").create_role
    role = worker.sure("role", name, lambda: call(RoleName=name, AssumeRolePolicyDocument=TRUST))["Role"]
    worker.facts.add("role", name, (role["RoleId"], role["Arn"], role["CreateDate"]))


def put_parameter(worker: Worker) -> None:
    name = worker.fresh()
    worker.sure("parameter", name, lambda: worker.aws("ssm").put_parameter(Name=name, Value=name, Type="String"))
    worker.facts.add("parameter", name, name)


def create_secret(worker: Worker) -> None:
    name = worker.fresh()
    call = worker.aws("secretsmanager").create_secret
    reply = worker.sure("secret", name, lambda: call(Name=name, SecretString=name))
    worker.facts.add("secret", name, (reply["ARN"], reply["VersionId"]))


def create_key(worker: Worker) -> None:
    name = worker.fresh()
    key = worker.sure("key", name, lambda: worker.aws("kms").create_key(Description=name))["KeyMetadata"]
    worker.facts.add("key", name, (key["KeyId"], key["CreationDate"]))


def create_function(worker: Worker) -> None:
    name = worker.fresh()

    def create() -> Any:
        return worker.aws("lambda").create_function(
            FunctionName=name,
            Runtime="python3.12",
            Role="arn:aws:iam::000000000000:role/crash",
            Handler="f.handler",
            Code={"ZipFile": _zip()},
        )

    function = worker.sure("function", name, create)
    worker.facts.add("function", name, (function["FunctionArn"], function["CodeSha256"], function["LastModified"]))
    call = worker.aws("lambda").create_event_source_mapping
    source = "arn:aws:sqs:us-east-1:000000000000:crash-idle"
    mapping = worker.sure("mapping", name, lambda: call(EventSourceArn=source, FunctionName=name))
    worker.facts.add("mapping", name, (mapping["UUID"], function["FunctionArn"], source))


def create_stack(worker: Worker) -> None:
    name = worker.fresh()
    call = worker.aws("cloudformation").create_stack
    reply = worker.sure("stack", name, lambda: call(StackName=name, TemplateBody=TEMPLATE))
    worker.facts.add("stack", name, reply["StackId"])


STEPS: dict[str, tuple[Callable[[Worker], None], int]] = {
    "put_object": (put_object, 20),
    "send_message": (send_message, 20),
    "put_item": (put_item, 20),
    "count_up": (count_up, 10),
    "create_role": (create_role, 5),
    "put_parameter": (put_parameter, 5),
    "create_secret": (create_secret, 4),
    "create_key": (create_key, 3),
    "create_function": (create_function, 2),
    "create_stack": (create_stack, 1),
}
"""Each step with its weight: much data, few resources, as in real use."""


def prepare(daemon: Daemon) -> None:
    """What the steps stand on."""
    daemon.client("s3").create_bucket(Bucket="crash")
    sqs = daemon.client("sqs")
    sqs.create_queue(QueueName="crash", Attributes={"VisibilityTimeout": "0"})
    sqs.create_queue(QueueName="crash-idle")
    sqs.create_queue(QueueName="crash-feed", Attributes={"VisibilityTimeout": "0"})
    daemon.client("dynamodb").create_table(
        TableName="crash",
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    daemon.client("iam").create_role(RoleName="crash", AssumeRolePolicyDocument=TRUST)
    sns = daemon.client("sns")
    topic = sns.create_topic(Name="crash")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:000000000000:crash-feed")


def check(daemon: Daemon, facts: Facts) -> list[str]:
    """What was acknowledged and is not there, or is not as it was: one sentence each."""
    return [sentence for part in (_replay, _data, _resources, _links) for sentence in part(daemon, facts)]


def _replay(daemon: Daemon, _facts: Facts) -> Iterator[str]:
    """Every reply of the replay was the one that had been acknowledged."""
    for each in daemon.get("/_holdfast/status")["replay"]["differed"]:
        yield f"the reply of LSN {each['lsn']} ({each['service']}:{each['operation']}) came out differently"


def _compare(what: str, name: str, was: Any, now: Any) -> Iterator[str]:
    if was != now:
        yield f"{what} {name} was acknowledged as {was!r:.200}, and is now {now!r:.200}"


def _of(facts: Facts, kind: str) -> Iterator[tuple[str, Any]]:
    for (each, name), value in list(facts.known.items()):
        if each == kind:
            yield name, value


def _found(call: Callable[[], Any]) -> Any:
    """What `call` returns; None when AWS says that there is no such thing."""
    try:
        return call()
    except Exception as error:
        if type(error).__name__ not in {
            "ClientError",
            "NoSuchKey",
            "NoSuchEntityException",
            "ParameterNotFound",
        } and not hasattr(error, "response"):
            raise
        return None


def _data(daemon: Daemon, facts: Facts) -> Iterator[str]:
    s3, ddb, sqs = daemon.client("s3"), daemon.client("dynamodb"), daemon.client("sqs")
    listed: dict[str, str] = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="crash"):
        listed |= {entry["Key"]: entry["ETag"] for entry in page.get("Contents", [])}
    for name, was in _of(facts, "object"):
        yield from _compare("the object", name, was["etag"], listed.get(name))
    objects = list(_of(facts, "object"))
    for name, was in random.Random(len(objects)).sample(objects, k=min(10, len(objects))):
        body = _found(lambda name=name: s3.get_object(Bucket="crash", Key=name)["Body"].read())
        yield from _compare("the body of", name, was["body"], body)
    items: dict[str, Any] = {}
    for page in ddb.get_paginator("scan").paginate(TableName="crash", ConsistentRead=True):
        items |= {item["k"]["S"]: item for item in page["Items"]}
    for name, was in _of(facts, "item"):
        yield from _compare("the item", name, was, items.get(name))
    for name, was in _of(facts, "counter"):
        now = int(items.get(f"counter-{name}", {"n": {"N": "0"}})["n"]["N"])
        if now == was + 1 and ("counter", name) in facts.doubtful:
            facts.add("counter", name, now)  # the step that the crash cut off did happen, and stays
        else:
            yield from _compare("the counter", name, was, now)
    messages = _taken(sqs, f"{daemon.endpoint}/000000000000/crash")
    for name, was in _of(facts, "message"):
        yield from _compare("the message", name, was, messages.get(name))
    for name in messages:
        if ("taken", name) in facts.known:
            yield f"the message {name} was deleted, and is there again"
        facts.known.pop(("message", name), None)
        facts.add("taken", name, True)


def _taken(sqs: Any, queue: str) -> dict[str, str]:
    """Body -> id of every message of a queue, each received and deleted: moto looks at all that are there for every one."""
    seen: dict[str, str] = {}
    while batch := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
        seen |= {message["Body"]: message["MessageId"] for message in batch}
        entries = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(batch)]
        sqs.delete_message_batch(QueueUrl=queue, Entries=entries)
    return seen


def _resources(daemon: Daemon, facts: Facts) -> Iterator[str]:
    iam, ssm, secrets = daemon.client("iam"), daemon.client("ssm"), daemon.client("secretsmanager")
    kms, functions, stacks = daemon.client("kms"), daemon.client("lambda"), daemon.client("cloudformation")
    roles = {}
    for page in iam.get_paginator("list_roles").paginate():
        roles |= {role["RoleName"]: (role["RoleId"], role["Arn"], role["CreateDate"]) for role in page["Roles"]}
    for name, was in _of(facts, "role"):
        yield from _compare("the role", name, was, roles.get(name))
    for name, was in _of(facts, "parameter"):
        found = _found(lambda name=name: ssm.get_parameter(Name=name)["Parameter"]["Value"])
        yield from _compare("the parameter", name, was, found)
    for name, was in _of(facts, "secret"):
        found = _found(lambda name=name: secrets.get_secret_value(SecretId=name))
        yield from _compare("the secret", name, was, found and (found["ARN"], found["VersionId"]))
    for name, was in _of(facts, "key"):
        found = _found(lambda was=was: kms.describe_key(KeyId=was[0])["KeyMetadata"])
        yield from _compare("the key", name, was, found and (found["KeyId"], found["CreationDate"]))
    for name, was in _of(facts, "function"):
        found = _found(lambda name=name: functions.get_function(FunctionName=name)["Configuration"])
        now = found and (found["FunctionArn"], found["CodeSha256"], found["LastModified"])
        yield from _compare("the function", name, was, now)
    for name, was in _of(facts, "mapping"):
        found = _found(lambda was=was: functions.get_event_source_mapping(UUID=was[0]))
        yield from _compare(
            "the mapping of", name, was, found and (found["UUID"], found["FunctionArn"], found["EventSourceArn"])
        )
    for name, was in _of(facts, "stack"):
        found = _found(lambda name=name: stacks.describe_stack_resources(StackName=name)["StackResources"])
        yield from _compare("the stack", name, (was, 3), found and (found[0]["StackId"], len(found)))


def _links(daemon: Daemon, _facts: Facts) -> Iterator[str]:
    """A publish to the topic still arrives in the queue that subscribed before the crash."""
    sns, sqs = daemon.client("sns"), daemon.client("sqs")
    text = f"after {daemon.process.pid if daemon.process else 0}"
    sns.publish(TopicArn="arn:aws:sns:us-east-1:000000000000:crash", Message=text)
    messages = _taken(sqs, f"{daemon.endpoint}/000000000000/crash-feed")
    if not any(text in body for body in messages):
        yield "a publish to the topic no longer arrives in the subscribed queue"
