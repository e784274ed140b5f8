"""The volume: who may use a folder, and what happens to one that is not ours."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.daemon.lock import holder_of
from holdfast.daemon.volume import FOLDERS, Volume, VolumeError, check, runtime_folder

HOLD = """
import sys, time
from pathlib import Path
from holdfast.daemon.volume import Volume
volume = Volume.open(Path(sys.argv[1]), "http://localhost:4566")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:  # type: ignore[misc]
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "v")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def seen(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that a touch could have changed: names, modes, times, contents."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }


def test_first_use_makes_a_private_folder_with_an_identity(tmp_path: Path) -> None:
    """A missing folder is made, parents too; folders are 0700, files 0600, and the identity stays from then on."""
    path = tmp_path / "deep" / "v"
    with Volume.open(path) as volume:
        state_id, created_ns = volume.state_id, volume.created_ns
        assert len(state_id) == 16
        for folder in (path, *(path / name for name in FOLDERS)):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for file in ("format", "LOCK"):
            assert stat.S_IMODE((path / file).stat().st_mode) == 0o600
        assert {volume.journal, volume.images, volume.manifests, volume.state, volume.quarantine} == {
            path / name for name in FOLDERS
        }
    with Volume.open(path) as volume:
        assert (volume.state_id, volume.created_ns) == (state_id, created_ns)
    with Volume.open(tmp_path / "other") as other:
        assert other.state_id != state_id


def test_an_empty_folder_with_wide_permissions_is_taken_and_closed(tmp_path: Path) -> None:
    """An empty folder is accepted, one with settings, hooks or a fresh file system's lost+found too; others are shut out."""
    path = tmp_path / "v"
    for name in ("", "init", "lost+found"):
        (path / name).mkdir(mode=0o755)
    (path / "holdfast.toml").write_text("")
    with Volume.open(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["notes.txt", "state", ".git"])
def test_a_folder_of_somebody_elses_is_refused_untouched(tmp_path: Path, name: str) -> None:
    """Not empty and not a volume: one sentence that names a thing in it, and not a byte, mode or time of it changed."""
    (tmp_path / name).write_text("mine")
    tmp_path.chmod(0o755)
    before = seen(tmp_path)
    for use in (Volume.open, check):
        with pytest.raises(VolumeError, match=f"not empty.*{name}"):
            use(tmp_path)
    assert seen(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"holdfast": {"format": 2, "anything": "new"}}', "newer holdfast"),
        ('{"holdfast": {"format": 0}}', "damaged"),
        ('{"holdfast": {"format": 1, "state_id": "00", "created_ns": 1}}', "damaged"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ("", "damaged"),
        ("\x00\xff", "damaged"),
    ],
)
def test_a_volume_of_another_format_is_refused_untouched(tmp_path: Path, text: str, reason: str) -> None:
    """A newer format, or what cannot be read as one, is never worked on."""
    (tmp_path / "format").write_text(text)
    before = seen(tmp_path)
    with pytest.raises(VolumeError, match=reason):
        Volume.open(tmp_path)
    assert seen(tmp_path) == before


