"""The journal against Redis and SQLite through a socket, against itself switched off, and its own rates.

One load for all: redis-benchmark, SET of 200-byte values, the same number of clients, systems taking turns, medians of
ratios of neighbouring runs. Redis with `appendonly yes, appendfsync always` lets its file grow, so the figure to compare is
that of the journal with growing segments; the one with prepared segments is how it is shipped.

    python -m tests.bench journal

The files lie in the default temporary folder, or in HOLDFAST_BENCH_DIR.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from holdfast.journal import Journal, JournalOptions, Kind, LocalDisk
from holdfast.journal.scan import scan

SERVER = Path(__file__).parent / "resp_server.py"
CLIENTS = (1, 8, 64, 256)
ROUNDS = 5
RUN_S = 1.0
VALUE_BYTES = 200
GOALS = {1: 0.7, 8: 0.7, 64: 0.9, 256: 0.9}


@contextlib.contextmanager
def ours(kind: str, folder: Path) -> Iterator[int]:
    """The bench server over one kind of store; gives its port."""
    folder.mkdir()
    server = subprocess.Popen([sys.executable, str(SERVER), kind, str(folder)], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        yield int(server.stdout.readline())
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[int]:
    """Redis with an append-only file that is synced before each reply."""
    folder.mkdir()
    port = 21_000 + os.getpid() % 10_000
    settings = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--auto-aof-rewrite-percentage", "0"]
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), *settings],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            if load(port, 1, 1) > 0:
                break
            time.sleep(0.02)
        yield port
    finally:
        server.kill()
        server.wait()


def load(port: int, clients: int, requests: int) -> float:
    """Requests a second, by redis-benchmark; 0 when nobody answers."""
    words = ["redis-benchmark", "-p", str(port), "-c", str(clients), "-n", str(requests), "-d", str(VALUE_BYTES)]
    done = subprocess.run([*words, "-t", "set", "--csv"], capture_output=True, text=True, check=False)
    found = re.search(r'^"SET","([\d.]+)"', done.stdout, re.MULTILINE)
    return float(found[1]) if found else 0.0


def compare(folder: Path, clients_counts: tuple[int, ...], rounds: int) -> dict[str, dict[int, list[float]]]:
    """Requests a second of each system, for each number of clients, round after round."""
    rates: dict[str, dict[int, list[float]]] = {}
    with contextlib.ExitStack() as stack:
        ports = {
            kind: stack.enter_context(ours(kind, folder / kind))
            for kind in ("journal", "journal-grows", "memory", "sqlite")
        }
        if shutil.which("redis-server"):
            ports["redis"] = stack.enter_context(redis(folder / "redis"))
        for clients in clients_counts:
            requests = {name: max(int(load(port, clients, 50 * clients) * RUN_S), 100) for name, port in ports.items()}
            for _ in range(rounds):
                for name, port in ports.items():
                    rates.setdefault(name, {}).setdefault(clients, []).append(load(port, clients, requests[name]))
    return rates


def ratio(rates: dict[str, dict[int, list[float]]], one: str, other: str, clients: int) -> float:
    """The median ratio of two systems' neighbouring runs."""
    pairs = zip(rates[one][clients], rates[other][clients], strict=True)
    return statistics.median(first / second for first, second in pairs)


def through_a_socket() -> None:
    """Print the comparison."""
    if not shutil.which("redis-benchmark"):
        print("skipped: redis-benchmark, which makes the load, is not installed (apt-get install redis-server)")
        return
    if not shutil.which("redis-server"):
        print("Redis is left out: redis-server is not installed (apt-get install redis-server)")
    with tempfile.TemporaryDirectory(dir=os.environ.get("HOLDFAST_BENCH_DIR")) as folder:
        rates = compare(Path(folder), CLIENTS, ROUNDS)
    print(f"requests a second, medians of {ROUNDS} rounds, {VALUE_BYTES}-byte values")
    print(f"{'clients':>20}" + "".join(f"{clients:>10}" for clients in CLIENTS))
    for name, by_clients in rates.items():
        print(f"{name:>20}" + "".join(f"{statistics.median(by_clients[clients]):>10.0f}" for clients in CLIENTS))
    peers = [
        ("journal-grows", "redis", "neither prepares its file"),
        ("journal", "redis", "as shipped"),
        ("journal-grows", "sqlite", "neither prepares its file"),
        ("journal", "memory", "as shipped: what the journal costs the same server"),
    ]
    print("ratios")
    for one, other, remark in peers:
        if other in rates:
            figures = "".join(f"{ratio(rates, one, other, clients):>10.2f}" for clients in CLIENTS)
            print(f"{one + ' / ' + other:>24}{figures}   {remark}")
    print(f"{'goal against redis':>24}" + "".join(f"{GOALS[clients]:>10.2f}" for clients in CLIENTS))


async def write(folder: Path, records: int, group: int, value: bytes) -> float:
    """Append records in groups of one size; returns the CPU seconds that the loop's thread took for all of them."""
    options = JournalOptions(headroom_bytes=0)
    async with Journal.open(folder, state_id=b"bench", options=options) as journal:
        began = time.thread_time()
        for _ in range(records // group):
            for _ in range(group):
                lsn = journal.append(Kind.COMMAND, "sqs", "SendMessage", 1_700_000_000_000_000_000, value)
            await journal.durable(lsn)
        return time.thread_time() - began


def in_memory() -> Path | None:
    """A folder in memory, where syncs cost nothing, so that what is left is the journal's own."""
    return Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None


def own_rates() -> None:
    """Print CPU a record, and how fast a journal is validated and decoded."""
    value = os.urandom(VALUE_BYTES)
    print("the journal's own, 200-byte values, medians of 5")
    for group in (1, 16, 64, 256):
        with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
            records = 20_000
            cpu = statistics.median(asyncio.run(write(Path(folder) / str(n), records, group, value)) for n in range(5))
            last = Path(folder) / "4"
            size_bytes = sum(file.stat().st_size for file in last.iterdir())
            validate_s = statistics.median(timed_scan(last) for _ in range(5))
            decode_s = statistics.median(timed_read(last) for _ in range(5))
        print(
            f"groups of {group:>3}: {cpu / records * 1e6:5.2f} us of CPU a record;"
            f" validate {size_bytes / validate_s / 1e9:5.2f} GB/s; decode {size_bytes / decode_s / 1e6:6.1f} MB/s"
        )
    print("goals: 5 us a record in groups of 16 and more; validate 1 GB/s; decode 30 MB/s")


def timed_scan(folder: Path) -> float:
    began = time.perf_counter()
    scan(LocalDisk(), str(folder), thorough=False)
    return time.perf_counter() - began


def timed_read(folder: Path) -> float:
    journal = Journal.open(folder, state_id=b"bench")
    began = time.perf_counter()
    for _ in journal.read():
        pass
    return time.perf_counter() - began


def main() -> None:
    """Everything, in one run."""
    own_rates()
    through_a_socket()


if __name__ == "__main__":
    main()
