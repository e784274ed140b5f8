"""The composition root: builds the parts of one daemon, wires them, and takes them through start, serving, drain and stop.

    bind ─▶ lock the volume ─▶ newest checkpoint, journal ─▶ fix clock and chance ─▶ answer health
         ─▶ replay the tail ─▶ Ready. ─▶ ... ─▶ drain ─▶ last checkpoint ─▶ close the journal

Everything that runs beside requests is a task of one group: the server, the snapshotter, the key pool, signals, the watchdog.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from importlib.metadata import version
from typing import Any

import anyio
import structlog

from holdfast.daemon.bus import Bus
from holdfast.daemon.config import LoadStrategy, SaveStrategy, Settings
from holdfast.daemon.control import Stage, Stages, build_routes
from holdfast.daemon.errors import VolumeError
from holdfast.daemon.events import Durable, JournalFailure
from holdfast.daemon.executor import Executor, Unavailable
from holdfast.daemon.gateway.app import Gateway, Phase
from holdfast.daemon.gateway.errors import failure
from holdfast.daemon.gateway.guard import Guard, GuardSettings
from holdfast.daemon.gateway.router import Router
from holdfast.daemon.gateway.server import Server, build_server
from holdfast.daemon.gateway.waiting import LongPolls
from holdfast.daemon.host import SnapshotHost
from holdfast.daemon.listen import bind, endpoint_of
from holdfast.daemon.loader import Loader
from holdfast.daemon.replay import Replay, ReplayFailed, ReplayReport, write_down
from holdfast.daemon.services.determinism import Determinism, wall_now_us
from holdfast.daemon.services.moto import backends
from holdfast.daemon.services.moto.caches import MENDS
from holdfast.daemon.services.moto.dispatch import Dispatch
from holdfast.daemon.services.moto.queues import look
from holdfast.daemon.services.moto.state import MotoSource
from holdfast.daemon.storage import Storage
from holdfast.daemon.supervisor import Notifier, stop_on_signal, watchdog
from holdfast.journal import JournalError, Record
from holdfast.snapshot import SnapshotError

__all__ = ["Daemon", "serve"]

KEYS_EVERY_S = 1.0
"""How often the pool of ready keys looks whether one was taken."""

STATUS_EVERY_S = 5.0
"""How often systemd's status line is renewed."""

STALLED_AFTER_S = 60.0
"""A command or sync that takes longer hangs: the longest command that was measured, SSM's first touch, takes 5 s."""

DRAIN_S = 20
"""How long requests in work may take to end when the daemon is told to stop."""

OPEN_FILES_MAX = 65_536
"""Enough for the gateway's connections; a limit in the millions makes the fork's child slow, which closes them one by one."""

log = structlog.get_logger(__name__)


async def serve(settings: Settings, *, ready: Callable[[], None]) -> int:
    """Run one daemon until it is told to stop; returns its exit code.

    `ready` is called once requests are answered. Raises HoldfastError, with nothing changed, for what keeps it from starting.
    """
    with ExitStack() as held:
        sockets = [held.enter_context(listening) for listening in bind(settings.listen, os.environ)]
        source = MotoSource()
        storage = held.enter_context(Storage.open(settings, endpoint_of(sockets), source))
        daemon = Daemon(settings, storage, source)
        await daemon.run(sockets, ready, Notifier(os.environ))
    if daemon.restart:
        log.info("starting again")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    return daemon.exit_code


