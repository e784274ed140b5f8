"""Scenes of state that services share, each played over two or more processes that hand on nothing but images.

    python scenes.py SCENE ACT FOLDER

An act is a function named `<scene>_<act>`. Act 1 makes the state and saves it; later acts load what was saved, look, and may
change and save again. An assertion that fails makes the process fail.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import twin
import world

from holdfast.daemon.services.moto import backends
from holdfast.daemon.services.moto.state import MotoSource

FOLDER = Path()
SOURCE = MotoSource()
TOUCHED: set[str] = set()
client = twin.client


def backend(key: str, region: str = world.REGION) -> Any:
    return backends.backend_dict(key)[world.ACCOUNT][region]


def save(services: Iterable[str]) -> dict[str, list[str]]:
    links, failed = twin.save(SOURCE, FOLDER, services)
    assert failed == {}
    known = saved_links() | links
    (FOLDER / "links.json").write_text(json.dumps(known))
    for service, linked in known.items():
        SOURCE.noted(service, linked)
    return links


def saved_links() -> dict[str, list[str]]:
    path = FOLDER / "links.json"
    return json.loads(path.read_text()) if path.exists() else {}


def load(services: Iterable[str], *, complete: bool = True) -> None:
    for service, linked in saved_links().items():
        SOURCE.noted(service, linked)
    with SOURCE.loading() as loading:
        for service in services:
            SOURCE.load(service, {part.name: part.read_bytes() for part in (FOLDER / service).iterdir()})
        dangling = loading.dangling()
    assert not complete or dangling == [], dangling


def all_saved(*, backwards: bool = False) -> list[str]:
    return sorted((path.name for path in FOLDER.iterdir() if path.is_dir()), reverse=backwards)


# --- a stack and its resources ---------------------------------------------------------------------------------------


def stack_queue() -> str:
    url: str = client("sqs").get_queue_url(QueueName="stack-queue")["QueueUrl"]
    return url


def held_by_stack() -> dict[str, Any]:
    (stack,) = backend("moto.cloudformation.models:cloudformation_backends").stacks.values()
    held: dict[str, Any] = stack.resource_map._parsed_resources
    return held


def resources() -> dict[str, bool]:
    """For each resource of the stack: whether the stack and the service hold one and the same object."""
    held = held_by_stack()
    services = {
        "Queue": backend("moto.sqs.models:sqs_backends").queues.get("stack-queue"),
        "Topic": backend("moto.sns.models:sns_backends").topics.get(
            f"arn:aws:sns:{world.REGION}:{world.ACCOUNT}:stack-topic"
        ),
        "Bucket": backend("moto.s3.models:s3_backends", "aws").buckets.get("stack-bucket"),
        "Table": backend("moto.dynamodb.models:dynamodb_backends").tables.get("stack-table"),
        "Function": backend("moto.awslambda_simple.models:lambda_simple_backends").get_function("stack-function"),
        "Group": backend("moto.logs.models:logs_backends").groups.get("stack-group"),
        "Vpc": backend("moto.ec2.models:ec2_backends").vpcs.get(held["Vpc"].id),
        "Subnet": backend("moto.ec2.models:ec2_backends").get_subnet(held["Subnet"].id),
        "Key": backend("moto.kms.models:kms_backends").keys.get(held["Key"].id),
    }
    return {name: held[name] is there for name, there in services.items()}


def stack_1() -> None:
    world.RECIPES["iam"](client)
    world.RECIPES["cloudformation"](client)
    assert all(resources().values()), resources()
    save(TOUCHED)


def stack_2() -> None:
    load(all_saved())
    assert all(resources().values()), resources()
    client("sqs").tag_queue(QueueUrl=stack_queue(), Tags={"new": "tag"})
    client("cloudformation").delete_stack(StackName="stack")
    assert "QueueUrls" not in client("sqs").list_queues()
    assert client("dynamodb").list_tables()["TableNames"] == []


def backwards_1() -> None:
    stack_1()


def backwards_2() -> None:
    """The order in which images are loaded makes no difference."""
    load(all_saved(backwards=True))
    assert all(resources().values()), resources()


# --- a queue that its service forgets while the stack still holds it ---------------------------------------------------


def forgotten_1() -> None:
    stack_1()
    client("sqs").delete_queue(QueueUrl=stack_queue())
    save(["sqs"])  # CloudFormation is clean: its image from before still refers to the queue


def forgotten_2() -> None:
    load(all_saved())
    held = held_by_stack()
    assert held["Queue"].name == "stack-queue"
    assert "stack-queue" not in backend("moto.sqs.models:sqs_backends").queues
    save(["cloudformation", "sqs"])


def forgotten_3() -> None:
    """A third life: the queue is now the stack's alone, and defined in its image."""
    load(all_saved(backwards=True))
    held = held_by_stack()
    assert held["Queue"].name == "stack-queue"
    assert client("cloudformation").describe_stack_resources(StackName="stack")["StackResources"]


