"""The executor: one order, nothing executed without room for its record, nothing answered before it is durable."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import anyio
import pytest

from holdfast.daemon.bus import Bus
from holdfast.daemon.command import Command, Reply, Request
from holdfast.daemon.events import StateDirty
from holdfast.daemon.executor import BODY_INLINE_MAX_BYTES, Executor, Unavailable
from holdfast.daemon.services.determinism import Determinism
from holdfast.journal import BlobStore, Fault, FaultyDisk, Journal, JournalFull, MemoryDisk, MemoryJournal

pytestmark = pytest.mark.anyio

STATE_ID = b"0123456789abcdef"


def request(operation: str = "PutItem", service: str = "dynamodb", body: bytes = b"{}") -> Request:
    return Request(service, operation, "us-east-1", "000000000000", "POST", "/", (("host", "localhost"),), body)


class Shop:
    """A backend that writes down what it is asked; some operations fail, wait, or reach another service."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.touch: Callable[[str], None] = lambda _: None
        self.gate = threading.Event()
        self.running = 0

    async def started(self, count: int) -> None:
        """Wait until that many commands were begun."""
        for _ in range(5000):
            if len(self.seen) >= count:
                return
            await anyio.sleep(0.001)
        raise AssertionError("the command never started")

    def ready(self, service: str) -> bool:
        return True

    def prepare(self, service: str) -> None:
        raise AssertionError("it is always ready")

    def slow(self, request: Request) -> bool:
        return request.operation.startswith("Slow")

    def __call__(self, request: Request) -> Reply:
        self.running += 1
        assert self.running == 1, "two commands ran at once"
        self.seen.append(request.operation)
        self.touch(request.service)
        if request.operation.startswith("Slow"):
            assert self.gate.wait(10)
        self.running -= 1
        if request.operation == "PutAndRaise":
            raise KeyError("a bug")
        return Reply(200, (), str(time.time_ns()).encode())


class Held(MemoryJournal):
    """A journal whose records become durable when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.released = anyio.Event()

    async def durable(self, lsn: int) -> None:
        if lsn > 0:
            await self.released.wait()


def failure(request: Request, error: Exception) -> Reply:
    return Reply(500, (), type(error).__name__.encode())


def make(
    journal: Journal | MemoryJournal, shop: Shop, bus: Bus | None = None, blobs: BlobStore | None = None
) -> Executor:
    links = {"sqs": ("awslambda",)}
    executor = Executor(
        shop,
        Determinism(0),
        journal,
        bus or Bus(),
        failure=failure,
        blobs=blobs,
        links=lambda service: links.get(service, ()),
    )
    shop.touch = executor.touch
    return executor


async def test_changing_command_is_answered_only_when_it_is_durable() -> None:
    """Promise 1: a reply that was sent is recoverable. A read waits too: it may have seen what may yet vanish."""
    journal = Held()
    executor = make(journal, Shop())
    replies: list[str] = []

    async def ask(operation: str) -> None:
        await executor.run(request(operation))
        replies.append(operation)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "PutItem")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(ask, "GetItem")
        await anyio.wait_all_tasks_blocked()
        assert replies == []
        journal.released.set()
    assert sorted(replies) == ["GetItem", "PutItem"]


async def test_read_before_any_change_takes_no_lsn() -> None:
    """Reads are not journalled: the log holds what changes state, and nothing else."""
    journal = MemoryJournal()
    await make(journal, Shop()).run(request("GetItem"))
    assert journal.last_lsn == 0


async def test_full_journal_refuses_before_anything_runs() -> None:
    """Promise 8: without room for the record nothing is executed, and reads go on."""

    class Full(MemoryJournal):
        def reserve(self, size_bytes: int) -> None:
            raise JournalFull("no space left on the disk")

    shop = Shop()
    executor = make(Full(), shop)
    with pytest.raises(Unavailable, match="no space left"):
        await executor.run(request("PutItem"))
    assert shop.seen == []
    await executor.run(request("GetItem"))
    assert shop.seen == ["GetItem"]


async def test_command_that_raises_is_journalled_with_its_reply() -> None:
    """Whatever a service raises is its reply, the same on replay; what it changed before it raised is not forgotten."""
    journal = await _on_disk(MemoryDisk())
    async with journal:
        executor = make(journal, Shop())
        reply = await executor.run(request("PutAndRaise"))
        assert (reply.status, reply.body) == (500, b"KeyError")
        command = Command.unpack(next(journal.read()).payload)
    assert (command.status, command.digest) == (500, reply.digest())


async def test_replayed_command_gives_the_same_reply() -> None:
    """Running a record again under its own clock gives the reply that was acknowledged."""
    journal = await _on_disk(MemoryDisk())
    async with journal:
        executor = make(journal, Shop())
        reply = await executor.run(request("PutItem"))
        command = Command.unpack(next(journal.read()).payload)
        again = await executor.rerun(command)
    assert again.reply == reply
    assert again.command.digest == command.digest


async def test_cancelled_client_leaves_a_whole_command_behind() -> None:
    """A client that goes away while it waits harms nobody: its command is executed and journalled, the next one runs."""
    journal = Held()
    shop = Shop()
    executor = make(journal, shop)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(executor.run, request("PutItem"))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert journal.last_lsn == 1
    journal.released.set()
    await executor.run(request("PutItem"))
    assert (shop.seen, journal.last_lsn) == (["PutItem", "PutItem"], 2)


async def test_cancelled_slow_command_is_journalled_too() -> None:
    """Once a command has started on the thread, no cancellation comes between it and its record."""
    journal = MemoryJournal()
    shop = Shop()
    executor = make(journal, shop)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(executor.run, request("SlowPut"))
        await shop.started(1)
        tasks.cancel_scope.cancel()
        shop.gate.set()
    assert journal.last_lsn == 1


async def test_no_command_starts_while_a_slow_one_runs() -> None:
    """Two lanes, one order: others wait for the slow one, the event loop does not."""
    journal = await _on_disk(MemoryDisk())
    shop = Shop()
    async with journal:
        executor = make(journal, shop)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(executor.run, request("SlowPut"))
            await shop.started(1)
            for n in range(3):
                tasks.start_soon(executor.run, request(f"Put{n}"))
            await anyio.sleep(0.02)
            assert shop.seen == ["SlowPut"]
            shop.gate.set()
        assert [record.operation for record in journal.read()] == shop.seen == ["SlowPut", "Put0", "Put1", "Put2"]


async def test_boundary_waits_for_the_running_command_and_holds_the_next() -> None:
    """A checkpoint's cut falls between two commands, never into one."""
    shop = Shop()
    executor = make(MemoryJournal(), shop)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(executor.run, request("SlowPut"))
        await shop.started(1)
        inside = anyio.Event()
        leave = anyio.Event()

        async def cut() -> None:
            async with executor.boundary():
                inside.set()
                await leave.wait()

        tasks.start_soon(cut)
        await anyio.sleep(0.02)
        assert not inside.is_set()
        shop.gate.set()
        await inside.wait()
        tasks.start_soon(executor.run, request("PutItem"))
        await anyio.sleep(0.02)
        assert shop.seen == ["SlowPut"]
        leave.set()
    assert shop.seen == ["SlowPut", "PutItem"]