class Daemon:
    """One running daemon, and what its control routes see of it (holdfast.daemon.control.daemon)."""

    def __init__(self, settings: Settings, storage: Storage, source: MotoSource) -> None:
        self.settings = settings
        self.storage = storage
        self.journal = storage.journal
        self.bus = Bus()
        self.determinism = Determinism(storage.created_us)
        self.determinism.mends.update(MENDS)
        self.determinism.install()
        self.source = source
        self.dispatch = Dispatch(settings.account_id, ticked=self._tick, touched=self._touch, resetting=self._resetting)
        self.loader = Loader(self.bus, storage.restore, aside=self.determinism.aside, together=source.loading)
        self.executor = Executor(
            self.dispatch,
            self.determinism,
            self.journal,
            self.bus,
            failure=failure,
            blobs=storage.blobs,
            links=self.loader.linked,
        )
        self.host = SnapshotHost(self.executor, self.bus, self.journal, self.loader, source)
        self.snapshotter = storage.snapshotter(self.host, self.source)
        self.stages = Stages()
        self.gateway = self._gateway()
        self.replayed = ReplayReport()
        self.exit_code = 0
        self.restart = False
        self._stopping = anyio.Event()
        self._recovering = anyio.CancelScope()
        self._began = time.monotonic()
        self._session = str(uuid.uuid4())

    def _gateway(self) -> Gateway:
        settings = self.settings
        guard = Guard(
            GuardSettings(
                allowed_hosts=settings.allowed_hosts,
                allowed_origins=settings.cors_origins,
                disable_cors_checks=settings.disable_cors_checks,
                token=self.storage.token,
                insecure=settings.insecure,
            )
        )
        polls = LongPolls(
            self.executor.run,
            self.bus,
            peek=look,
            account_of=self.dispatch.account_of,
            now_s=lambda: wall_now_us() / 1e6,
        )
        return Gateway(
            self.executor,
            build_routes(self, self.stages),
            guard=guard,
            router=Router(settings.account_id, suffixes=guard.suffixes),
            polls=polls,
            refusals=(Unavailable,),
            now_s=lambda: wall_now_us() / 1e6,
        )

    # --- the life of it ----------------------------------------------------------------------------------------------

    async def run(self, sockets: list[socket.socket], ready: Callable[[], None], notifier: Notifier) -> None:
        """Recover, serve until `stop`, drain, write the last checkpoint. Raises VolumeError when the state will not come back."""
        _allow_many_connections()
        server = build_server(self.gateway, drain_s=DRAIN_S)
        refused: VolumeError | None = None
        async with anyio.create_task_group() as tasks:
            await tasks.start(stop_on_signal, lambda _: self.stop(restart=False))
            tasks.start_soon(server.serve, sockets)
            self.stages.complete(Stage.BOOT)
            tasks.start_soon(self._ask_for_time, notifier)
            try:
                with self._recovering:
                    await self._recover()
                if not self._stopping.is_set():
                    async with self.journal:
                        await self._serve(server, ready, notifier)
            except (ReplayFailed, JournalError, SnapshotError) as error:
                # Out of the group before it is raised, so that the user reads a sentence and not a group of exceptions.
                refused = VolumeError(f"the volume {self.settings.volume} cannot be used as it is: {error}")
            self.stages.complete(Stage.SHUTDOWN)
            tasks.cancel_scope.cancel()
        if refused is not None:
            raise refused

    async def _serve(self, server: Server, ready: Callable[[], None], notifier: Notifier) -> None:
        """From `Ready.` to the last checkpoint."""
        self.storage.journal_begun()
        self.stages.complete(Stage.START)
        self.gateway.serve()
        async with anyio.create_task_group() as beside:
            self._beside(beside, notifier)
            ready()
            notifier.ready(self._one_line())
            self.stages.complete(Stage.READY)
            await self._stopping.wait()
            notifier.stopping()
            self.gateway.drain()
            server.should_exit = True
            await self.gateway.drained()
            beside.cancel_scope.cancel()
        await self._last_checkpoint()
        if self.journal.failure is not None:
            self.exit_code = 1

    def _beside(self, tasks: anyio.abc.TaskGroup, notifier: Notifier) -> None:
        """Start what runs beside requests."""
        if self.snapshotter is not None:
            tasks.start_soon(self.snapshotter.run)
            if self.settings.save_strategy is SaveStrategy.ON_REQUEST:
                self.executor.settled = self._flushed
        if self.replayed.commands and self.snapshotter is not None and self.settings.journal_on:
            tasks.start_soon(self._checkpoint_after_replay)
        tasks.start_soon(self._keep_keys_ready)
        tasks.start_soon(watchdog, notifier, self._moving)
        tasks.start_soon(self._tell_systemd, notifier)
        if self.settings.eager_loading:
            tasks.start_soon(self._import_eagerly)

    async def _recover(self) -> None:
        """Bring the state back: services from the newest checkpoint, each when it is needed, then the whole tail."""
        backends.install(self.executor.touch, self.loader.load, self.determinism.aside)
        self.journal.on_durable.append(lambda lsn: self.bus.publish(Durable(lsn)))
        self.journal.on_failure.append(lambda error: self.bus.publish(JournalFailure(str(error))))
        base = self.storage.restore.manifest if self.storage.restore is not None else None
        base_lsn = 0
        if base is not None:
            base_lsn = base.lsn
            self.host.found(base)
            self.determinism.last_clock_us = max(self.determinism.last_clock_us, base.time_ns // 1000)
            if self.settings.load_strategy is LoadStrategy.ON_STARTUP:
                self.loader.load_all()
            # Life cycles and custom ids set through moto's own routes: no access tells that another service is about to ask them.
            if "moto_api" in self.loader.stored:
                await self.executor.prepare("moto_api")
                self.loader.load("moto_api")
        replay = Replay(self.executor, self.bus, self.storage.blobs, reset=self._replay_reset, load=self._replay_load)
        self.replayed = await replay.run(self.journal.read(base_lsn), self.journal.last_lsn)
        if self.replayed.differed and self.storage.volume is not None:
            report = await write_down(self.replayed, self.storage.volume.quarantine)
            log.error("replies came out differently; the list is kept", file=str(report))
        log.info(
            "recovered",
            checkpoint_lsn=base_lsn,
            lsn=self.journal.last_lsn,
            commands=self.replayed.commands,
            differed=len(self.replayed.differed),
            seconds=round(self.replayed.seconds, 3),
        )

    async def _last_checkpoint(self) -> None:
        """What the strategy promises for a clean end; without it the journal has everything all the same."""
        wanted = self.settings.save_strategy is not SaveStrategy.MANUAL
        if self.snapshotter is None or not wanted or not self.host.dirty or self.journal.failure is not None:
            return
        try:
            await self.snapshotter.save("ON_SHUTDOWN")
        except Exception as error:
            log.error("the last checkpoint failed", reason=str(error))
            self.exit_code = 1

    # --- tasks beside requests ---------------------------------------------------------------------------------------

    async def _checkpoint_after_replay(self) -> None:
        """A daemon that is killed again soon must not replay the same tail again, and more each time."""
        assert self.snapshotter is not None
        with suppress(SnapshotError):  # the host has said why, and the journal still holds everything
            await self.snapshotter.save("RECOVERY")

    async def _keep_keys_ready(self) -> None:
        while True:
            await self.determinism.pool.refill()
            if self.determinism.pool.wanted is None:
                await anyio.sleep(KEYS_EVERY_S)

    async def _import_eagerly(self) -> None:
        for service in self.settings.services:
            await self.executor.prepare(service)

    async def _ask_for_time(self, notifier: Notifier) -> None:
        """A replay may take longer than the unit allows a start to take."""
        while self.gateway.phase is Phase.RECOVERING:
            notifier.more_time(3 * STATUS_EVERY_S)
            await anyio.sleep(STATUS_EVERY_S)

    async def _tell_systemd(self, notifier: Notifier) -> None:
        while True:
            await anyio.sleep(STATUS_EVERY_S)
            notifier.status(self._one_line())

    def _resetting(self) -> None:
        """moto's own reset clears what is in memory; what still lies in images is to go too, and all of it is touched."""
        for service in self.loader.stored:
            self.loader.forget(service)
        for service in backends.services():
            if backends.imported(service):
                self.executor.touch(service)
        for service in self.host.last.services if self.host.last is not None else ():
            self.executor.touch(service)

    async def _flushed(self, lsn: int) -> None:
        assert self.snapshotter is not None
        try:
            await self.snapshotter.flushed(lsn)
        except SnapshotError as error:
            raise Unavailable(f"it was executed and journalled, but not saved: {error}") from error

    def _touch(self, service: str) -> None:
        self.executor.touch(service)

    def _tick(self) -> None:
        self.executor.tick()

    def _moving(self) -> bool:
        since_us = self.executor.busy_since_us
        return since_us == 0 or wall_now_us() - since_us < STALLED_AFTER_S * 1e6

    def _one_line(self) -> str:
        last = self.host.last.lsn if self.host.last is not None else 0
        return f"LSN {self.journal.last_lsn}, {len(self.bus.dirty)} services dirty, last checkpoint at LSN {last}"

    # --- records that are not commands -------------------------------------------------------------------------------

    def _replay_reset(self, record: Record) -> None:
        for service in record.service.split(",") if record.service else backends.services():
            self.loader.forget(service)
            self.source.reset(service)

    def _replay_load(self, record: Record) -> None:
        raise ReplayFailed(f"LSN {record.lsn}: this version does not load states, a newer one wrote the record")

    # --- what control routes see -------------------------------------------------------------------------------------

    @property
    def version(self) -> str:
        return version("holdfast")

    @property
    def session_id(self) -> str:
        return self._session

    @property
    def machine_id(self) -> str:
        return self.storage.state_id.hex()

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self._began

    @property
    def is_serving(self) -> bool:
        return self.gateway.phase is Phase.SERVING

    @property
    def is_persistent(self) -> bool:
        return self.settings.persistence

    def services(self) -> Mapping[str, str]:
        """`running` once used, `error` when its last save failed."""
        states = {service: "running" for service in backends.services() if self.dispatch.ready(service)}
        if self.host.last_failed:
            states.update(dict.fromkeys(self.host.last_failed, "error"))
        return states

    def status(self) -> Mapping[str, Any]:
        """What Holdfast promises and does, for `features.holdfast` and `/_holdfast/status`."""
        settings, journal, last = self.settings, self.journal, self.host.last
        return {
            "volume": str(settings.volume) if settings.persistence else None,
            "loss_bound": settings.loss_bound,
            "save_strategy": str(settings.save_strategy),
            "load_strategy": str(settings.load_strategy),
            "flush_interval_s": settings.flush_interval_s,
            "journal": {
                "on": settings.journal_on,
                "sync": str(settings.journal_sync),
                "last_lsn": journal.last_lsn,
                "durable_lsn": journal.durable_lsn,
                "failure": str(journal.failure) if journal.failure is not None else None,
            },
            "checkpoint": {
                "lsn": last.lsn if last is not None else 0,
                "time_ns": last.time_ns if last is not None else None,
                "failure": self.host.failure or None,
            },
            "dirty": dict(self.bus.dirty),
            "loaded": sorted(set(backends.services()) & self.dispatch.prepared - self.loader.stored),
            "stored": sorted(self.loader.stored),
            "replay": {
                "commands": self.replayed.commands,
                "seconds": self.replayed.seconds,
                "differed": [
                    {"lsn": lsn, "service": service, "operation": operation}
                    for lsn, service, operation in self.replayed.differed
                ],
            },
            "commands": self.executor.commands,
            "held_loop_ms": {name: round(seconds * 1000) for name, seconds in self.executor.held_s.items()},
        }

    def stop(self, *, restart: bool) -> None:
        """Begin to stop, and to start again if `restart`; returns at once."""
        self.restart = restart
        self._stopping.set()
        # A recovery that is cut off has changed nothing: the next start does it over.
        self._recovering.cancel()


def _allow_many_connections() -> None:
    """Raise the soft limit of open files to the hard one: each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, OPEN_FILES_MAX), hard))
