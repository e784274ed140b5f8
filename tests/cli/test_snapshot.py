"""`holdfast snapshot`: shows checkpoints, checks their images, changes nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Daemon

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The volume of a daemon that was stopped, and so wrote a checkpoint, after two commands."""
    volume = tmp_path_factory.mktemp("stopped") / "v"
    with Daemon(volume) as daemon:
        daemon.client("sqs").create_queue(QueueName="a")
        daemon.client("sns").create_topic(Name="b")
        assert daemon.stop() == 0
    return volume


@pytest.fixture
def volume(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(stopped, tmp_path / "v", symlinks=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_looking_changes_nothing(holdfast: Run, volume: Path) -> None:
    """None of the verbs writes a byte into the volume."""
    before = contents(volume)
    for verb in ("list", "show", "verify"):
        done = holdfast("snapshot", verb, "--volume", str(volume))
        assert (done.returncode, done.stderr) == (0, "")
    assert contents(volume) == before


def test_list_and_show_say_what_a_checkpoint_holds(holdfast: Run, volume: Path) -> None:
    """Newest first; one by its LSN with every service's images."""
    listed = holdfast("snapshot", "list", "--json", "--volume", str(volume)).stdout.splitlines()
    newest = json.loads(listed[0])
    assert (newest["lsn"], newest["reason"], newest["complete"], newest["failed"]) == (2, "ON_SHUTDOWN", True, {})
    shown = json.loads(holdfast("snapshot", "show", "2", "--volume", str(volume)).stdout)
    assert {"sqs", "sns"} <= shown["services"].keys()
    assert len(shown["services"]["sqs"]["parts"]["backend"]["digest"]) == 64
    assert "LSN        2  ON_SHUTDOWN" in holdfast("snapshot", "list", "--volume", str(volume)).stdout
    absent = holdfast("snapshot", "show", "77", "--volume", str(volume))
    assert (absent.returncode, absent.stdout) == (1, "")
    assert "no manifest for LSN 77" in absent.stderr


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_broken_image_is_named(holdfast: Run, volume: Path, damage: str) -> None:
    """Exit code 1 and the image's digest when its bytes are not what its name promises, or are gone."""
    shown = json.loads(holdfast("snapshot", "show", "--volume", str(volume)).stdout)
    digest = shown["services"]["sqs"]["parts"]["backend"]["digest"]
    image = volume / "images" / digest
    data = bytearray(image.read_bytes())
    image.unlink()
    if damage == "changed":
        data[len(data) // 2] ^= 1
        image.write_bytes(data)
    done = holdfast("snapshot", "verify", "--volume", str(volume))
    assert done.returncode == 1
    assert f"image {digest[:16]}" in done.stderr
    assert "images are whole" in done.stdout


def test_a_broken_manifest_is_named(holdfast: Run, volume: Path) -> None:
    """A manifest that cannot be read is said and counted, not passed over."""
    [manifest, *_] = sorted((volume / "manifests").iterdir(), reverse=True)
    manifest.write_bytes(manifest.read_bytes()[:-1])
    done = holdfast("snapshot", "verify", "--volume", str(volume))
    assert done.returncode == 1
    assert str(manifest) in done.stderr
