"""Settings: what users write, what they get, and what they are told when they wrote something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.daemon.config import (
    Address,
    ConfigError,
    LoadStrategy,
    LogLevel,
    Retention,
    SaveStrategy,
    Settings,
    default_volume,
)
from holdfast.journal import SyncMode


def load(volume: Path, /, **env: str) -> Settings:
    return Settings.load({"LOCALSTACK_VOLUME_DIR": str(volume), **env})


def test_nothing_set_gives_the_documented_defaults(tmp_path: Path) -> None:
    """A user who sets nothing gets durability before the reply, on the loopback interface, under the XDG state folder."""
    settings = Settings.load({"HOME": str(tmp_path)})
    assert settings == Settings(volume=tmp_path / ".local/state/holdfast")
    assert settings.persistence
    assert settings.journal_on
    assert settings.journal_sync is SyncMode.ALWAYS
    assert settings.save_strategy is SaveStrategy.SCHEDULED
    assert settings.load_strategy is LoadStrategy.ON_REQUEST
    assert settings.flush_interval_s == 15
    assert settings.listen == (Address("localhost", 4566),)
    assert settings.account_id == "000000000000"
    assert settings.unknown == ()


def test_every_setting_is_read_from_the_environment(tmp_path: Path) -> None:
    """Each variable of the contract reaches its field, in its type."""
    settings = load(
        tmp_path,
        PERSISTENCE="0",
        SNAPSHOT_SAVE_STRATEGY="on_request",
        SNAPSHOT_LOAD_STRATEGY="MANUAL",
        SNAPSHOT_FLUSH_INTERVAL="500ms",
        JOURNAL="off",
        JOURNAL_SYNC="interval",
        JOURNAL_RETENTION="2h,512MiB",
        GATEWAY_LISTEN="0.0.0.0:4567,[::1]:80",
        SERVICES="s3, sqs,,s3",
        EAGER_SERVICE_LOADING="true",
        MOTO_ACCOUNT_ID="123456789012",
        EXTRA_CORS_ALLOWED_ORIGINS="https://a.example,https://b.example",
        DISABLE_CORS_CHECKS="1",
        HOLDFAST_ALLOWED_HOSTS="localstack,*.test",
        HOLDFAST_INSECURE="yes",
        DEBUG="1",
        LS_LOG="warning",
    )
    assert settings == Settings(
        volume=tmp_path,
        persistence=False,
        save_strategy=SaveStrategy.ON_REQUEST,
        load_strategy=LoadStrategy.MANUAL,
        flush_interval_s=0.5,
        journal=False,
        journal_sync=SyncMode.INTERVAL,
        journal_retention=Retention(7200, 512 << 20),
        listen=(Address("0.0.0.0", 4567), Address("::1", 80)),
        services=("s3", "sqs"),
        eager_loading=True,
        account_id="123456789012",
        cors_origins=("https://a.example", "https://b.example"),
        disable_cors_checks=True,
        allowed_hosts=("localstack", "*.test"),
        insecure=True,
        debug=True,
        log_level=LogLevel.WARN,
    )


def test_shown_settings_read_back_as_themselves(tmp_path: Path) -> None:
    """What `holdfast settings` prints can be set again: showing is the inverse of reading, for every setting."""
    settings = load(
        tmp_path, JOURNAL="on", JOURNAL_RETENTION="90m", GATEWAY_LISTEN="[::]:1,:2", SERVICES="s3", LS_LOG="trace"
    )
    assert Settings.load(dict(settings.shown())) == settings


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("JOURNAL_SYNC", "sometimes", "always, interval, off"),
        ("SNAPSHOT_SAVE_STRATEGY", "HOURLY", "SCHEDULED, ON_REQUEST, ON_SHUTDOWN, MANUAL"),
        ("SNAPSHOT_FLUSH_INTERVAL", "0", "100ms to 1d"),
        ("SNAPSHOT_FLUSH_INTERVAL", "-1", "100ms to 1d"),
        ("SNAPSHOT_FLUSH_INTERVAL", "inf", "100ms to 1d"),
        ("JOURNAL_RETENTION", "1h,2h", "an age, a size"),
        ("JOURNAL_RETENTION", ",", "an age, a size"),
        ("PERSISTENCE", "perhaps", "1 or 0"),
        ("GATEWAY_LISTEN", "localhost:65536", "HOST:PORT"),
        ("GATEWAY_LISTEN", "::1", "HOST:PORT"),
        ("GATEWAY_LISTEN", "http://localhost:1", "HOST:PORT"),
        ("MOTO_ACCOUNT_ID", "1234", "twelve digits"),
        ("LS_LOG", "loud", "trace, debug, info, warn, error"),
    ],
)
def test_a_value_that_is_not_allowed_names_key_value_and_what_is(
    tmp_path: Path, name: str, value: str, allowed: str
) -> None:
    """A configuration error says which key, which value, from where, and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **{name: value})
    for part in (name, value, "the environment", allowed):
        assert part in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_command_line_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    """Precedence: command line, environment, file, default; an empty variable counts as not set."""
    file = tmp_path / "settings.toml"
    file.write_text(
        'journal_sync = "off"\nSNAPSHOT_FLUSH_INTERVAL = 30\nservices = ["s3", "sqs"]\npersistence = true\n'
    )
    env = {"JOURNAL_SYNC": "interval", "SNAPSHOT_FLUSH_INTERVAL": "20", "SERVICES": "", "HOME": str(tmp_path)}
    settings = Settings.load(env, file, {"JOURNAL_SYNC": "always"})
    assert settings.journal_sync is SyncMode.ALWAYS
    assert settings.flush_interval_s == 20
    assert settings.services == ("s3", "sqs")
    assert settings.load_strategy is LoadStrategy.ON_REQUEST
    assert settings.config_file == file


