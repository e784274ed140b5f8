"""Build hook: let an editable install see `daemon/`, `journal/`, `snapshot/` as `holdfast.daemon` and so on.

A wheel maps the folders by `sources` in pyproject.toml; an editable install cannot, so links are made under `build/dev/holdfast`.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = ("daemon", "journal", "snapshot")


class LinkPackages(BuildHookInterface[Any]):
    """Make the links that `dev-mode-dirs` points at, before an editable wheel is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            return
        home = Path(self.root, "build", "dev", "holdfast")
        home.mkdir(parents=True, exist_ok=True)
        for name in PACKAGES:
            link = home / name
            if not link.is_symlink():
                link.symlink_to(Path("..", "..", "..", name), target_is_directory=True)
