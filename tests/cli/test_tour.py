"""The README's tour, typed as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import free_port

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.skipif(shutil.which("aws") is None, reason="the aws command line is not installed")
def test_the_tour_goes_as_the_readme_says(tmp_path: Path) -> None:
    """Every command of the tour works, and after kill -9 the object, the queue and the link to the topic are there."""
    tour = README.read_text(encoding="utf-8").partition("## A tour")[2].partition("\n## ")[0]
    before, after = re.findall(r"```sh\n(.*?)```", tour, re.DOTALL)
    port = free_port()
    holdfast = Path(sys.executable).parent / "holdfast"
    start = f'"{holdfast}" start -d --volume ./volume --listen localhost:{port}\n'
    script = f"set -euo pipefail\n{start}{before}\n{start}echo ----\n{after}".replace(
        "localhost:4566", f"localhost:{port}"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=110, check=False
        )
    finally:
        subprocess.run([holdfast, "stop", "--volume", tmp_path / "volume"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    replies = done.stdout.partition("----\n")[2]
    assert replies.startswith("tied fast\n")
    assert '"Message": "storm"' in replies