def test_the_volumes_own_file_is_read_unless_another_is_named(tmp_path: Path) -> None:
    """`holdfast.toml` in the volume holds its settings; `--config` names another in its place."""
    (tmp_path / "holdfast.toml").write_text("journal_sync = 'off'\n")
    other = tmp_path / "other.toml"
    other.write_text("debug = true\n")
    assert load(tmp_path).journal_sync is SyncMode.OFF
    named = Settings.load({"LOCALSTACK_VOLUME_DIR": str(tmp_path)}, other)
    assert named.journal_sync is SyncMode.ALWAYS
    assert named.debug


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("journal_sink = 'off'", "journal_sink"),
        ("journal_sync = ", "is not TOML"),
        ("journal_sync = {a = 1}", "a string, a number"),
        ("data_dir = '/elsewhere'", "cannot say where the volume is"),
        ("# " + "x" * 70000, "larger than"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_its_reason(tmp_path: Path, text: str, reason: str) -> None:
    """A key nobody knows, a syntax error, a wrong type: an error that names the file, never a setting ignored."""
    (tmp_path / "holdfast.toml").write_text(text)
    with pytest.raises(ConfigError, match=reason) as caught:
        load(tmp_path)
    assert "holdfast.toml" in str(caught.value)


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """`--config` with a file that is not there does not start with defaults."""
    with pytest.raises(ConfigError, match="cannot be read"):
        Settings.load({}, tmp_path / "absent.toml")


def test_the_volume_is_taken_in_the_contracts_order(tmp_path: Path) -> None:
    """`--volume`, then LOCALSTACK_VOLUME_DIR, then DATA_DIR, then the XDG state folder."""
    env = {"LOCALSTACK_VOLUME_DIR": "/b", "DATA_DIR": "/c", "XDG_STATE_HOME": "/d"}
    assert Settings.load(env, None, {"LOCALSTACK_VOLUME_DIR": "/a"}).volume == Path("/a")
    assert Settings.load(env).volume == Path("/b")
    del env["LOCALSTACK_VOLUME_DIR"]
    assert Settings.load(env).volume == Path("/c")
    assert default_volume({"XDG_STATE_HOME": "/d"}) == Path("/d/holdfast")
    assert default_volume({"XDG_STATE_HOME": "relative", "HOME": "/h"}) == Path("/h/.local/state/holdfast")


def test_variables_without_effect_are_named_and_silent_ones_are_not(tmp_path: Path) -> None:
    """Whoever sets a variable of LocalStack's that does nothing here hears of it; tokens and others' variables do not count."""
    settings = load(
        tmp_path,
        LAMBDA_EXECUTOR="docker",
        SNAPSHOT_FLUSH_INTERVALL="3",
        LOCALSTACK_AUTH_TOKEN="t",
        LOCALSTACK_API_KEY="k",
        HOST_TMP_FOLDER="/tmp",
        JOURNAL_STREAM="8:1",
        HOLDFAST_ENDPOINT="http://localhost:1",
        PATH="/bin",
    )
    assert settings.unknown == ("LAMBDA_EXECUTOR", "SNAPSHOT_FLUSH_INTERVALL")


@pytest.mark.parametrize(
    ("env", "on"),
    [
        ({}, True),
        ({"SNAPSHOT_SAVE_STRATEGY": "ON_REQUEST"}, True),
        ({"SNAPSHOT_SAVE_STRATEGY": "ON_SHUTDOWN"}, False),
        ({"SNAPSHOT_SAVE_STRATEGY": "MANUAL"}, False),
        ({"SNAPSHOT_SAVE_STRATEGY": "MANUAL", "JOURNAL": "on"}, True),
        ({"JOURNAL": "off"}, False),
        ({"PERSISTENCE": "0", "JOURNAL": "on"}, False),
    ],
)
def test_the_journal_follows_the_strategy_unless_it_is_told(tmp_path: Path, env: dict[str, str], on: bool) -> None:
    """DESIGN section 7: on for SCHEDULED and ON_REQUEST, off for the others, JOURNAL overrides, memory only has none."""
    settings = load(tmp_path, **env)
    assert settings.journal_on is on
    assert ("nothing acknowledged" in settings.loss_bound or "anything acknowledged" in settings.loss_bound) is on
