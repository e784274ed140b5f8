"""The data files that are generated from moto are those of the moto that is installed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from holdfast.daemon.services.moto import allowlist, backends

pytestmark = pytest.mark.timeout(300)  # each imports all of moto


def generated(module: str) -> str:
    """What a generator writes, in a process of its own: it imports all of moto."""
    command = [sys.executable, "-m", f"holdfast.daemon.services.moto.{module}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_inventory_is_complete() -> None:
    """Every BackendDict of the installed moto is listed, with its class."""
    assert generated("backends") == backends.DATA.read_text()


def test_the_allow_list_is_what_its_generator_writes() -> None:
    """No class was added to the list by hand, none of moto's is missing."""
    assert generated("allowlist") == allowlist.DATA.read_text()


def test_the_allow_list_reaches_no_function_of_moto() -> None:
    """Only functions of ours can be called; of moto's there are classes to be filled, and code that is only held."""
    listed = json.loads(allowlist.DATA.read_text())
    assert {use for module, uses in listed.items() if module.startswith("moto.") for use in uses} <= {
        "new",
        "call",
        "code",
    }
    checks = [
        f"import {module}\nassert issubclass({module}.{name}, enum.Enum), '{module}.{name}'"
        for module, uses in listed.items()
        if module.startswith("moto.")
        for name in uses.get("call", [])
    ]
    subprocess.run([sys.executable, "-c", "import enum\n" + "\n".join(checks)], check=True)


def test_factories_of_default_dicts_are_known() -> None:
    """Everything that moto gives to a `defaultdict` is a lambda on the list or one of reducers.FACTORIES."""
    script = """
from holdfast.daemon.services.moto import allowlist, reducers
named = {(m, n) for module in allowlist.state_modules() for kind, m, n in allowlist.factories(module) if kind == "named"}
assert named == reducers.FACTORIES, named ^ reducers.FACTORIES
"""
    subprocess.run([sys.executable, "-c", script], check=True)
