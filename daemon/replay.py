"""Replay: running the journal's tail again, so that the state that a crash took from memory is there once more.

Every record after the checkpoint is run through the executor in LSN order, under its own clock, seed and tape, and its reply
is compared with the digest of the reply that was acknowledged. A difference is never ignored (DESIGN, promise 4): it is
counted, logged with LSN and operation, shown in health, and the records it came from are kept.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiofiles
import anyio
import anyio.lowlevel
import structlog

from holdfast.daemon.bus import Bus
from holdfast.daemon.command import Command
from holdfast.daemon.events import ReplyDiffered
from holdfast.daemon.executor import Executor
from holdfast.journal import BlobStore, Kind, Record

__all__ = ["Replay", "ReplayFailed", "ReplayReport", "write_down"]

SLICE_S = 0.02
"""Replay lets the event loop breathe this often, so that health and the watchdog answer during a long one."""

PROGRESS_EVERY_S = 2.0
"""A long replay says how far it is this often."""

log = structlog.get_logger(__name__)


class ReplayFailed(Exception):
    """Raised when a record cannot be run again at all: its payload, its body or its service is missing. Carries the LSN."""


@dataclass(slots=True)
class ReplayReport:
    """What a replay did: `differed` holds (LSN, service, operation) of every reply that was not as acknowledged."""

    commands: int = 0
    seconds: float = 0.0
    differed: list[tuple[int, str, str]] = field(default_factory=list)


async def write_down(report: ReplayReport, folder: Path) -> Path:
    """Keep what differed in `diverged-<first LSN>.json` in `folder`, readable by the owner alone: it outlives this process."""
    path = folder / f"diverged-{report.differed[0][0]}.json"
    rows = [{"lsn": lsn, "service": service, "operation": operation} for lsn, service, operation in report.differed]

    def private(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    async with aiofiles.open(path, "w", encoding="utf-8", opener=private) as file:
        await file.write(json.dumps({"commands": report.commands, "differed": rows}, indent=2) + "\n")
    return path


class Replay:
    """Re-runs records. `reset` and `load` carry out the records of those kinds; they take the record."""

    def __init__(
        self,
        executor: Executor,
        bus: Bus,
        blobs: BlobStore | None,
        *,
        reset: Callable[[Record], None],
        load: Callable[[Record], None],
    ) -> None:
        self._executor = executor
        self._bus = bus
        self._blobs = blobs
        self._reset = reset
        self._load = load
        self.report = ReplayReport()

    async def run(self, records: Iterator[Record], last_lsn: int) -> ReplayReport:
        """Run all of `records`; raises ReplayFailed at the first that cannot be run."""
        began = said = breathed = time.monotonic()
        for record in records:
            await self._one(record)
            now = time.monotonic()
            if now - breathed > SLICE_S:
                await anyio.lowlevel.checkpoint()
                breathed = now
            if now - said > PROGRESS_EVERY_S:
                log.info("replaying the journal", lsn=record.lsn, of=last_lsn, commands=self.report.commands)
                said = now
        self.report.seconds = time.monotonic() - began
        return self.report

    async def _one(self, record: Record) -> None:
        if record.kind is Kind.RESET:
            self._reset(record)
        elif record.kind is Kind.LOAD:
            self._load(record)
        elif record.kind is Kind.COMMAND:
            await self._command(record)
        else:
            raise ReplayFailed(
                f"LSN {record.lsn} is a {record.kind.name.lower()} record, for which no service is registered"
            )

    async def _command(self, record: Record) -> None:
        command = self._unpack(record)
        try:
            outcome = await self._executor.rerun(command)
        except LookupError as error:
            raise ReplayFailed(
                f"LSN {record.lsn} ({record.service}:{record.operation}): no such service: {error}"
            ) from error
        self._executor.replayed(outcome, record.lsn)
        self.report.commands += 1
        if outcome.command.digest != command.digest:
            self.report.differed.append((record.lsn, record.service, record.operation))
            self._bus.publish(ReplyDiffered(record.lsn, record.service, record.operation))
            log.error(
                "a replayed reply differs from the one that was acknowledged",
                lsn=record.lsn,
                service=record.service,
                operation=record.operation,
                status_was=command.status,
                status_is=outcome.reply.status,
            )

    def _unpack(self, record: Record) -> Command:
        try:
            command = Command.unpack(record.payload)
            if not command.body_blob:
                return command
            if self._blobs is None:
                raise ReplayFailed(f"LSN {record.lsn}: its body is a blob, and there is no blob store")
            return command.with_body(self._blobs.get(command.body_blob))
        except (ValueError, OSError) as error:
            raise ReplayFailed(f"LSN {record.lsn} ({record.service}:{record.operation}): {error}") from error
