"""The unit files: systemd finds nothing to say about them, and they are as closed as they claim."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
EXPOSURE_MAX = 1.5

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def analyze(*arguments: str, runtime: Path) -> subprocess.CompletedProcess[str]:
    # A user's manager is looked for in XDG_RUNTIME_DIR, which a bare machine does not set.
    env = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


@needs_analyze
@pytest.mark.parametrize("name", ["holdfast.service", "holdfast.socket"])
@pytest.mark.parametrize("scope", ["--system", "--user"])
def test_verify_prints_nothing(scope: str, name: str, tmp_path: Path) -> None:
    """It ends with 0 on unknown keys, so what counts is that it has nothing to say."""
    unit = UNITS / ("user" if scope == "--user" else "") / name
    done = analyze(scope, "verify", str(unit), runtime=tmp_path)
    assert (done.stdout, done.returncode) == ("", 0)


@needs_analyze
def test_verify_would_say_something(tmp_path: Path) -> None:
    """The check above can fail: a key that systemd does not know is printed."""
    unit = tmp_path / "holdfast.service"
    unit.write_text((UNITS / "holdfast.service").read_text().replace("Type=notify", "Type=notify\nNoSuchKey=yes"))
    assert "NoSuchKey" in analyze("--system", "verify", str(unit), runtime=tmp_path).stdout


@needs_analyze
def test_the_service_is_closed(tmp_path: Path) -> None:
    """The exposure that systemd computes stays under what the project promises."""
    done = analyze("security", "--offline=yes", str(UNITS / "holdfast.service"), runtime=tmp_path)
    found = re.search(r"Overall exposure level for holdfast.service: ([0-9.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) <= EXPOSURE_MAX
