"""The dedicated thread on which slow writes and syncs run, with one wake-up of the event loop for each."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable

__all__ = ["LaneThread"]


class Job:
    """One call on the thread: its result or error, and whether the loop has been told."""

    def __init__(self, call: Callable[[], float], done: Callable[[float, Exception | None], None]) -> None:
        self._call = call
        self._done = done
        self._result = 0.0
        self._error: Exception | None = None
        self._delivered = False
        self.finished = threading.Event()

    def run(self) -> None:
        """On the thread: make the call."""
        try:
            self._result = self._call()
        except (
            Exception
        ) as error:  # whatever it is, the loop's side decides: a commit that raised is a commit that failed
            self._error = error
        self.finished.set()

    def deliver(self) -> None:
        """On the loop: hand over the result, once."""
        if not self._delivered:
            self._delivered = True
            self._done(self._result, self._error)


class LaneThread:
    """Runs calls one after another, off the loop. Started by the first call; `drain` and `stop` block."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._under_way: list[Job] = []
        self._thread: threading.Thread | None = None

    def submit(self, call: Callable[[], float], done: Callable[[float, Exception | None], None]) -> None:
        """Run `call` on the thread, then `done(result, error)` on the loop."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="holdfast-journal", daemon=True)
            self._thread.start()
        job = Job(call, done)
        self._under_way.append(job)
        self._jobs.put(job)

    def drain(self) -> None:
        """Block until every call has ended, and deliver what the loop has not been told yet."""
        while self._under_way:
            job = self._under_way[0]
            job.finished.wait()
            self._deliver(job)

    def stop(self) -> None:
        """End the thread, after what it has been given."""
        self.drain()
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _deliver(self, job: Job) -> None:
        if job in self._under_way:
            self._under_way.remove(job)
        job.deliver()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            try:
                self._loop.call_soon_threadsafe(self._deliver, job)
            except RuntimeError:
                return  # the loop is closed: nobody is left to be told
