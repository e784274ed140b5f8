"""A server with one command, SET, in Redis's protocol, over different stores: what the journal is measured in.

    python resp_server.py {journal|journal-grows|memory|sqlite} FOLDER

Prints its port. All stores run behind the same protocol code on uvloop. A reply is sent when the value is durable (journal,
sqlite) or at once (memory).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import uvloop

from holdfast.journal import Journal, JournalOptions, Kind, MemoryJournal

Answer = Callable[[bytes], None]
Store = Callable[[bytes, Answer], None]
OK = b"+OK\r\n"
EMPTY = b"*0\r\n"


class Client(asyncio.Protocol):
    """One connection: each request is taken as a whole, and answered when the store says so."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._buffer = b""
        self._write: Answer = lambda _: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        words = (self._buffer + data).split(b"\r\n")
        while len(words) > 1 and len(words) > 2 * int(words[0][1:]) + 1:
            count = 2 * int(words[0][1:]) + 1
            if words[2] == b"SET":
                self._store(words[6], self._write)
            else:
                self._write(EMPTY)
            words = words[count:]
        self._buffer = b"\r\n".join(words)


def through(journal: Journal | MemoryJournal) -> Store:
    """Append the value as a command would be, and answer once it is durable."""
    waiting: deque[tuple[int, Answer]] = deque()

    def store(value: bytes, answer: Answer) -> None:
        journal.reserve(len(value))
        waiting.append((journal.last_lsn + 1, answer))
        journal.append(Kind.COMMAND, "sqs", "SendMessage", time.time_ns(), value)

    def durable(lsn: int) -> None:
        while waiting and waiting[0][0] <= lsn:
            waiting.popleft()[1](OK)

    journal.on_durable.append(durable)
    return store


def single_inserts(folder: str) -> Store:
    """SQLite with its write-ahead log synced at each commit, one insert each."""
    database = sqlite3.connect(os.path.join(folder, "database"), isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS records (lsn INTEGER PRIMARY KEY, value BLOB)")

    def store(value: bytes, answer: Answer) -> None:
        database.execute("INSERT INTO records (value) VALUES (?)", (value,))
        answer(OK)

    return store


async def serve(store: Store) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(lambda: Client(store), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def main(kind: str, folder: str) -> None:
    """Serve over the store named."""
    if kind == "memory":
        await serve(through(MemoryJournal()))
    elif kind == "sqlite":
        await serve(single_inserts(folder))
    else:
        options = JournalOptions(zero_fill=kind != "journal-grows")
        async with Journal.open(folder, state_id=b"bench", options=options) as journal:
            await serve(through(journal))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:3]))