def guests_1() -> None:
    """A table with items, deleted behind the stack's back: now the stack alone holds it, with items that have no key."""
    stack_1()
    client("dynamodb").put_item(TableName="stack-table", Item={"id": {"S": "a"}})
    client("dynamodb").delete_table(TableName="stack-table")
    save(["cloudformation", "dynamodb"])


def guests_2() -> None:
    load(all_saved())
    table = held_by_stack()["Table"]
    assert table.name == "stack-table"
    assert len(table) == 1
    assert client("dynamodb").list_tables()["TableNames"] == []


def lazy_1() -> None:
    stack_1()


def lazy_2() -> None:
    """Only the queue's service is loaded; it forgets the queue that the stack, not loaded, refers to."""
    load(["awslambda", "sqs", "logs", "iam"], complete=False)
    client("sqs").delete_queue(QueueUrl=stack_queue())
    save(["sqs"])


def lazy_3() -> None:
    forgotten_2()


# --- images of two lives ---------------------------------------------------------------------------------------------


def lives_1() -> None:
    stack_1()


def lives_2() -> None:
    load(all_saved())
    client("sqs").tag_queue(QueueUrl=stack_queue(), Tags={"later": "yes"})
    save(["sqs"])


def lives_3() -> None:
    """The stack's image is of the first life, the queue's of the second: they still are about one queue."""
    load(all_saved())
    assert all(resources().values()), resources()
    save(["cloudformation"])


def lives_4() -> None:
    load(all_saved())
    assert all(resources().values()), resources()
    assert client("sqs").list_queue_tags(QueueUrl=stack_queue())["Tags"]["later"] == "yes"


# --- an event source mapping -----------------------------------------------------------------------------------------


def mapping_1() -> None:
    for name in ("iam", "sqs", "awslambda"):
        world.RECIPES[name](client)
    save(TOUCHED)


def mapping_2() -> None:
    load(all_saved())
    queue = backend("moto.sqs.models:sqs_backends").queues["jobs"]
    functions = backend("moto.awslambda_simple.models:lambda_simple_backends")
    (mapping,) = queue.lambda_event_source_mappings.values()
    assert mapping is functions._event_source_mappings[mapping.uuid]
    client("lambda").update_event_source_mapping(UUID=mapping.uuid, Enabled=False)
    assert mapping.enabled is False


# --- a stream's iterator ---------------------------------------------------------------------------------------------


def iterator_1() -> None:
    world.RECIPES["dynamodb"](client)
    streams = client("dynamodbstreams")
    arn = streams.list_streams(TableName="people")["Streams"][0]["StreamArn"]
    shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="LATEST")["ShardIterator"]
    (FOLDER / "iterator.txt").write_text(iterator)
    save(TOUCHED)


