"""Every service of moto: populated, saved, restored in another process, and gone on with. The table is this test's output.

One process makes half of the calls of calls.json, saves, and goes on with the other half and all reads. A second process restores
and goes on in the same way. Every reply of the second half, of commands and reads, must be the same in both.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import botocore.session
import pytest

TWIN = Path(__file__).with_name("twin.py")
TABLE = Path(__file__).parents[3] / "build" / "services.md"

SERVICES_MIN = 150
"""Services that the calls of calls.json populate, with moto 5.2.5."""

ERRORS_MAX = 20
"""Of 1,377 calls and reads: those that need what an emptier account had."""

LOCALSTACK_PERSISTS = (
    "acm apigateway appconfig appsync cloudwatch cognitoidp dynamodb iam kinesis kms awslambda rds route53 s3 "
)
LOCALSTACK_PERSISTS += "secretsmanager sns sqs ssm stepfunctions"
LOCALSTACK_LACKS = "elasticache kafka ec2 firehose mq"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str | int]]:
    """One row a service: what was saved, what was restored, how many replies after that, how many equal."""
    folder = tmp_path_factory.mktemp("flood")
    for verb in ("flood", "go-on"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(TWIN), verb, str(folder)],
            check=False,
            env={"PYTHONHASHSEED": "0", "PATH": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    before = json.loads((folder / "reads.json").read_text())
    after = json.loads((folder / "reads-after.json").read_text())
    assert sum("Error" in answer[:60] for answer in before["answers"]) < ERRORS_MAX, (
        "calls worked when they were recorded"
    )
    return rows(before, after)


def rows(before: dict, after: dict) -> list[dict[str, str | int]]:
    replies: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    for (name, *_), was, now in zip(before["reads"], before["answers"], after["answers"], strict=True):
        replies[folder_of(name)] += 1
        equal[folder_of(name)] += was == now
    return [
        {
            "service": service,
            "saved": before["failed"].get(service, "yes"),
            "restored": after["failed"].get(service, "yes"),
            "replies": replies[service],
            "equal": equal[service],
        }
        for service in sorted({*before["links"], *before["failed"]})
    ]


def folder_of(name: str) -> str:
    """moto's name of a service that boto3 calls `name`."""
    special = {"lambda": "awslambda", "docdb": "rds", "neptune": "rds", "kinesisanalytics": "kinesisanalyticsv2"}
    return special.get(name, name.replace("-", ""))


def render(table: list[dict[str, str | int]]) -> str:
    lines = ["| service | saved | restored | replies | equal |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['service']} | {row['saved']} | {row['restored']} | {row['replies']} | {row['equal']} |"
        for row in table
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_service_of_moto_outlives_its_process(table: list[dict[str, str | int]]) -> None:
    """Each service that calls can populate is saved, and goes on in a new process as it did in the old one."""
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(render(table))
    print(render(table))
    wrong = [
        row for row in table if (row["saved"], row["restored"]) != ("yes", "yes") or row["replies"] != row["equal"]
    ]
    assert wrong == []
    assert len(table) >= SERVICES_MIN
    assert sum(int(row["replies"]) for row in table) > 1000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_localstack_persists_and_what_it_lacks_is_there(table: list[dict[str, str | int]]) -> None:
    """By name: the services of LocalStack's persistence page, and those it is known to lack."""
    answered = {row["service"] for row in table if row["replies"]}
    assert set(LOCALSTACK_PERSISTS.split()) - answered == set()
    assert set(LOCALSTACK_LACKS.split()) - answered == set()


def test_calls_name_services_that_exist() -> None:
    """The recorded calls are calls of boto3's clients."""
    known = set(botocore.session.Session().get_available_services())
    calls = json.loads((TWIN.parent / "calls.json").read_text())
    assert {call[0] for kind in ("calls", "reads") for call in calls[kind]} <= known
