"""kill -9 at random moments of checkpoints: every life finds one cut, at least as new as what the life before was told."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from snapshot_rig import Rig, state_at

PROGRAM = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import itertools, os
    from pathlib import Path
    import anyio
    from holdfast.snapshot import CheckpointOptions, restore
    from snapshot_rig import SERVICES, Rig, state_at

    async def main() -> None:
        rig = Rig(Path(sys.argv[2]), options=CheckpointOptions(in_place_budget_s=float(sys.argv[3])))
        found = restore(rig.manifests, rig.images, rig.source)
        assert not found.damaged, found.damaged
        assert not found.load_all()
        rig.checkpointer.start_from(found.manifest)
        lsn = rig.host.lsn = found.manifest.lsn if found.manifest else 0
        assert rig.states == state_at(lsn), f"not one cut: {lsn}"
        print("restored", lsn, flush=True)
        while True:
            for _ in range(1 + rig.host.lsn % 3):
                service = SERVICES[(rig.host.lsn + 1) % len(SERVICES)]
                lsn = rig.change(service, state_at(rig.host.lsn + 1)[service])
            manifest = await rig.checkpointer.take("TEST")
            assert manifest.complete
            print("saved", manifest.lsn, flush=True)
            await rig.checkpointer.collect()

    anyio.run(main)
"""


@pytest.mark.parametrize("budget_s", [0.0, 0.05], ids=["forked", "mixed"])
@pytest.mark.parametrize("rounds", [12, pytest.param(250, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_a_killed_process_leaves_one_cut_no_older_than_it_said(tmp_path: Path, rounds: int, budget_s: float) -> None:
    """What was said to be saved is there after SIGKILL, one cut of all services, nothing damaged, nothing piling up."""
    seed = int(os.environ.get("HOLDFAST_CRASH_SEED", str(random.randrange(1 << 32))))
    print(f"HOLDFAST_CRASH_SEED={seed}")
    chance = random.Random(seed)
    saved = 0
    for number in range(rounds):
        lsns, errors = _life(tmp_path, budget_s, chance.uniform(0.02, 0.6))
        assert errors == "", f"round {number}, the volume is kept in {tmp_path}: {errors}"
        assert lsns[:1] == [] or lsns[0] >= saved, f"round {number}: saved {saved} and found {lsns[0]}, in {tmp_path}"
        saved = max([saved, *lsns])
    assert saved > rounds, "the kills came before anything could be saved: no test"
    found, states = Rig(tmp_path).restored()
    assert found.manifest is not None
    assert found.manifest.lsn >= saved
    assert states == state_at(found.manifest.lsn)
    images = len(os.listdir(tmp_path / "images"))
    assert images < 60, f"{images} images are left by {rounds} lives"


def _life(folder: Path, budget_s: float, seconds: float) -> tuple[list[int], str]:
    """Run the program, kill it `seconds` after it was ready; the LSNs it told, and an assertion's text if it had one."""
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(Path(__file__).parent), str(folder), str(budget_s)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline()]
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
        reader.start()
        time.sleep(seconds)
        process.kill()
        reader.join()
        errors = process.stderr.read()
    return [int(line.split()[1]) for line in lines if line.endswith("\n")], errors
