"""`holdfast journal`: reads a volume, changes nothing, tells a torn tail from damage, and keeps secrets to itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Daemon

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The volume of a daemon that was killed after four commands."""
    volume = tmp_path_factory.mktemp("killed") / "v"
    with Daemon(volume, {"SNAPSHOT_FLUSH_INTERVAL": "1h"}) as daemon:
        for number in range(3):
            daemon.client("sqs").create_queue(QueueName=f"queue-{number}")
        daemon.client("secretsmanager").create_secret(Name="door", SecretString="sesame")
    return volume


@pytest.fixture
def volume(killed: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(killed, tmp_path / "v"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def open_segment(volume: Path) -> Path:
    [segment] = (volume / "journal").glob("*.open")
    return segment


@pytest.mark.parametrize("verb", ["stat", "verify", "dump"])
def test_looking_changes_nothing(holdfast: Run, volume: Path, verb: str) -> None:
    """Whatever the verb, not a byte of the volume is other than before, and no daemon is needed."""
    before = contents(volume)
    done = holdfast("journal", verb, "--volume", str(volume))
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(volume) == before


def test_dump_shows_every_record_and_no_secret(holdfast: Run, volume: Path) -> None:
    """A line a record with LSN, service, operation and size; the request itself only when it is asked for."""
    lines = holdfast("journal", "dump", "--volume", str(volume)).stdout.splitlines()
    assert len(lines) == 4
    assert "sqs.CreateQueue" in lines[0]
    assert "secretsmanager.CreateSecret" in lines[3]
    plain = holdfast("journal", "dump", "--json", "--volume", str(volume)).stdout
    assert [json.loads(line)["lsn"] for line in plain.splitlines()] == [1, 2, 3, 4]
    assert "sesame" not in plain
    [last] = holdfast("journal", "dump", "--bodies", "--from", "4", "--volume", str(volume)).stdout.splitlines()
    assert "sesame" in json.loads(last)["payload"]["body"]


def test_stat_and_verify_count_the_same_records(holdfast: Run, volume: Path) -> None:
    """Both say how far the journal reaches."""
    stat = json.loads(holdfast("journal", "stat", "--json", "--volume", str(volume)).stdout)
    verified = json.loads(holdfast("journal", "verify", "--json", "--volume", str(volume)).stdout)
    assert stat == verified
    assert (verified["first_lsn"], verified["last_lsn"], verified["records_read"], verified["damages"]) == (1, 4, 4, 0)
    assert "4 records" in holdfast("journal", "verify", "--volume", str(volume)).stdout


def last_group(volume: Path) -> int:
    """Where the bytes of the last record lie: its secret stands in them in clear."""
    return open_segment(volume).read_bytes().index(b"sesame")


def test_a_torn_tail_alone_is_fine_and_said(holdfast: Run, volume: Path) -> None:
    """What a crash leaves is not damage: exit code 0, and where it is."""
    segment = open_segment(volume)
    data = bytearray(segment.read_bytes())
    # A power cut in the middle of the last group: its later sectors never reached the disk.
    tear = last_group(volume) // 512 * 512
    data[tear:] = bytes(len(data) - tear)
    segment.write_bytes(data)
    verified = holdfast("journal", "verify", "--volume", str(volume))
    assert verified.returncode == 0, verified.stderr
    assert "torn tail" in verified.stdout
    dumped = holdfast("journal", "dump", "--volume", str(volume))
    assert (dumped.returncode, len(dumped.stdout.splitlines())) == (0, 3)
    assert "torn tail from LSN 4 on" in dumped.stderr


@pytest.mark.parametrize("verb", ["verify", "dump", "stat"])
def test_damage_ends_with_one_and_names_the_place(holdfast: Run, volume: Path, verb: str) -> None:
    """A flipped bit in what was durable: file, offset and LSN, exit code 1; what lies before it is still shown."""
    segment = open_segment(volume)
    data = bytearray(segment.read_bytes())
    data[data.index(b"queue-1")] ^= 1
    segment.write_bytes(data)
    done = holdfast("journal", verb, "--volume", str(volume))
    assert done.returncode == 1
    assert str(segment) in done.stderr
    assert "LSN 2" in done.stderr
    assert len(done.stdout.splitlines()) == (1 if verb == "dump" else 0)


def test_repair_keeps_what_is_before_the_damage_and_sets_the_rest_aside(holdfast: Run, volume: Path) -> None:
    """The way on that the message about the damage names: it works as printed, and the next start serves what was kept."""
    segment = open_segment(volume)
    data = bytearray(segment.read_bytes())
    data[data.index(b"queue-1")] ^= 1
    segment.write_bytes(data)
    said = holdfast("journal", "verify", "--volume", str(volume)).stderr
    assert "holdfast journal repair --accept-loss-after 1;" in said
    done = holdfast("journal", "repair", "--accept-loss-after", "1", "--volume", str(volume))
    assert (done.stderr, done.returncode) == ("", 0)
    assert "the journal ends at LSN 1" in done.stdout
    [aside] = re.findall(r"^set aside: (.*)$", done.stdout, re.MULTILINE)
    assert b"queue-2" in Path(aside).read_bytes()
    assert holdfast("journal", "verify", "--volume", str(volume)).returncode == 0
    with Daemon(volume) as daemon:
        urls = daemon.client("sqs").list_queues()["QueueUrls"]
        assert [url.rpartition("/")[2] for url in urls] == ["queue-0"]


def test_repair_of_what_is_well_changes_nothing(holdfast: Run, volume: Path) -> None:
    """An LSN that the journal does not reach, or a volume in use: a sentence, and every byte as before."""
    before = {name: data for name, data in contents(volume).items() if name != "LOCK"}
    done = holdfast("journal", "repair", "--accept-loss-after", "9", "--volume", str(volume))
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing was changed" in done.stderr
    assert {name: data for name, data in contents(volume).items() if name != "LOCK"} == before
    with Daemon(volume):
        done = holdfast("journal", "repair", "--accept-loss-after", "1", "--volume", str(volume))
        assert done.returncode == 1
        assert "is in use by process" in done.stderr


def test_a_folder_that_is_no_volume_says_so(holdfast: Run, tmp_path: Path) -> None:
    """A wrong `--volume` is a sentence, not an empty journal."""
    for path, reason in ((tmp_path, "is not a volume"), (tmp_path / "absent", "does not exist")):
        done = holdfast("journal", "verify", "--volume", str(path))
        assert (done.returncode, done.stdout) == (1, "")
        assert reason in done.stderr
