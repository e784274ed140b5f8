"""The committed corpus and fresh mutations of it: typed refusals or whole records, never anything else."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


def load() -> ModuleType:
    """The target, from its file: this folder is no package."""
    spec = importlib.util.spec_from_file_location("fuzz_journal", HERE / "fuzz_journal.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fuzz_journal = load()

EXPECTED = {
    "open": "opened",
    "sealed": "opened",
    "second": "opened",
    "empty-open": "opened",
    "empty-sealed": "opened",
    "torn": "torn",
    "lost-sector": "Corruption",
    "behind-checkpoint": "opened",
    "no-seal": "Corruption",
    "bytes-after-seal": "opened",
    "grown": "opened",
    "cut-short": "Corruption",
    "begins-anew": "opened",
    "next-version": "IncompatibleFormat",
    "garbage-records": "Corruption",
    "zeros": "Corruption",
    "nothing": "Corruption",
}


@pytest.mark.parametrize("path", sorted((HERE / "corpus").iterdir()), ids=lambda path: path.name)
def test_the_corpus_is_told_apart(path: Path) -> None:
    """Each input of the corpus is taken for what it is; one that a fuzzer found just has to be survived."""
    outcome = fuzz_journal.fuzz_one(path.read_bytes())
    assert outcome == EXPECTED.get(path.name, outcome)


def test_the_corpus_is_there() -> None:
    """Every situation that the reader tells apart has its input."""
    assert {path.name for path in (HERE / "corpus").iterdir()} >= set(EXPECTED)


def test_mutations_of_the_corpus_are_survived() -> None:
    """Some thousand fresh inputs, from a seed that is printed when one fails."""
    outcomes = fuzz_journal.fuzz(random.randrange(1 << 32), inputs=4000)
    assert set(outcomes) >= {"opened", "torn", "Corruption"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mutations_of_the_corpus_are_survived_for_minutes() -> None:
    """The same for five minutes."""
    fuzz_journal.fuzz(random.randrange(1 << 32), seconds=300)
