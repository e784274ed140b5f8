"""The data files that are generated from moto are those of the moto that is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from holdfast.daemon.services.moto import allowlist, backends, reducers

pytestmark = pytest.mark.timeout(300)

GENERATE = """
import enum, json, operator
from holdfast.daemon.services.moto import allowlist, backends
listed = allowlist.generate()
modules = {module.__name__: module for module in allowlist.state_modules()}
called = [(module, name) for module, uses in listed.items() if module in modules for name in uses.get("call", ())]
found = [factory for module in modules.values() for factory in allowlist.factories(module)]
print(json.dumps({
    "inventory": backends.render(backends.scan()),
    "allow": allowlist.render(listed),
    "no enums": [pair for pair in called if not issubclass(operator.attrgetter(pair[1])(modules[pair[0]]), enum.Enum)],
    "factories": [(module, name) for kind, module, name in found if kind == "named"],
}))
"""


@pytest.fixture(scope="module")
def generated() -> dict[str, Any]:
    """What the generators write, in a process of its own: they import all of moto."""
    done = subprocess.run([sys.executable, "-c", GENERATE], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_inventory_is_complete(generated: dict[str, Any]) -> None:
    """Every BackendDict of the installed moto is listed, with its class."""
    assert generated["inventory"] == backends.DATA.read_text()


def test_the_allow_list_is_what_its_generator_writes(generated: dict[str, Any]) -> None:
    """No class was added to the list by hand, none of moto's is missing."""
    assert generated["allow"] == allowlist.DATA.read_text()


def test_the_allow_list_reaches_no_function_of_moto(generated: dict[str, Any]) -> None:
    """Of moto's there are classes to be filled, enumerations to be looked up, and code that is only held."""
    listed = json.loads(allowlist.DATA.read_text())
    uses = {use for module, uses in listed.items() if module.startswith("moto.") for use in uses}
    assert uses == {"new", "call", "code"}
    assert generated["no enums"] == []


def test_factories_of_default_dicts_are_known(generated: dict[str, Any]) -> None:
    """Everything that moto gives to a `defaultdict` is a lambda on the list or one of reducers.FACTORIES."""
    assert {(module, name) for module, name in generated["factories"]} == reducers.FACTORIES