async def test_change_makes_dirty_what_is_linked_too() -> None:
    """A service that holds parts of another may have changed them: both go into the next checkpoint."""
    bus = Bus()
    with bus.subscribe(StateDirty) as viewer:
        await make(MemoryJournal(), Shop(), bus).run(request("SendMessage", "sqs"))
        assert {await anext(viewer), await anext(viewer)} == {StateDirty("sqs", 1), StateDirty("awslambda", 1)}
    assert bus.dirty == {"sqs": 1, "awslambda": 1}


async def test_life_cycle_that_moved_makes_a_read_a_change() -> None:
    """What decides is whether state was touched, not the operation's name."""
    journal = MemoryJournal()
    shop = Shop()
    executor = make(journal, shop)
    shop.touch = lambda _: executor.tick()
    await executor.run(request("GetItem"))
    assert journal.last_lsn == 1


async def test_large_body_is_a_blob_before_its_record() -> None:
    """A large body is stored once by its digest; the record names it and stays small."""
    disk = MemoryDisk()
    journal = await _on_disk(disk)
    blobs = BlobStore("/volume/images", disk)
    body = b"x" * (BODY_INLINE_MAX_BYTES + 1)
    async with journal:
        await make(journal, Shop(), blobs=blobs).run(request(body=body))
        record = next(journal.read())
    command = Command.unpack(record.payload)
    assert record.blobs == (command.body_blob,)
    assert len(record.payload) < 1000
    assert command.with_body(blobs.get(command.body_blob)).request == request(body=body)


async def test_failed_sync_ends_acknowledgements_for_good() -> None:
    """Promise 8: after a failed sync nothing is acknowledged any more, and a read of what may vanish is refused;
    what was durable before can still be read."""
    disk = FaultyDisk(MemoryDisk())
    journal = await _on_disk(disk)
    shop = Shop()
    executor = make(journal, shop)
    async with journal:
        await executor.run(request("PutItem", "s3"))
        disk.fail(*(Fault(sync, path="*.open", times=None) for sync in ("fdatasync", "fsync")))
        with pytest.raises(Unavailable):
            await executor.run(request("PutItem", "sqs"))
        assert journal.failure is not None
        executed = list(shop.seen)
        with pytest.raises(Unavailable):
            await executor.run(request("PutItem", "s3"))
        assert shop.seen == executed
        await executor.run(request("GetItem", "s3"))
        with pytest.raises(Unavailable):
            await executor.run(request("GetItem", "sqs"))


async def _on_disk(disk: MemoryDisk | FaultyDisk) -> Journal:
    disk.make_folder("/volume")
    return Journal.open("/volume/journal", state_id=STATE_ID, disk=disk)
