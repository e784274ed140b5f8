from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def holdfast(tmp_path: Path) -> Run:
    """Runs the installed command as a user would, at home in a folder of the test's own."""

    def run(*arguments: str, timeout_s: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "holdfast"), *arguments]
        home = {"HOME": str(tmp_path), "XDG_STATE_HOME": "", "XDG_RUNTIME_DIR": str(tmp_path), "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            command, env={**os.environ, **home, **env}, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    return run
