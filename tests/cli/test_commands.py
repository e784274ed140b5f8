"""The command line without a daemon: what starts fast, and what a mistake is answered with."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest
from harness import free_port

from holdfast.daemon.config import settings_table

Run = Callable[..., subprocess.CompletedProcess[str]]

HEAVY = ("moto", "uvicorn", "uvloop", "anyio", "structlog", "cryptography", "boto3", "requests", "asyncio")
VERSION_MAX_S = 0.15


@contextmanager
def answering(status: int, body: object) -> Iterator[str]:
    """A server on a free port that answers everything the same way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


HEALTH = {
    "services": {"s3": "running", "sqs": "available"},
    "edition": "community",
    "version": "0.1.0",
    "features": {"persistence": "initialized", "holdfast": {"journal": {"last_lsn": 7, "failure": None}, "stored": []}},
}


def test_version_is_the_distributions_and_light(holdfast: Run) -> None:
    """`holdfast version` says what is installed without importing what serves."""
    done = holdfast("version")
    assert (done.stdout, done.stderr, done.returncode) == (f"{version('holdfast')}\n", "", 0)
    code = (
        "import sys\nsys.argv = ['holdfast', 'version']\nfrom holdfast.daemon.cli import main\n"
        f"main(standalone_mode=False)\nprint(sorted(set(sys.modules) & set({HEAVY})))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.splitlines()[-1] == "[]"


def test_version_is_quick(holdfast: Run) -> None:
    """A matter of an eye's blink: in processor time, which does not count what else the machine does, the best of five."""
    taken = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        holdfast("version")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) < VERSION_MAX_S


@pytest.mark.parametrize("verb", ["start", "status", "stop", "journal", "snapshot", "settings", "version"])
def test_every_verb_has_help_with_an_example(holdfast: Run, verb: str) -> None:
    """`--help` says what the verb does and shows how it is typed."""
    done = holdfast(verb, "--help")
    assert done.returncode == 0
    assert f"holdfast {verb}" in done.stdout.partition("Example")[2]
    assert f"  {verb} " in holdfast("--help").stdout


@pytest.mark.parametrize("verb", ["status", "stop"])
def test_nobody_who_listens_is_one_sentence(holdfast: Run, verb: str) -> None:
    """No daemon: a sentence that says where was looked, and exit code 1."""
    endpoint = f"http://localhost:{free_port()}"
    done = holdfast(verb, HOLDFAST_ENDPOINT=endpoint)
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.startswith(f"holdfast: nothing answers at {endpoint} (")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["status", "stop"])
def test_another_program_is_not_taken_for_ours(holdfast: Run, verb: str) -> None:
    """What answers but is no holdfast is not asked to stop, and not reported as well."""
    with answering(200, {"services": {}, "version": "4"}) as endpoint:
        done = holdfast(verb, "--endpoint", endpoint)
    assert (done.returncode, done.stderr) == (1, f"holdfast: what listens at {endpoint} is not a holdfast\n")


@pytest.mark.parametrize("endpoint", ["https://localhost:4566", "localhost:x", "http://", "ftp://a:1"])
def test_an_endpoint_that_is_none_is_a_usage_error(holdfast: Run, endpoint: str) -> None:
    """Wrong usage ends with 2."""
    done = holdfast("status", "--endpoint", endpoint)
    assert done.returncode == 2
    assert "it takes http://HOST:PORT" in done.stderr


def test_status_reads_as_lines_and_as_json(holdfast: Run) -> None:
    """For people every field on a line of its own; for scripts the health as it is."""
    with answering(200, HEALTH) as endpoint:
        lines = holdfast("status", "--endpoint", endpoint)
        data = holdfast("status", "--endpoint", endpoint, "--json")
    assert lines.stdout.splitlines() == [
        f"holdfast 0.1.0 at {endpoint}: serving",
        "1 services available",
        "1 services running: s3",
        "journal:",
        "  last_lsn: 7",
        "  failure: none",
        "stored: none",
    ]
    assert (json.loads(data.stdout), lines.returncode, data.returncode) == (HEALTH, 0, 0)


