"""What several services hold is one object, before a restart and after, whatever was saved when and loaded first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)

SCENES = Path(__file__).with_name("scenes.py")


def play(scene: str, acts: int, folder: Path) -> None:
    """Each act in a process of its own."""
    for act in range(1, acts + 1):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(SCENES), scene, str(act), str(folder)],
            check=False,
            env={"PYTHONHASHSEED": "0", "PATH": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"act {act} of {scene}:\n{done.stdout}{done.stderr}"


def test_a_stack_holds_its_services_own_resources(tmp_path: Path) -> None:
    """After a restart a stack and nine services hold the same objects, and deleting the stack deletes them."""
    play("stack", 2, tmp_path)


def test_images_load_in_any_order(tmp_path: Path) -> None:
    """Loaded backwards, the stack and its services still hold the same objects."""
    play("backwards", 2, tmp_path)


def test_a_resource_its_service_forgot_stays_with_the_stack(tmp_path: Path) -> None:
    """A queue deleted behind the stack's back is defined for the stack's older image by the queue service's next one."""
    play("forgotten", 3, tmp_path)


def test_a_resource_that_only_the_stack_holds_is_saved_with_all_it_holds(tmp_path: Path) -> None:
    """A table deleted behind the stack's back goes into the stack's image, items included."""
    play("guests", 2, tmp_path)


def test_a_resource_forgotten_while_the_stack_lies_in_its_image_stays(tmp_path: Path) -> None:
    """The same when the stack was not even loaded when the queue was deleted."""
    play("lazy", 3, tmp_path)


def test_images_of_two_lives_fit_together(tmp_path: Path) -> None:
    """A service saved in this life and one carried forward from the last agree on what they share."""
    play("lives", 4, tmp_path)


def test_a_mapping_disabled_in_lambda_is_disabled_in_the_queue(tmp_path: Path) -> None:
    """An event source mapping is one object in lambda and in sqs."""
    play("mapping", 2, tmp_path)


def test_an_open_stream_iterator_sees_new_records(tmp_path: Path) -> None:
    """An iterator taken before the restart reads what was written after it."""
    play("iterator", 2, tmp_path)


def test_a_topic_still_feeds_its_queue(tmp_path: Path) -> None:
    """A publish after the restart arrives in the queue that was subscribed before it."""
    play("subscription", 2, tmp_path)


def test_access_keys_still_name_who_they_belong_to(tmp_path: Path) -> None:
    """IAM's keys and STS's sessions authenticate after a restart, and can be deleted."""
    play("access_keys", 2, tmp_path)


def test_backends_held_as_attributes_are_the_backends(tmp_path: Path) -> None:
    """elbv2 and autoscaling hold EC2's own backend, instances and subnets."""
    play("attributes", 2, tmp_path)


def test_a_subnet_goes_on_with_its_addresses(tmp_path: Path) -> None:
    """The first instance after a restart gets the address after the last one's."""
    play("addresses", 2, tmp_path)


def test_counters_and_keys_outside_the_backends_go_on(tmp_path: Path) -> None:
    """Log events are numbered on, and a subscription keeps its signing key."""
    play("counters", 2, tmp_path)


def test_one_service_is_reset_alone(tmp_path: Path) -> None:
    """After a reset the service is as new, names included, and the others are untouched."""
    play("reset", 1, tmp_path)


def test_a_workflow_timer_fires_after_a_restart(tmp_path: Path) -> None:
    """SWF's timers, threads in moto, are armed again."""
    play("timers", 2, tmp_path)