def iterator_2() -> None:
    load(all_saved())
    client("dynamodb").put_item(TableName="people", Item={"id": {"S": "new"}, "at": {"N": "1"}})
    records = client("dynamodbstreams").get_records(ShardIterator=(FOLDER / "iterator.txt").read_text())["Records"]
    assert [record["dynamodb"]["Keys"]["id"]["S"] for record in records] == ["new"]


# --- a topic that feeds a queue --------------------------------------------------------------------------------------


def subscription_1() -> None:
    for name in ("sqs", "sns"):
        world.RECIPES[name](client)
    save(TOUCHED)


def subscription_2() -> None:
    load(all_saved())
    topic = client("sns").list_topics()["Topics"][0]["TopicArn"]
    client("sns").publish(TopicArn=topic, Message="after the restart")
    url = client("sqs").get_queue_url(QueueName="jobs")["QueueUrl"]
    bodies = [
        message["Body"]
        for _ in range(3)
        for message in client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    ]
    assert "after the restart" in bodies


# --- access keys -----------------------------------------------------------------------------------------------------


def access_keys_1() -> None:
    world.RECIPES["iam"](client)
    credentials = client("sts").assume_role(RoleArn=world.ROLE, RoleSessionName="session")["Credentials"]
    key = client("iam").create_access_key(UserName="ann")["AccessKey"]
    (FOLDER / "keys.json").write_text(json.dumps([credentials["AccessKeyId"], key["AccessKeyId"]]))
    save(TOUCHED)


def access_keys_2() -> None:
    load(all_saved())
    session, user = json.loads((FOLDER / "keys.json").read_text())
    who = client("sts", aws_access_key_id=user, aws_secret_access_key="x").get_caller_identity()
    assert who["Arn"].endswith(":user/ann")
    assumed = client("sts", aws_access_key_id=session, aws_secret_access_key="x").get_caller_identity()
    assert ":assumed-role/worker/session" in assumed["Arn"]
    client("iam").delete_access_key(UserName="ann", AccessKeyId=user)
    assert user not in {
        key["AccessKeyId"] for key in client("iam").list_access_keys(UserName="ann")["AccessKeyMetadata"]
    }


# --- backends that hold others ---------------------------------------------------------------------------------------


def attributes_1() -> None:
    world.RECIPES["ec2"](client)
    subnets = [
        subnet["SubnetId"]
        for subnet in client("ec2").describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])[
            "Subnets"
        ]
    ]
    client("elbv2").create_load_balancer(Name="balancer", Subnets=subnets[:2])
    client("efs").create_file_system(CreationToken="t")
    client("autoscaling").create_launch_configuration(
        LaunchConfigurationName="l", ImageId="ami-12c6146b", InstanceType="t3.micro"
    )
    client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName="g", LaunchConfigurationName="l", MinSize=2, MaxSize=2, VPCZoneIdentifier=subnets[0]
    )
    save(TOUCHED)


def attributes_2() -> None:
    load(all_saved())
    ec2 = backend("moto.ec2.models:ec2_backends")
    assert backend("moto.elbv2.models:elbv2_backends").ec2_backend is ec2
    group = backend("moto.autoscaling.models:autoscaling_backends").autoscaling_groups["g"]
    known = {id(instance) for reservation in ec2.reservations.values() for instance in reservation.instances}
    assert len(group.instance_states) == 2
    assert {id(state.instance) for state in group.instance_states} <= known
    (balancer,) = backend("moto.elbv2.models:elbv2_backends").load_balancers.values()
    assert balancer.subnets[0] is ec2.get_subnet(balancer.subnets[0].id)
    instance = group.instance_states[0].instance.id
    client("ec2").terminate_instances(InstanceIds=[instance])
    before = {
        each["InstanceId"]
        for each in client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"][0]["Instances"]
    }
    assert before


# --- addresses -------------------------------------------------------------------------------------------------------


def addresses_1() -> None:
    world.RECIPES["ec2"](client)
    instance = _launch()
    (FOLDER / "address.txt").write_text(instance)
    save(TOUCHED)


