"""Fixtures: moto behind the hooks, in this process, taken away again with what a test made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from holdfast.daemon.services.moto import backends


class Seen:
    """Records what the hooks call."""

    def __init__(self) -> None:
        self.touched: list[str] = []
        self.loaded: list[str] = []
        self.created: list[tuple[str, str, str]] = []
        self.fails = False

    def load(self, service: str) -> None:
        self.loaded.append(service)
        if self.fails:
            raise OSError("the image cannot be read")

    @contextmanager
    def creating(self, key: str, account: str, region: str) -> Iterator[None]:
        self.created.append((key, account, region))
        yield


@pytest.fixture
def seen() -> Iterator[Seen]:
    """The hooks installed, and taken away again with what the test made."""
    from moto.core.base_backend import BackendDict

    made = Seen()
    backends.install(made.touched.append, made.load, made.creating)
    yield made
    backends.uninstall()
    for holder in BackendDict._instances:
        holder.clear()  # not reset: a shell, which a test may leave, has nothing to reset
    BackendDict._instances.clear()
