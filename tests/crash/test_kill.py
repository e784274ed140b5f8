"""SIGKILL at random moments under load: whatever was acknowledged is there after the restart, with the same identifiers."""

from __future__ import annotations

import os
import random
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
from harness import Daemon
from workload import Facts, Worker, check, prepare

from holdfast.snapshot import Manifest
from holdfast.snapshot.format import IMAGE_MAGIC

ROUNDS = int(os.environ.get("HOLDFAST_CRASH_ROUNDS", "50"))
ROUNDS_A_VOLUME = 10
"""Rounds on one volume: later rounds recover what earlier ones recovered, and the volume stays small enough to be quick."""

WORKERS = 4


def _in_checkpoint(volume: Path) -> bool:
    """True when the kill fell inside a checkpoint: images lie there, whole or half written, that no manifest names."""
    named = {
        ref.digest.hex()
        for path in (volume / "manifests").iterdir()
        for ref in Manifest.unpack(path.read_bytes()).images()
    }
    return any(path.name not in named and _is_image(path) for path in (volume / "images").rglob("*") if path.is_file())


def _is_image(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(IMAGE_MAGIC)) == IMAGE_MAGIC
    except FileNotFoundError:  # renamed into place between the look and the reading
        return False


def _wait_for_checkpoint(volume: Path, until: float) -> None:
    """Return as soon as a checkpoint's files begin to appear, so that the kill falls inside it."""
    before = {path.name for path in (volume / "images").rglob("*")}
    while time.monotonic() < until:
        if any(
            path.name not in before and path.is_file() and _is_image(path) for path in (volume / "images").rglob("*")
        ):
            return
        time.sleep(0.001)


@pytest.mark.timeout(ROUNDS * 30 + 120)
def test_kill_under_load_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Promise 1: a killed process loses nothing that was acknowledged, wherever the kill falls, checkpoints included."""
    seed = int(os.environ.get("HOLDFAST_CRASH_SEED", random.SystemRandom().getrandbits(32)))
    print(f"\nseed {seed}: repeat with HOLDFAST_CRASH_SEED={seed} HOLDFAST_CRASH_ROUNDS={ROUNDS}")
    chance = random.Random(seed)
    acknowledged = lost = inside = 0
    for first in range(0, ROUNDS, ROUNDS_A_VOLUME):
        volume = tmp_path / f"volume-{first}"
        busy_checkpoints = (first // ROUNDS_A_VOLUME) % 2 == 1
        daemon = Daemon(volume, {"SNAPSHOT_FLUSH_INTERVAL": "1" if busy_checkpoints else "15"})
        facts = Facts()
        losses: list[str] = []
        daemon.start()
        try:
            prepare(daemon)
            for number in range(first, min(first + ROUNDS_A_VOLUME, ROUNDS)):
                workers = _round(
                    daemon, facts, f"r{number}", chance, aim_at_checkpoint=busy_checkpoints and number % 2 == 0
                )
                inside += _in_checkpoint(volume)
                for worker in workers:
                    assert worker.error is None, f"round {number}: {worker.error!r}"
                daemon.start()
                losses = check(daemon, facts)
                facts.doubtful.clear()
                assert not losses, _report(number, seed, volume, losses)
        finally:
            daemon.kill()
            acknowledged += len(facts.known)
            lost += len(losses)
        shutil.rmtree(volume)
    print(
        f"{ROUNDS} rounds, {acknowledged} acknowledged facts, {lost} lost, {inside} kills inside a checkpoint",
        file=sys.stderr,
    )
    if ROUNDS >= 50:
        assert inside > 0, "no kill fell inside a checkpoint: the test did not test what it says"


def _round(daemon: Daemon, facts: Facts, name: str, chance: random.Random, *, aim_at_checkpoint: bool) -> list[Worker]:
    """Load from several threads, then SIGKILL at a random moment."""
    workers = [Worker(daemon, facts, f"{name}w{n}", chance.getrandbits(32)) for n in range(WORKERS)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    # Until some steps were taken: right after a start the first use of each service takes longer than many steps.
    wanted, until = chance.randint(10, 400), time.monotonic() + 5
    while sum(worker.steps for worker in workers) < wanted and time.monotonic() < until:
        time.sleep(0.001)
    if aim_at_checkpoint:
        _wait_for_checkpoint(daemon.volume, time.monotonic() + 3)
        time.sleep(chance.uniform(0, 0.01))
    assert daemon.process is not None
    assert daemon.process.poll() is None, f"the daemon ended by itself:\n{daemon.printed[-4000:]}"
    daemon.kill()
    for thread in threads:
        thread.join(30)
    return workers


def _report(number: int, seed: int, volume: Path, losses: list[str]) -> str:
    kept = Path(os.environ.get("HOLDFAST_CRASH_KEEP", volume.parent)) / f"lost-{seed}-{number}"
    if kept != volume:
        shutil.copytree(volume, kept, dirs_exist_ok=True, symlinks=True)
    lines = "\n".join(losses[:20])
    return f"round {number} of seed {seed} lost {len(losses)} facts; the volume is kept at {kept}\n{lines}"
