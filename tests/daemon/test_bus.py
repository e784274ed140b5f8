"""The bus: viewers see what they asked for, a slow one loses the oldest and knows it, the dirty map misses nothing."""

from __future__ import annotations

import anyio
import pytest

from holdfast.daemon.bus import Bus
from holdfast.daemon.events import Durable, Event, ServiceLoaded, StateDirty

pytestmark = pytest.mark.anyio


async def test_viewer_sees_the_kinds_it_asked_for_in_order() -> None:
    """A viewer gets its kinds of event, in the order in which they were published, and nothing after it left."""
    bus = Bus()
    with bus.subscribe(StateDirty, Durable) as viewer:
        bus.publish(StateDirty("sqs", 1))
        bus.publish(ServiceLoaded("s3"))
        bus.publish(Durable(1))
        assert [await anext(viewer), await anext(viewer)] == [StateDirty("sqs", 1), Durable(1)]
    bus.publish(Durable(2))
    assert not await viewer.wait(0)


async def test_slow_viewer_loses_the_oldest_and_counts_them() -> None:
    """A viewer that lags never holds the publisher up: the oldest events go, and `dropped` says how many."""
    bus = Bus()
    with bus.subscribe(limit=3) as viewer:
        for lsn in range(10):
            bus.publish(Durable(lsn))
        assert viewer.dropped == 7
        assert await anext(viewer) == Durable(7)


async def test_waiting_viewer_wakes_on_publish_and_gives_up_in_time() -> None:
    """`wait` returns as soon as there is an event, and says so when there was none in time."""
    bus = Bus()
    with bus.subscribe(Event) as viewer:
        assert not await viewer.wait(0.01)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(viewer.wait, 5)
            await anyio.wait_all_tasks_blocked()
            bus.publish(Durable(1))
        assert await viewer.wait(0)


async def test_cancelled_viewer_leaves_the_others_their_events() -> None:
    """Cancelling one that waits harms nobody."""
    bus = Bus()
    with bus.subscribe() as first, bus.subscribe() as second:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.wait)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        bus.publish(Durable(1))
        assert await anext(second) == Durable(1)


async def test_dirty_map_keeps_the_last_lsn_of_each_service() -> None:
    """However many changes there are, the snapshotter reads one entry a service, the newest."""
    bus = Bus()
    for lsn in range(1, 5000):
        bus.publish(StateDirty(f"service-{lsn % 3}", lsn))
    assert bus.take_dirty() == {"service-0": 4998, "service-1": 4999, "service-2": 4997}
    assert bus.take_dirty() == {}


async def test_failed_checkpoint_gives_services_back_without_hiding_later_changes() -> None:
    """What a failed checkpoint took is dirty again; a change that came meanwhile keeps its later LSN."""
    bus = Bus()
    bus.publish(StateDirty("s3", 1))
    bus.publish(StateDirty("sqs", 2))
    taken = bus.take_dirty()
    bus.publish(StateDirty("s3", 9))
    bus.give_back(taken)
    assert bus.take_dirty() == {"s3": 9, "sqs": 2}