def addresses_2() -> None:
    """The next instance gets the next address, as if nothing had happened in between."""
    load(all_saved())
    last = (FOLDER / "address.txt").read_text().rpartition(".")
    assert _launch() == f"{last[0]}.{int(last[2]) + 1}"


def _launch() -> str:
    ec2 = client("ec2")
    subnet = ec2.describe_subnets(Filters=[{"Name": "cidr-block", "Values": ["10.0.1.0/24"]}])["Subnets"][0]["SubnetId"]
    instance = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, SubnetId=subnet)["Instances"][0]
    return instance["PrivateIpAddress"]


# --- counters and keys outside the backends ---------------------------------------------------------------------------


def counters_1() -> None:
    for name in ("logs", "sqs", "sns"):
        world.RECIPES[name](client)
    topic = backend("moto.sns.models:sns_backends").subscriptions
    (subscription,) = topic.values()
    (FOLDER / "key.txt").write_text(str(subscription.private_key().private_numbers().p))
    assert subscription.private_key() is subscription.private_key()
    save(TOUCHED)


def counters_2() -> None:
    """The next log event gets the next number, and a subscription signs with the key it had."""
    load(all_saved())
    event = {"timestamp": world.now_ms(), "message": "later"}
    client("logs").put_log_events(logGroupName="/app", logStreamName="one", logEvents=[event])
    ids = [found["eventId"] for found in client("logs").filter_log_events(logGroupName="/app")["events"]]
    assert ids == ["0", "1"], ids
    (subscription,) = backend("moto.sns.models:sns_backends").subscriptions.values()
    assert (FOLDER / "key.txt").read_text() == str(subscription.private_key().private_numbers().p)


# --- a service started over ------------------------------------------------------------------------------------------


def reset_1() -> None:
    world.RECIPES["s3"](client)
    world.RECIPES["sqs"](client)
    SOURCE.reset("s3")
    assert client("s3").list_buckets()["Buckets"] == []
    assert len(client("sqs").list_queues()["QueueUrls"]) == 2
    client("s3").create_bucket(Bucket="plain")


# --- a thread that must not come back to life ------------------------------------------------------------------------


def timers_1() -> None:
    swf = client("swf")
    swf.register_domain(name="d", workflowExecutionRetentionPeriodInDays="1")
    swf.register_workflow_type(
        domain="d",
        name="w",
        version="1",
        defaultTaskList={"name": "l"},
        defaultChildPolicy="TERMINATE",
        defaultTaskStartToCloseTimeout="30",
        defaultExecutionStartToCloseTimeout="3000",
    )
    swf.start_workflow_execution(domain="d", workflowId="id", workflowType={"name": "w", "version": "1"})
    token = swf.poll_for_decision_task(domain="d", taskList={"name": "l"})["taskToken"]
    decision = {
        "decisionType": "StartTimer",
        "startTimerDecisionAttributes": {"timerId": "t", "startToFireTimeout": "1"},
    }
    swf.respond_decision_task_completed(taskToken=token, decisions=[decision])
    save(TOUCHED)


def timers_2() -> None:
    """A workflow's timer goes on after a restart."""
    import time

    load(all_saved())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        execution = client("swf").list_open_workflow_executions(
            domain="d", startTimeFilter={"oldestDate": "2020-01-01"}
        )["executionInfos"][0]["execution"]
        events = client("swf").get_workflow_execution_history(domain="d", execution=execution)["events"]
        if "TimerFired" in {event["eventType"] for event in events}:
            return
        time.sleep(0.1)
    raise AssertionError("the timer never fired")


def main(scene: str, act: str, folder: str) -> None:
    global FOLDER, TOUCHED  # noqa: PLW0603 - one scene a process
    FOLDER = Path(folder)
    TOUCHED = twin.start()
    globals()[f"{scene}_{act}"]()


if __name__ == "__main__":
    main(*sys.argv[1:])
