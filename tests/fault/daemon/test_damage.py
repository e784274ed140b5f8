"""A daemon on a disk that is full, and on volumes that were damaged while it was down: told in a sentence, nothing lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from harness import Daemon, DaemonDied

OBJECTS = 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a disk that is soon full")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_full_disk_refuses_before_it_executes_and_heals_by_itself(small_disk: Path) -> None:
    """Promise 8: with no room for a record nothing is executed and 503 is said; when there is room again, it goes on."""
    with Daemon(small_disk / "volume", {"SNAPSHOT_FLUSH_INTERVAL": "1h"}) as daemon:
        s3 = daemon.client("s3")
        s3.create_bucket(Bucket="full")
        stored, refused = _fill(s3)
        assert refused.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert "nothing was executed" in str(refused)
        assert s3.list_objects_v2(Bucket="full")["KeyCount"] == stored, (
            "a refused request was executed, or a read was refused"
        )
        subprocess.run(["mount", "-o", "remount,size=256m", str(small_disk)], check=True)
        _until_it_takes(daemon)
        daemon.kill()
        daemon.start()
        assert daemon.client("s3").list_objects_v2(Bucket="full")["KeyCount"] == stored + 1


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: no sync can be made to fail")
def test_failed_sync_ends_acknowledgements_for_good(tmp_path: Path) -> None:
    """Promise 8, fail-stop: after a sync that failed nothing is acknowledged any more, health says so, reads of what is durable
    go on, and the daemon ends with 1. What was acknowledged is there at the next start."""
    with Daemon(tmp_path / "volume", {"SNAPSHOT_FLUSH_INTERVAL": "1h"}) as daemon:
        s3, sqs = daemon.client("s3"), daemon.client("sqs")
        s3.create_bucket(Bucket="kept")
        with _failing_syncs(daemon):
            for _ in range(2):
                with pytest.raises(ClientError) as refused:
                    sqs.create_queue(QueueName="lost")
                assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert "Input/output error" in daemon.get("/_holdfast/status")["journal"]["failure"]
        assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["kept"]
        with pytest.raises(ClientError):
            sqs.list_queues()
        assert daemon.stop() == 1
        daemon.start()
        assert [bucket["Name"] for bucket in daemon.client("s3").list_buckets()["Buckets"]] == ["kept"]


@contextlib.contextmanager
def _failing_syncs(daemon: Daemon) -> Iterator[None]:
    assert daemon.process is not None
    command = ["strace", "-f", "-p", str(daemon.process.pid), "-o", "/dev/null"]
    faults = ["-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO"]
    with subprocess.Popen([*command, *faults], stderr=subprocess.PIPE) as strace:
        assert strace.stderr is not None
        try:
            if b"attached" not in strace.stderr.readline():
                pytest.skip("this machine does not let strace attach to a process")
            yield
        finally:
            strace.terminate()


def _fill(s3: Any) -> tuple[int, ClientError]:
    """Put objects until one is refused: how many went in, and the refusal."""
    for number in range(400):
        try:
            s3.put_object(Bucket="full", Key=f"{number}", Body=os.urandom(200_000))
        except ClientError as refused:
            return number, refused
    raise AssertionError("80 MB went onto a disk of 48")


def _until_it_takes(daemon: Daemon) -> None:
    for _ in range(50):
        try:
            daemon.client("s3").put_object(Bucket="full", Key="after", Body=b"x")
        except ClientError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("it did not heal although there was room")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume with two checkpoints and a tail, its daemon killed; all objects are in it."""
    with Daemon(tmp_path / "volume", {"SNAPSHOT_FLUSH_INTERVAL": "300ms"}) as daemon:
        s3 = daemon.client("s3")
        s3.create_bucket(Bucket="damaged")
        for number in range(OBJECTS):
            s3.put_object(Bucket="damaged", Key=f"{number}", Body=b"x" * 100)
            if number in {3, 7}:
                lsn = daemon.get("/_holdfast/status")["journal"]["last_lsn"]
                while daemon.get("/_holdfast/status")["checkpoint"]["lsn"] < lsn:
                    time.sleep(0.05)
    return tmp_path / "volume"


def _objects(volume: Path) -> tuple[int, str]:
    """How many objects a daemon finds on `volume`, and what it printed."""
    with Daemon(volume) as daemon:
        found = daemon.client("s3").list_objects_v2(Bucket="damaged")["KeyCount"]
        assert daemon.get("/_holdfast/status")["replay"]["differed"] == []
        return found, daemon.printed


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.chmod(0o600)
    path.write_bytes(data)


def test_damaged_manifest_gives_way_to_the_one_before_it(volume: Path) -> None:
    """Promise 5: the older checkpoint and the journal after it give the same state; the damaged one is set aside, and said."""
    newest = max((volume / "manifests").glob("*.manifest"))
    _flip(newest, 100)
    found, printed = _objects(volume)
    assert found == OBJECTS
    assert "quarantine" in printed
    assert any(newest.name in path.name for path in (volume / "quarantine").iterdir())


def test_damaged_image_gives_way_to_the_checkpoint_before_it(volume: Path) -> None:
    """An image is read and compared before it is used; a damaged one costs its checkpoint, and no state."""
    view = volume / "state" / "api_states" / "s3" / "backend.state"
    image = next(path for path in (volume / "images").rglob("*") if path.is_file() and path.samefile(view))
    _flip(image, image.stat().st_size // 2)
    found, printed = _objects(volume)
    assert found == OBJECTS
    assert "quarantine" in printed


def test_corrupt_journal_is_refused_in_a_sentence_with_nothing_touched(volume: Path) -> None:
    """Damage to what was acknowledged is never skipped: exit 1, the file, the offset, the ways on; the bytes stay."""
    for manifest in (volume / "manifests").glob("*.manifest"):
        manifest.unlink()
    segment = min((volume / "journal").glob("*.open"))
    _flip(segment, 4096)
    before = segment.read_bytes()
    with pytest.raises(DaemonDied) as died:
        Daemon(volume).start()
    said = str(died.value)
    assert "exit code 1" in said
    assert "Traceback" not in said
    assert segment.name in said
    assert "journal repair" in said
    assert segment.read_bytes() == before


def test_second_daemon_on_a_volume_is_sent_away(volume: Path) -> None:
    """One daemon a volume: the second says who holds it and ends with 1; the first goes on."""
    with Daemon(volume) as first:
        with pytest.raises(DaemonDied) as died:
            Daemon(volume).start()
        assert first.process is not None
        assert f"{first.process.pid}" in str(died.value)
        assert "exit code 1" in str(died.value)
        assert first.client("s3").list_objects_v2(Bucket="damaged")["KeyCount"] == OBJECTS
