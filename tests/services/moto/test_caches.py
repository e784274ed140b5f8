"""Caches of moto that hold state: what moto keeps by process is kept by resource, and the mend is still needed."""

from __future__ import annotations

import subprocess
import sys
import textwrap

PREAMBLE = """
import importlib
from holdfast.daemon.services.moto.caches import MENDS
import moto.sns.models as models
"""


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREAMBLE + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_signing_key_is_part_of_its_subscription() -> None:
    """The key with which a subscription signs is one of its attributes, so that it is saved and restored with it."""
    assert (
        run(
            """
MENDS["moto.sns.models"](models)
subscription = object.__new__(models.Subscription)
key = subscription.private_key()
print(key is subscription.private_key(), key in vars(subscription).values())
"""
        )
        == "True True"
    )


def test_moto_still_caches_the_key_by_process() -> None:
    """moto 5.2.5 keeps it in an lru_cache: when it no longer does, the mend can go."""
    assert run("print(hasattr(models.Subscription.private_key, 'cache_info'))") == "True"