@pytest.mark.parametrize(
    ("status", "services"),
    [(503, {"s3": "starting"}), (200, {"s3": "error", "sqs": "running"})],
    ids=["starting", "error"],
)
def test_status_ends_with_one_when_not_all_is_well(holdfast: Run, status: int, services: dict[str, str]) -> None:
    """Nothing is skipped silently (promise 7): a service that could not be saved shows in the exit code."""
    with answering(status, {**HEALTH, "services": services}) as endpoint:
        assert holdfast("status", "--endpoint", endpoint).returncode == 1


def test_stop_of_a_volume_nobody_holds_says_so(holdfast: Run, tmp_path: Path) -> None:
    """`stop --volume` finds the daemon by the volume's lock, not by its port."""
    (tmp_path / "v").mkdir()
    done = holdfast("stop", "--volume", str(tmp_path / "v"))
    assert (done.returncode, done.stderr) == (1, f"holdfast: {tmp_path}/v is not a volume of holdfast\n")
    (tmp_path / "v" / "format").write_text("{}")
    (tmp_path / "v" / "LOCK").write_text("{}")
    done = holdfast("stop", "--volume", str(tmp_path / "v"))
    assert (done.returncode, done.stderr) == (1, f"holdfast: no daemon holds the volume {tmp_path}/v\n")


def test_settings_are_shown_as_start_would_use_them(holdfast: Run, tmp_path: Path) -> None:
    """`holdfast settings` answers the question which value wins, and names what is without effect."""
    done = holdfast("settings", "--volume", str(tmp_path / "v"), JOURNAL_SYNC="interval", LAMBDA_EXECUTOR="docker")
    assert f"LOCALSTACK_VOLUME_DIR={tmp_path}/v" in done.stdout.splitlines()
    assert "JOURNAL_SYNC=interval" in done.stdout.splitlines()
    assert done.stderr == "holdfast: LAMBDA_EXECUTOR is set but means nothing to holdfast\n"
    assert holdfast("settings", "--table").stdout.strip() == settings_table()


@pytest.mark.parametrize("detached", [(), ("-d",)], ids=["foreground", "detached"])
def test_a_mistake_in_the_settings_is_one_sentence(holdfast: Run, tmp_path: Path, detached: tuple[str, ...]) -> None:
    """Key, value, what is allowed; exit code 2; nothing was made."""
    done = holdfast("start", "--volume", str(tmp_path / "v"), *detached, JOURNAL_SYNC="maybe")
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr == (
        "holdfast: JOURNAL_SYNC='maybe' (the environment) is not allowed: it takes always, interval, off\n"
    )
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize("detached", [(), ("-d",)], ids=["foreground", "detached"])
def test_a_folder_of_somebody_elses_is_one_sentence(holdfast: Run, tmp_path: Path, detached: tuple[str, ...]) -> None:
    """Not ours: exit code 1, nothing touched, no log written into it either."""
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "thesis.tex").write_text("")
    done = holdfast("start", "--volume", str(tmp_path / "v"), "--listen", f"127.0.0.1:{free_port()}", *detached)
    assert (done.stdout, done.returncode) == ("", 1)
    assert "not a volume of holdfast and not empty (it holds thesis.tex)" in done.stderr
    assert [path.name for path in (tmp_path / "v").iterdir()] == ["thesis.tex"]


def test_a_python_that_ignores_the_hash_seed_is_refused(tmp_path: Path) -> None:
    """With -I a replay would not be exact: that is said, not risked, and the process does not execute itself for ever."""
    command = [sys.executable, "-I", "-m", "holdfast.daemon.cli", "start", "--volume", str(tmp_path / "v")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "ignores PYTHONHASHSEED" in done.stderr
