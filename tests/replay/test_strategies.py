"""Save strategies end to end: what a clean stop keeps, what a kill loses and no more than was said, and switching them."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from harness import Daemon, DaemonDied


def _names(daemon: Daemon) -> list[str]:
    return [bucket["Name"] for bucket in daemon.client("s3").list_buckets()["Buckets"]]


def test_on_shutdown_keeps_a_clean_stop_and_loses_a_kill(tmp_path: Path) -> None:
    """Without a journal a clean stop keeps everything and a kill loses all since the start: what the daemon said at its start."""
    daemon = Daemon(tmp_path / "volume", {"SNAPSHOT_SAVE_STRATEGY": "ON_SHUTDOWN"})
    with daemon:
        daemon.client("s3").create_bucket(Bucket="kept")
        assert daemon.stop() == 0
        daemon.start()
        assert "kill -9 or power loss loses all since start" in daemon.printed
        daemon.client("s3").create_bucket(Bucket="lost")
        assert _names(daemon) == ["kept", "lost"]
        daemon.kill()
        daemon.start()
        assert _names(daemon) == ["kept"]


def test_journal_switched_off_and_on_again_loses_nothing(tmp_path: Path) -> None:
    """LSNs go on through a life without a journal, and the journal goes on where that life's checkpoint ends."""
    daemon = Daemon(tmp_path / "volume")
    with daemon:
        daemon.client("s3").create_bucket(Bucket="first")
        assert daemon.stop() == 0
        daemon.env["SNAPSHOT_SAVE_STRATEGY"] = "ON_SHUTDOWN"
        daemon.start()
        daemon.client("s3").create_bucket(Bucket="second")
        assert daemon.stop() == 0
        daemon.env.clear()
        daemon.start()
        daemon.client("s3").create_bucket(Bucket="third")
        assert daemon.get("/_holdfast/status")["journal"]["last_lsn"] == 3
        daemon.kill()
        daemon.start()
        assert _names(daemon) == ["first", "second", "third"]


def test_journal_with_a_tail_is_not_switched_off(tmp_path: Path) -> None:
    """What is only in the journal would be passed over: refused in a sentence that says what to do."""
    daemon = Daemon(tmp_path / "volume", {"SNAPSHOT_FLUSH_INTERVAL": "1h"})
    with daemon:
        daemon.client("s3").create_bucket(Bucket="tail")
        daemon.kill()
        daemon.env["JOURNAL"] = "off"
        with pytest.raises(DaemonDied, match="JOURNAL=on"):
            daemon.start()
        del daemon.env["JOURNAL"]
        daemon.start()
        assert _names(daemon) == ["tail"]


def test_on_request_has_a_checkpoint_behind_every_reply(tmp_path: Path) -> None:
    """The state folder alone is complete at every reply: with the journal gone, everything acknowledged is there."""
    daemon = Daemon(tmp_path / "volume", {"SNAPSHOT_SAVE_STRATEGY": "ON_REQUEST"})
    with daemon:
        for number in range(5):
            daemon.client("s3").create_bucket(Bucket=f"bucket-{number}")
            status = daemon.get("/_holdfast/status")
            assert status["checkpoint"]["lsn"] == status["journal"]["last_lsn"] == number + 1
        daemon.kill()
        daemon.start()
        assert daemon.get("/_holdfast/status")["replay"]["commands"] == 0
        assert len(_names(daemon)) == 5


def test_memory_only_writes_nothing_and_forgets(tmp_path: Path) -> None:
    """PERSISTENCE=0: no folder is made, and the end is the end."""
    daemon = Daemon(tmp_path / "volume", {"PERSISTENCE": "0"})
    with daemon:
        daemon.client("s3").create_bucket(Bucket="gone")
        assert _names(daemon) == ["gone"]
        assert daemon.stop() == 0
        assert not (tmp_path / "volume").exists()
        daemon.start()
        assert _names(daemon) == []


def test_reset_by_motos_route_is_not_undone_by_a_restart(tmp_path: Path) -> None:
    """moto's own reset clears services that still lie in images too, and is journalled like any change."""
    daemon = Daemon(tmp_path / "volume")
    with daemon:
        daemon.client("s3").create_bucket(Bucket="reset")
        daemon.client("ssm").put_parameter(Name="reset", Value="v", Type="String")
        assert daemon.stop() == 0
        daemon.start()
        reset = urllib.request.Request(f"{daemon.endpoint}/moto-api/reset", data=b"", method="POST")
        with urllib.request.urlopen(reset, timeout=30) as reply:
            assert json.loads(reply.read()) == {"status": "ok"}
        assert _names(daemon) == []
        daemon.kill()
        daemon.start()
        assert daemon.get("/_holdfast/status")["replay"]["differed"] == []
        assert _names(daemon) == []
        assert daemon.client("ssm").describe_parameters()["Parameters"] == []


def test_life_cycle_settings_of_motos_route_outlive_a_checkpoint(tmp_path: Path) -> None:
    """What is set through moto's own control routes is state like any other: saved, and there after a clean stop."""
    setting = {"model_name": "dax::cluster", "transition": {"progression": "manual", "times": 7}}
    daemon = Daemon(tmp_path / "volume")
    with daemon:
        body = json.dumps(setting).encode()
        url = f"{daemon.endpoint}/moto-api/state-manager/set-transition"
        request = urllib.request.Request(url, data=body, headers={"content-type": "application/json"}, method="POST")
        urllib.request.urlopen(request, timeout=30).close()
        assert daemon.stop() == 0
        daemon.start()
        assert daemon.get("/_holdfast/status")["replay"]["commands"] == 0
        assert daemon.get("/moto-api/state-manager/get-transition?model_name=dax::cluster") == setting["transition"]
