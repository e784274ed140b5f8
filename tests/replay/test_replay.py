"""A killed daemon that comes back by replay alone: the same replies, the same state, and nothing done twice."""

from __future__ import annotations

from pathlib import Path

from harness import Daemon
from mixed import describe, work


def test_mixed_day_comes_back_by_replay_alone(tmp_path: Path) -> None:
    """Over 100 changing requests on over 10 services, no checkpoint: every reply and everything that can be asked is the same."""
    with Daemon(tmp_path / "volume", {"SNAPSHOT_FLUSH_INTERVAL": "1h"}) as daemon:
        count = work(daemon.client)
        before = describe(daemon.client)
        status = daemon.get("/_holdfast/status")
        assert status["checkpoint"]["lsn"] == 0, "a checkpoint was written: this would not test the replay"
        print(f"{count} requests, {status['journal']['last_lsn']} records; held the loop: {status['held_loop_ms']}")
        daemon.kill()
        daemon.start()
        replay = daemon.get("/_holdfast/status")["replay"]
        assert replay["differed"] == []
        assert replay["commands"] == status["journal"]["last_lsn"] >= 100
        assert describe(daemon.client) == before


def test_checkpoint_and_tail_give_the_same_state_as_replay(tmp_path: Path) -> None:
    """The same day, cut by a clean stop: images brought back by a checkpoint, then a tail on top of them, lazily or at start."""
    with Daemon(tmp_path / "volume") as daemon:
        work(daemon.client)
        before = describe(daemon.client)
        assert daemon.stop() == 0
        daemon.start()
        status = daemon.get("/_holdfast/status")
        assert (status["replay"]["commands"], status["checkpoint"]["failure"]) == (0, None)
        assert status["checkpoint"]["lsn"] == status["journal"]["last_lsn"] > 100
        assert describe(daemon.client) == before
        daemon.client("sqs").send_message(QueueUrl=f"{daemon.endpoint}/000000000000/one", MessageBody="after")
        daemon.client("iam").create_role(RoleName="after", AssumeRolePolicyDocument="{}")
        daemon.kill()
        daemon.env["SNAPSHOT_LOAD_STRATEGY"] = "ON_STARTUP"
        daemon.start()
        assert daemon.get("/_holdfast/status")["replay"]["differed"] == []
        after = describe(daemon.client)
        roles = [role for role in after["roles"]["Roles"] if role["RoleName"] != "after"]
        assert len(roles) == len(after["roles"]["Roles"]) - 1
        after["roles"]["Roles"] = roles
        assert after == before
