"""What a checkpoint costs: the pause that a command can see, beside a blocking dump of the same heap; and reading it back.

Peers in the same run: `pickle.dump` of the same objects while nothing else runs (what a blocking snapshot costs), a plain fork
(before memory is collapsed to huge pages), `pickle.loads` of plain pickle bytes.
"""

from __future__ import annotations

import gc
import io
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

sys.path.insert(0, str(Path(__file__).parents[2] / "snapshot"))

from snapshot_rig import Item, Rig

from holdfast.snapshot import CheckpointOptions, hugepages, memory
from holdfast.snapshot.fork import spawn

HEAP_BYTES = 500 << 20
RUNS = 5


def _heap() -> list[Item]:
    items: list[Item] = []
    while memory.resident_bytes() < HEAP_BYTES:
        items.extend(Item(f"message-{n}", body="x" * 100, attributes={"a": n, "b": str(n)}) for n in range(20_000))
    return items


def _median(work: Callable[[], Any], runs: int = RUNS) -> float:
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


async def _fork_s() -> float:
    times = []
    for _ in range(RUNS * 2):
        started = time.perf_counter()
        child = spawn(lambda: b"")
        times.append(time.perf_counter() - started)
        await child.result(60)
    return statistics.median(times)


async def _gap_s(during: Callable[[], Any]) -> float:
    """The longest time for which the loop did not come round while `during` ran."""
    longest, last, stop = 0.0, time.perf_counter(), False

    async def tick() -> None:
        nonlocal longest, last
        while not stop:
            await anyio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await during()
        stop = True
    return longest


async def _main() -> None:
    items = _heap()
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), options=CheckpointOptions(in_place_budget_s=0))
        rig.change("big", items)
        for n in range(100):
            rig.change(f"small-{n}", Item(str(n), values=list(range(1000))))
        blocking_s = _median(lambda: pickle.dump(items, io.BytesIO(), 5), 1)
        plain_s = await _fork_s()
        started = time.perf_counter()
        await anyio.to_thread.run_sync(hugepages.collapse)
        collapse_s = time.perf_counter() - started
        collapsed_s = await _fork_s()
        gap_s = await _gap_s(lambda: rig.checkpointer.take("BENCH"))
        all_s, pause_s = rig.checkpointer.timing.total_s, rig.checkpointer.timing.pause_s
        rig.change("small-0", Item("changed"))
        await rig.checkpointer.take("BENCH")
        one_s = rig.checkpointer.timing.total_s
    print(f"heap {memory.resident_bytes() >> 20} MB, {len(items)} objects; medians of {RUNS * 2} forks")
    print(f"blocking dump              {blocking_s * 1e3:9.1f} ms")
    print(f"plain fork                 {plain_s * 1e3:9.1f} ms   {blocking_s / plain_s:8.0f} x shorter than the dump")
    print(
        f"fork after collapse        {collapsed_s * 1e3:9.1f} ms   {plain_s / collapsed_s:8.1f} x shorter than the plain fork"
    )
    print(f"collapse, on a thread      {collapse_s * 1e3:9.1f} ms   once, then what the last fork split")
    print(
        f"checkpoint of all: pause   {pause_s * 1e3:9.1f} ms   whole {all_s:.2f} s, longest gap on the loop {gap_s * 1e3:.0f} ms"
    )
    print(f"checkpoint of 1 of 101     {one_s * 1e3:9.1f} ms   {all_s / one_s:8.0f} x cheaper than of all")
    _codec(items[:200_000])


def _codec(items: list[Item]) -> None:
    codec = Rig(Path(tempfile.mkdtemp())).codec
    plain = pickle.dumps(items, 5)
    file = io.BytesIO()
    codec.dump("bench", items, file)
    ours = file.getvalue()
    gc.disable()
    bare_s = _median(lambda: pickle.loads(plain))
    load_s = _median(lambda: codec.load("bench", ours))
    bare_dump_s = _median(lambda: pickle.dump(items, io.BytesIO(), 5))
    dump_s = _median(lambda: codec.dump("bench", items, io.BytesIO()))
    gc.enable()
    print(f"load, of pickle.loads      {bare_s / load_s:9.2f}      of its speed, {len(items)} objects")
    print(f"dump, of pickle.dump       {bare_dump_s / dump_s:9.2f}      of its speed")


def main() -> None:
    """Print the table."""
    anyio.run(_main)


if __name__ == "__main__":
    main()
