"""moto's state outlives its process: what was saved answers the same reads in another process, links and all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)  # two processes that import 30 services of moto each

TWIN = Path(__file__).with_name("twin.py")


def run(*arguments: str) -> None:
    """One twin process; its output is shown when it fails."""
    done = subprocess.run(
        [sys.executable, str(TWIN), *arguments],
        check=False,
        env={"PYTHONHASHSEED": "0", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The world made in one process, saved, and restored in another: reads, answers before and after, links, failures."""
    folder = tmp_path_factory.mktemp("twins")
    run("populate", str(folder))
    run("restore", str(folder))
    before = json.loads((folder / "reads.json").read_text())
    after = json.loads((folder / "reads-after.json").read_text())
    return {"before": before, "after": after, "folder": folder}


def test_every_service_is_saved_and_loaded(twins: dict[str, Any]) -> None:
    """No service of the world fails to be written or read."""
    assert twins["before"]["failed"] == {}
    assert twins["after"]["failed"] == {}


def test_no_reference_dangles(twins: dict[str, Any]) -> None:
    """Every object that one image refers to is defined by another."""
    assert twins["after"]["dangling"] == []


def test_a_restored_world_answers_the_same(twins: dict[str, Any]) -> None:
    """Each read of each service gives, in a new process, the reply it gave before."""
    before, after = twins["before"], twins["after"]
    differing = [
        (read[0], read[1], was[:300], now[:300])
        for read, was, now in zip(before["reads"], before["answers"], after["answers"], strict=True)
        if was != now
    ]
    assert differing == []
    assert sum("Error" not in answer[:60] for answer in before["answers"]) > 100, "too few reads answered anything"


def test_services_refer_to_one_another(twins: dict[str, Any]) -> None:
    """A stack's resources, an event source mapping's queue, a stream's table are references into other services' images."""
    links = twins["before"]["links"]
    assert {"sqs", "sns", "s3", "dynamodb", "iam", "awslambda", "ec2", "kms", "logs"} <= set(links["cloudformation"])
    assert "awslambda" in links["sqs"]
    assert links["dynamodbstreams"] == ["dynamodb"]
    assert "iam" in links["sts"]
