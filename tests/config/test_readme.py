"""The README says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from holdfast.daemon.config import settings_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_settings_table_is_the_codes() -> None:
    """The table in the README is the one that `holdfast settings --table` prints."""
    found = re.search(r"<!-- settings:.*?-->\n(.*?)\n<!-- /settings -->", README, re.DOTALL)
    assert found
    assert found[1] == settings_table()


def test_its_links_lead_somewhere() -> None:
    """Every link to a file of this repository names one that is there."""
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_its_commands_exist() -> None:
    """Every make target and every verb of `holdfast` that is named can be typed."""
    from holdfast.daemon.cli import VERBS

    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)|`make (\w+)`", README, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target
    for verb in re.findall(r"`holdfast (\w+)", README):
        assert verb in VERBS
