"""Determinism: what a command sees of clock, chance and keys, so that running it again gives the same identifiers and replies.

What varies from run to run in moto, and what holds it (measured, DESIGN section 5):

    source                          control
    ------------------------------  ---------------------------------------------------------------------------------------
    the wall clock                  frozen for the length of a command (time-machine, no ticking); strictly increasing
    moto's `mock_random`, `random`  seeded per command
    os.urandom (uuid4, secrets,     drawn from the command's seed, only on the thread that runs the command and only inside
      x509 serial numbers)          it: what the daemon itself draws comes from the kernel and stays unpredictable
    private keys                    the command's tape (keys.py)
    backends made on first touch    seeded from (service, account, region), pinned to the volume's creation time
    modules imported on first use   executed under a seed of their own name and the volume's creation time
    id() in moto.elbv2              replaced by a number drawn from the command's seed
    time.sleep                      does nothing inside a command: waiting is the gateway's
    hash order, time zone           PYTHONHASHSEED=0 and TZ=UTC, set by re-executing the daemon once (cli/start.py)

One `Determinism` serves the process. A command costs about 25 us of it: freezing 9, seeding 8, the rest bookkeeping.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from holdfast.daemon.services import keys
from holdfast.daemon.services.keys import KeyPool, Tape

__all__ = ["Determinism", "wall_now_us"]

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_kernel_urandom = os.urandom
_real_sleep = time.sleep


def _import_time_machine() -> Any:
    """time-machine imports pytest where it finds it (for its own fixture): 70 ms that a daemon need not pay."""
    absent = object()
    before = sys.modules.get("pytest", absent)
    if before is absent:
        # As if it were not installed.
        sys.modules["pytest"] = None  # type: ignore[assignment]
    try:
        import time_machine
    finally:
        if before is absent:
            del sys.modules["pytest"]
    return time_machine


_time_machine = _import_time_machine()

# CLOCK_BOOTTIME goes on while a laptop sleeps, which CLOCK_MONOTONIC does not; neither is ever frozen.
_STEADY_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_wall_minus_steady_ns = time.time_ns() - time.clock_gettime_ns(_STEADY_CLOCK)


def wall_now_us() -> int:
    """Microseconds since 1970 by the real clock, on any thread, frozen or not."""
    return (time.clock_gettime_ns(_STEADY_CLOCK) + _wall_minus_steady_ns) // 1000


class Determinism:
    """The controls of one process: `install()` once, before moto is imported; then one `command()` after another."""

    def __init__(self, created_us: int) -> None:
        self.created_us = created_us
        self.pool = KeyPool()
        self.last_clock_us = created_us
        self._tape: Tape | None = None
        self._thread = 0
        self._chance = random.Random()  # noqa: S311 - the opposite of a secret: it must come out the same again
        self._mock_random: random.Random | None = None
        self.mends: dict[str, Callable[[ModuleType], None]] = {"moto.elbv2.models": self._mend_elbv2}
        """What is to be put right in a module of moto as soon as it is imported, by the module's name."""

    def install(self) -> None:
        """Patch the process: entropy, sleep, key generation, imports of moto."""
        os.urandom = self._urandom
        random._urandom = self._urandom  # type: ignore[attr-defined]  # what SystemRandom, and so `secrets`, calls
        time.sleep = self._sleep  # type: ignore[assignment]
        keys.install(self._running_tape)
        sys.meta_path.insert(0, _MotoImports(self))

    def next_clock_us(self) -> int:
        """The clock for the next live command: the wall's time, but always later than the last command's.

        Call it between commands: the real clock is read, and `wall_now_us` follows it if it was set.
        """
        global _wall_minus_steady_ns  # noqa: PLW0603 - one clock serves the process
        now_ns = time.time_ns()
        _wall_minus_steady_ns = now_ns - time.clock_gettime_ns(_STEADY_CLOCK)
        return max(now_ns // 1000, self.last_clock_us + 1)

    @contextmanager
    def command(self, clock_us: int, seed: int, tape: tuple[bytes, ...] | None = None) -> Iterator[Tape]:
        """Run what is inside at `clock_us` with all chance drawn from `seed`; `tape` plays recorded keys back."""
        current = Tape(self.pool, tape)
        travel = _time_machine.travel(EPOCH + dt.timedelta(microseconds=clock_us), tick=False)
        self._seed(seed)
        self.last_clock_us = max(self.last_clock_us, clock_us)
        self._thread = threading.get_ident()
        self._tape = current
        travel.start()
        try:
            yield current
        finally:
            travel.stop()
            self._tape = None
            self._thread = 0

    @contextmanager
    def aside(self, *name: str) -> Iterator[None]:
        """Run what is inside under a seed made of `name` and the volume's creation time, then go on as if it had not happened.

        For what happens on first touch: whether a command is the first to touch a backend or a module depends on what ran
        before it in this process, so neither the command's own chance nor its clock may be spent on it.
        """
        seed = int.from_bytes(hashlib.sha256("\0".join(name).encode()).digest()[:8], "little")
        chance, shared = self._chance.getstate(), random.getstate()
        mock = self._mock_random.getstate() if self._mock_random is not None else None
        tape, thread = self._tape, self._thread
        travel = _time_machine.travel(EPOCH + dt.timedelta(microseconds=self.created_us), tick=False)
        self._seed(seed)
        self._thread = threading.get_ident()
        travel.start()
        try:
            yield
        finally:
            travel.stop()
            self._tape, self._thread = tape, thread
            self._chance.setstate(chance)
            random.setstate(shared)
            if mock is not None and self._mock_random is not None:
                self._mock_random.setstate(mock)

    def _seed(self, seed: int) -> None:
        self._chance.seed(seed)
        random.seed(seed)
        if self._mock_random is None:
            module = sys.modules.get("moto.moto_api._internal")
            self._mock_random = getattr(module, "mock_random", None)
        if self._mock_random is not None:
            self._mock_random.seed(seed)

    def _inside(self) -> bool:
        return self._thread != 0 and self._thread == threading.get_ident()

    def _urandom(self, size: int, /) -> bytes:
        return self._chance.randbytes(size) if self._inside() else _kernel_urandom(size)

    def _sleep(self, seconds: float, /) -> None:
        if not self._inside():
            _real_sleep(seconds)

    def _running_tape(self) -> Tape | None:
        return self._tape if self._inside() else None

    def _mend_elbv2(self, module: ModuleType) -> None:
        """moto puts the address of a rule into its ARN: a number drawn from the command's seed instead."""
        module.id = lambda _: self._chance.getrandbits(47)  # type: ignore[attr-defined]


class _MotoImports(importlib.abc.MetaPathFinder):
    """Executes each moto module under a seed of its own when it is first imported: no import spends a command's chance."""

    def __init__(self, determinism: Determinism) -> None:
        self._determinism = determinism

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith("moto."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _AsideLoader(fullname, spec.loader.path, self._determinism)
        return spec


class _AsideLoader(importlib.machinery.SourceFileLoader):
    """Loads a module as Python would, inside `Determinism.aside`."""

    def __init__(self, fullname: str, path: str, determinism: Determinism) -> None:
        super().__init__(fullname, path)
        self._determinism = determinism

    def exec_module(self, module: ModuleType) -> None:
        with self._determinism.aside("import", module.__name__):
            super().exec_module(module)
        mend = self._determinism.mends.get(module.__name__)
        if mend is not None:
            mend(module)
