"""When checkpoints are made, and who shares them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from snapshot_rig import Item, Rig

from holdfast.snapshot import Manifest, SaveStrategy, SnapshotFailed, Snapshotter

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(rig: Rig, **options: Any) -> AsyncIterator[Snapshotter]:
    snapshotter = Snapshotter(rig.checkpointer, **options)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(snapshotter.run)
        await anyio.lowlevel.checkpoint()
        yield snapshotter
        tasks.cancel_scope.cancel()


async def until(condition: Any, seconds: float = 10) -> None:
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  # conditions of any kind
            await anyio.sleep(0.005)


async def test_scheduled_writes_at_its_interval_if_anything_is_dirty(rig: Rig) -> None:
    """Dirty services are saved within the interval; a volume at rest is left alone."""
    async with running(rig, interval_s=0.05):
        rig.change("queues", Item("q"))
        await until(lambda: len(rig.host.manifests) == 1)
        await anyio.sleep(0.2)
        assert len(rig.host.manifests) == 1
        rig.change("queues", Item("q2"))
        await until(lambda: len(rig.host.manifests) == 2)
    assert [manifest.reason for manifest in rig.host.manifests] == ["SCHEDULED", "SCHEDULED"]
    assert rig.restored()[1] == {"queues": Item("q2")}


@pytest.mark.parametrize("strategy", [SaveStrategy.MANUAL, SaveStrategy.ON_SHUTDOWN, SaveStrategy.ON_REQUEST])
async def test_the_other_strategies_write_only_when_asked(rig: Rig, strategy: SaveStrategy) -> None:
    """No timer runs under them; asking works under each."""
    async with running(rig, strategy=strategy, interval_s=0.01) as snapshotter:
        rig.change("queues", Item("q"))
        await anyio.sleep(0.1)
        assert rig.host.manifests == []
        manifest = await snapshotter.save("TEST")
    assert rig.host.manifests == [manifest]
    assert manifest.reason == "TEST"


async def test_a_changed_interval_counts_at_once(rig: Rig) -> None:
    """Whoever shortens the interval does not wait for the long one to pass."""
    async with running(rig, interval_s=3600) as snapshotter:
        rig.change("queues", Item("q"))
        await anyio.sleep(0.05)
        snapshotter.interval_s = 0.01
        await until(lambda: len(rig.host.manifests) == 1, 2)
        assert snapshotter.interval_s == 0.01


async def test_a_changed_strategy_counts_at_once(rig: Rig) -> None:
    """The timer starts when SCHEDULED is chosen and stops when it is not, without a restart."""
    async with running(rig, strategy=SaveStrategy.MANUAL, interval_s=0.02) as snapshotter:
        rig.change("queues", Item("q"))
        await anyio.sleep(0.1)
        assert rig.host.manifests == []
        snapshotter.strategy = SaveStrategy.SCHEDULED
        await until(lambda: len(rig.host.manifests) == 1, 2)
        snapshotter.strategy = SaveStrategy.MANUAL
        rig.change("queues", Item("q2"))
        await anyio.sleep(0.1)
        assert len(rig.host.manifests) == 1


async def test_those_who_wait_share_one_flush(rig: Rig) -> None:
    """ON_REQUEST under load: 200 replies, each released by a checkpoint with its LSN, cost far fewer than 200 checkpoints."""
    released: list[int] = []
    async with running(rig, strategy=SaveStrategy.ON_REQUEST) as snapshotter:

        async def client(number: int) -> None:
            for step in range(5):
                lsn = rig.change(f"service-{number % 4}", Item(f"{number}-{step}"))
                await snapshotter.flushed(lsn)
                assert snapshotter.checkpoint_lsn >= lsn
                released.append(lsn)

        async with anyio.create_task_group() as clients:
            for number in range(40):
                clients.start_soon(client, number)
    assert sorted(released) == list(range(1, 201))
    assert len(rig.host.manifests) <= 12
    assert rig.restored()[1] == rig.states


async def test_a_flush_that_holds_the_lsn_already_costs_nothing(rig: Rig) -> None:
    """A reply whose LSN a checkpoint holds is released at once."""
    async with running(rig, strategy=SaveStrategy.ON_REQUEST) as snapshotter:
        lsn = rig.change("queues", Item("q"))
        await snapshotter.flushed(lsn)
        await snapshotter.flushed(lsn)
        await snapshotter.flushed(lsn - 1)
    assert len(rig.host.manifests) == 1


async def test_a_change_after_the_cut_is_answered_by_the_next_flush(rig: Rig) -> None:
    """Whoever asks while a checkpoint is being made is not answered by it: its cut may have come before their change."""
    entered, go_on = anyio.Event(), anyio.Event()
    plain = rig.host.durable

    async def slow(lsn: int) -> None:
        entered.set()
        await go_on.wait()
        await plain(lsn)

    rig.host.durable = slow  # type: ignore[method-assign]
    answers: list[Manifest] = []
    async with running(rig, strategy=SaveStrategy.ON_REQUEST) as snapshotter:

        async def ask() -> None:
            answers.append(await snapshotter.save("TEST"))

        async with anyio.create_task_group() as clients:
            rig.change("queues", Item("first"))
            clients.start_soon(ask)
            await entered.wait()
            rig.change("queues", Item("second"))
            clients.start_soon(ask)
            clients.start_soon(ask)
            await anyio.sleep(0.01)
            go_on.set()
    assert sorted(manifest.lsn for manifest in answers) == [1, 2, 2]
    assert len(rig.host.manifests) == 2


async def test_one_who_stops_waiting_harms_no_other(rig: Rig) -> None:
    """Cancelling 1 of 64 waiters leaves 63 answers, and the checkpoint."""
    answered: list[int] = []
    async with running(rig, strategy=SaveStrategy.ON_REQUEST) as snapshotter:
        rig.change("queues", Item("q"))

        async def ask(number: int) -> None:
            with anyio.CancelScope() as scope:
                if number == 7:
                    scope.cancel()
                await snapshotter.save("TEST")
                answered.append(number)

        async with anyio.create_task_group() as clients:
            for number in range(64):
                clients.start_soon(ask, number)
    assert sorted(answered) == [number for number in range(64) if number != 7]
    assert len(rig.host.manifests) == 1


async def test_a_partial_flush_releases_nobody(rig: Rig) -> None:
    """ON_REQUEST promises that the folder is complete at the reply: a partial manifest is a failure that names the service."""
    async with running(rig, strategy=SaveStrategy.ON_REQUEST) as snapshotter:
        lsn = rig.change("functions", Item("f", bad=(n for n in range(3))))
        with pytest.raises(SnapshotFailed, match="functions"):
            await snapshotter.flushed(lsn)
        rig.change("functions", Item("f"))
        await snapshotter.flushed(lsn)


async def test_a_failed_checkpoint_is_told_and_tried_again(rig: Rig) -> None:
    """Those who asked learn why; the schedule goes on, and the next attempt has everything."""
    plain = rig.host.durable

    async def failing(lsn: int) -> None:
        raise OSError(28, "no space left")

    rig.host.durable = failing  # type: ignore[method-assign]
    async with running(rig, interval_s=0.02) as snapshotter:
        rig.change("queues", Item("q"))
        with pytest.raises(SnapshotFailed, match="no space left"):
            await snapshotter.save()
        await until(lambda: len(rig.host.failures) >= 3)
        assert "no space left" in str(snapshotter.failure)
        rig.host.durable = plain  # type: ignore[method-assign]
        await until(lambda: rig.host.manifests != [])
        await until(lambda: snapshotter.failure is None)
    assert rig.restored()[1] == {"queues": Item("q")}


async def test_stopping_answers_those_who_wait_and_kills_the_child(rig: Rig) -> None:
    """Cancelled in the middle of a checkpoint: a typed error for those who asked, no child, the services dirty."""
    rig.change("queues", Item("q"))
    rig.source.dump = lambda service, part: time.sleep(60)  # type: ignore[method-assign, assignment, return-value]
    snapshotter = Snapshotter(rig.checkpointer)
    failures: list[SnapshotFailed] = []

    async def ask() -> None:
        try:
            await snapshotter.save()
        except SnapshotFailed as error:
            failures.append(error)

    async with anyio.create_task_group() as clients:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(snapshotter.run)
            await anyio.lowlevel.checkpoint()
            clients.start_soon(ask)
            await anyio.sleep(0.1)
            started = time.monotonic()
            tasks.cancel_scope.cancel()
        assert time.monotonic() - started < 5
    assert len(failures) == 1
    assert rig.host.dirty == {"queues": 1}


async def test_the_last_save_needs_no_running_snapshotter(rig: Rig) -> None:
    """At its end a daemon has stopped its tasks, and saves all the same."""
    rig.change("queues", Item("q"))
    manifest = await Snapshotter(rig.checkpointer).save("ON_SHUTDOWN")
    assert manifest.complete
    assert rig.restored()[1] == {"queues": Item("q")}


async def test_garbage_collectors_find_no_checkpoint_under_way(rig: Rig) -> None:
    """Inside `idle` no child writes images that nothing names yet."""
    async with running(rig, strategy=SaveStrategy.MANUAL) as snapshotter:
        rig.change("queues", Item("q"))
        async with anyio.create_task_group() as tasks, snapshotter.idle():
            tasks.start_soon(snapshotter.save)
            await anyio.sleep(0.1)
            assert rig.host.manifests == []
            rig.blobs.collect(rig.manifests.roots())
        assert len(rig.host.manifests) == 1
