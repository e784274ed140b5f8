"""Determinism: the same clock, seed and tape give the same everything; what is not a command stays unpredictable.

Patching a process is for life, so each test runs its script in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Any

PREAMBLE = """
import json, os, random, secrets, sys, threading, time, uuid
import datetime as dt
from holdfast.daemon.services.determinism import Determinism, wall_now_us
controls = Determinism(created_us=1_700_000_000_000_000)
controls.install()
"""


def run(script: str, **env: str) -> Any:
    """The JSON that `script` prints, run after the controls were installed."""
    code = PREAMBLE + textwrap.dedent(script)
    settings = {**os.environ, "PYTHONHASHSEED": "0", "TZ": "UTC", **env}
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


DRAW = """
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from holdfast.daemon.services.keys import key_to_der

import moto.core, moto.moto_api._internal as internal

def draw():
    keys = [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()]
    return [
        time.time_ns(), str(dt.datetime.now()), os.urandom(8).hex(), str(uuid.uuid4()), str(uuid.uuid1(1, 2)),
        secrets.token_hex(8),
        random.random(), internal.mock_random.get_random_hex(8), [key_to_der(key).hex() for key in keys],
    ]
"""


def test_same_controls_give_the_same_draws() -> None:
    """Clock, every source of chance and every key come out the same when a command runs again."""
    first, again, other = run(
        DRAW
        + """
with controls.command(1_700_000_001_000_000, 7) as tape:
    first = draw()
for _ in range(3):
    random.random(); os.urandom(3)
with controls.command(1_700_000_001_000_000, 7, tape.recorded):
    again = draw()
with controls.command(1_700_000_001_000_001, 8):
    other = draw()
print(json.dumps([first, again, other]))
"""
    )
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))
    assert first[0] == 1_700_000_001_000_000_000


def test_outside_a_command_chance_is_the_kernels() -> None:
    """Tokens and nonces of the daemon itself are unpredictable, on other threads even while a command runs."""
    inside, outside, thread = run(
        """
def other(): found.append(os.urandom(16).hex())
found = []
with controls.command(1_700_000_001_000_000, 7):
    inside = os.urandom(16).hex()
    t = threading.Thread(target=other); t.start(); t.join()
print(json.dumps([inside, os.urandom(16).hex(), found[0]]))
"""
    )
    again = run(
        """
def other(): found.append(os.urandom(16).hex())
found = []
with controls.command(1_700_000_001_000_000, 7):
    inside = os.urandom(16).hex()
    t = threading.Thread(target=other); t.start(); t.join()
print(json.dumps([inside, os.urandom(16).hex(), found[0]]))
"""
    )
    assert inside == again[0]
    assert len({inside, outside, thread, *again}) == 5


def test_first_touch_spends_nothing_of_the_command() -> None:
    """Whether a command is the first to touch something changes nothing that it draws, and the touch is always the same."""
    plain, touching, first, second = run(
        """
import moto.moto_api._internal as internal
def draw(): return [random.random(), os.urandom(4).hex(), internal.mock_random.random(), time.time()]
def touch():
    with controls.aside("sqs", "000000000000", "us-east-1"):
        return draw()
with controls.command(1_700_000_001_000_000, 7):
    plain = [draw(), draw()]
with controls.command(1_700_000_001_000_000, 7):
    touching = [draw()]; first = touch(); touching.append(draw())
with controls.command(1_700_000_009_000_000, 9):
    second = touch()
print(json.dumps([plain, touching, first, second]))
"""
    )
    assert plain == touching
    assert first == second
    assert first[3] == 1_700_000_000.0


def test_importing_a_module_spends_nothing_of_the_command() -> None:
    """textract draws identifiers when it is imported: the command that happens to import it draws what it would have drawn."""
    script = """
import moto.core, moto.moto_api._internal as internal
with controls.command(1_700_000_001_000_000, 7):
    {first}
    drawn = [internal.mock_random.random(), os.urandom(4).hex()]
import moto.textract.models as textract
print(json.dumps(drawn))
"""
    assert run(script.format(first="import moto.textract.models")) == run(script.format(first="pass"))


def test_clock_is_frozen_strictly_later_and_only_inside() -> None:
    """A command's clock stands still, is later than the last one's even if the wall's is not, and ends with the command."""
    stood, later, wall, real = run(
        """
with controls.command(controls.next_clock_us(), 1):
    a = time.time_ns(); threading.Event().wait(0.02); stood = time.time_ns() == a
controls.last_clock_us = wall_now_us() + 3_600_000_000
later = controls.next_clock_us() - controls.last_clock_us
with controls.command(controls.next_clock_us(), 1):
    wall = wall_now_us()
print(json.dumps([stood, later, abs(wall - time.time() * 1e6) < 1e6, abs(time.time() * 1e6 - wall_now_us()) < 1e6]))
"""
    )
    assert (stood, later, wall, real) == (True, 1, True, True)


def test_sleep_inside_a_command_does_not_wait() -> None:
    """Waiting is the gateway's: moto's sleeps take no time inside a command, everybody else's do."""
    inside, outside = run(
        """
began = time.monotonic()
with controls.command(controls.next_clock_us(), 1):
    time.sleep(5)
inside = time.monotonic() - began
began = time.monotonic(); time.sleep(0.05); outside = time.monotonic() - began
print(json.dumps([inside, outside]))
"""
    )
    assert inside < 1 <= 20 * outside


def test_replay_that_wants_more_keys_than_recorded_fails() -> None:
    """A tape that ends early is an error, never a fresh key that nobody has seen."""
    raised = run(
        """
from cryptography.hazmat.primitives.asymmetric import ec
try:
    with controls.command(1_700_000_001_000_000, 7, ()):
        ec.generate_private_key(ec.SECP256R1())
except Exception as error:
    print(json.dumps([type(error).__name__, controls._inside()]))
"""
    )
    assert raised == ["TapeEnded", False]