def test_a_volume_in_use_says_by_whom_and_since_when(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """One daemon a volume: a second one names process, time and endpoint of the first."""
    with pytest.raises(VolumeError) as caught:
        Volume.open(tmp_path / "v")
    text = str(caught.value)
    assert f"in use by process {holder.pid} since 2" in text
    assert "listening on http://localhost:4566" in text
    found = holder_of(tmp_path / "v")
    assert found is not None
    assert (found.pid, found.alive()) == (holder.pid, True)


def test_a_killed_holder_frees_the_volume_at_once(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """After kill -9 the next start needs no cleaning up: the kernel gives the lock back."""
    holder.send_signal(signal.SIGKILL)
    with Volume.open(tmp_path / "v", "http://localhost:1"):
        found = holder_of(tmp_path / "v")
        assert found is not None
        assert found.pid == os.getpid()
    assert holder_of(tmp_path / "v") is None


def test_a_number_that_another_process_has_now_is_not_the_holder(tmp_path: Path) -> None:
    """`stop` signals by process number: a number used again since must not be taken for the daemon."""
    with Volume.open(tmp_path / "v"):
        lock = tmp_path / "v" / "LOCK"
        holder = json.loads(lock.read_text())
        lock.write_text(json.dumps({**holder, "started_ticks": holder["started_ticks"] - 1}))
        found = holder_of(tmp_path / "v")
        assert found is not None
        assert not found.alive()


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link in the place of the volume, of a folder in it, or of its files would let somebody else choose what is loaded."""
    real = tmp_path / "real"
    Volume.open(real).close()
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(VolumeError, match="is a link"):
        Volume.open(tmp_path / "link")
    (real / "images").rmdir()
    (real / "images").symlink_to(tmp_path)
    with pytest.raises(VolumeError, match="images is not a folder"):
        Volume.open(real)
    (real / "images").unlink()
    (real / "LOCK").rename(tmp_path / "LOCK")
    (real / "LOCK").symlink_to(tmp_path / "LOCK")
    with pytest.raises(VolumeError):
        Volume.open(real)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """Whoever owns the folder decides what is loaded: it must be the user who runs the daemon."""
    os.chown(tmp_path, 65534, -1)
    with pytest.raises(VolumeError, match="belongs to user"):
        Volume.open(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path: Path) -> None:
    """Not writable is said before anything is tried."""
    tmp_path.chmod(0o500)
    with pytest.raises(VolumeError, match="not writable"):
        Volume.open(tmp_path)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    """A file in the place of the folder, or of a parent of it."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "v"):
        with pytest.raises(VolumeError, match="file"):
            Volume.open(path)


def test_a_first_start_killed_half_way_is_no_obstacle(tmp_path: Path) -> None:
    """What a kill leaves before the identity is written counts as empty."""
    for name in ("LOCK", "format.new", "holdfast.log"):
        (tmp_path / name).write_text("half")
    with Volume.open(tmp_path) as volume:
        assert len(volume.state_id) == 16


def test_the_token_is_made_once_and_private(tmp_path: Path) -> None:
    """The secret for control routes outlives the process and is for the owner's eyes."""
    with Volume.open(tmp_path / "v") as volume:
        token = volume.token()
        assert len(token) >= 32
        assert volume.token() == token
        assert stat.S_IMODE((volume.path / "token").stat().st_mode) == 0o600
    with Volume.open(tmp_path / "v") as volume:
        assert volume.token() == token


def test_a_switched_off_journal_is_noted(tmp_path: Path) -> None:
    """Whether the last life journalled its changes is known at the next start, whatever ended it."""
    with Volume.open(tmp_path / "v") as volume:
        assert not volume.journal_was_off
        volume.note_journal(on=False)
    with Volume.open(tmp_path / "v") as volume:
        assert volume.journal_was_off
        volume.note_journal(on=True)
        assert not volume.journal_was_off
        volume.note_journal(on=True)


def test_asking_who_holds_what_is_no_volume_is_an_error(tmp_path: Path) -> None:
    """`stop --volume` with a wrong folder says so."""
    with pytest.raises(VolumeError, match="not a volume"):
        holder_of(tmp_path)


def test_the_runtime_folder_is_systemds_or_the_sessions(tmp_path: Path) -> None:
    """Sockets lie where they vanish with the session; RUNTIME_DIRECTORY wins."""
    assert runtime_folder({"RUNTIME_DIRECTORY": f"{tmp_path}/r:/x", "XDG_RUNTIME_DIR": "/y"}) == tmp_path / "r"
    xdg = runtime_folder({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert xdg == tmp_path / "holdfast"
    assert stat.S_IMODE(xdg.stat().st_mode) == 0o700
