"""What a replay found different is kept in a file, so that it is not forgotten with the process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from holdfast.daemon.replay import ReplayReport, write_down


@pytest.mark.anyio
async def test_differences_are_kept_in_a_private_file(tmp_path: Path) -> None:
    """LSN, service and operation of every difference, in a file that is named by the first and is the owner's alone."""
    report = ReplayReport(commands=9, differed=[(7, "sns", "Publish"), (8, "sqs", "ReceiveMessage")])
    path = await write_down(report, tmp_path)
    assert path.name == "diverged-7.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text("utf-8"))["differed"][1] == {
        "lsn": 8,
        "service": "sqs",
        "operation": "ReceiveMessage",
    }
