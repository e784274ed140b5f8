"""What users install: one import package, `holdfast`, with all of its files and nothing beside it."""

from __future__ import annotations

import configparser
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import holdfast.journal

ROOT = Path(__file__).parents[1]
PACKAGES = ("daemon", "journal", "snapshot")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build backend in a folder of its own, so that it becomes no requirement of the tests."""
    target = tmp_path_factory.mktemp("backend")
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        "install",
        "--target",
        str(target),
        *wanted,
    ]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"the build backend cannot be had here: {done.stderr.strip().splitlines()[-1:]}")
    return target


@pytest.fixture(scope="session")
def built(backend: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built from this tree."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(backend)},
        capture_output=True,
        check=True,
    )
    return out


def source_files(*folders: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_three_packages_and_nothing_else(built: Path) -> None:
    """Installed beside python-daemon, ours must not put a top-level `daemon` into site-packages; data files come along."""
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"holdfast-{PROJECT['version']}.dist-info"
        scripts = configparser.ConfigParser()
        scripts.read_string(archive.read(f"{info}/entry_points.txt").decode())
    packaged = {name for name in names if not name.startswith(f"{info}/")}
    assert packaged == {f"holdfast/{name}" for name in source_files(*PACKAGES)}
    assert {f"holdfast/{package}/py.typed" for package in PACKAGES} <= packaged
    assert f"{info}/licenses/LICENSE" in names
    assert dict(scripts["console_scripts"]) == {"holdfast": "holdfast.daemon.cli:main"}


def test_the_sdist_holds_what_building_and_testing_need(built: Path) -> None:
    """From the sdist alone the wheel can be built and the tests run; an empty one is built without an error (PACKAGING)."""
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = source_files(*PACKAGES, "tests", "systemd", "docs") | {
        "pyproject.toml",
        "hatch_build.py",
        "constraints.txt",
        "Makefile",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
    }
    assert wanted - names == set()
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "volume", "build"))]


def test_an_editable_install_sees_the_three_folders(backend: Path, tmp_path: Path) -> None:
    """`pip install -e .` makes links, so that what is edited is what is imported."""
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    code = "from hatchling.build import build_editable; print(build_editable('.'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(backend)},
        capture_output=True,
        text=True,
        check=True,
    )
    for name in PACKAGES:
        assert (tmp_path / "build" / "dev" / "holdfast" / name).resolve() == (tmp_path / name).resolve()
    wheel = zipfile.ZipFile(io.BytesIO((tmp_path / done.stdout.strip().splitlines()[-1]).read_bytes()))
    paths = [wheel.read(name).decode().strip() for name in wheel.namelist() if name.endswith(".pth")]
    assert [Path(path).resolve() for path in paths] == [(tmp_path / "build" / "dev").resolve()]


def test_the_tests_run_against_this_tree() -> None:
    """Tests that import an installed copy would pass whatever is edited here."""
    assert Path(holdfast.journal.__path__[0]).resolve() == ROOT / "journal"


def test_every_dependency_is_pinned() -> None:
    """Two installs a year apart are the same: constraints.txt names a version for each requirement."""
    pinned = {
        line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()
    }
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    wanted = [*PROJECT["dependencies"], *groups["test"], *groups["lint"]]
    names = {requirement.partition("[")[0].partition(">")[0].strip().lower() for requirement in wanted}
    assert names - pinned == set()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("lacks", "sentence"),
    [
        ("version_info", "holdfast needs Python 3.11 or newer; say which with: make PYTHON=/path/to/python3.11 run"),
        (
            "ensurepip",
            "holdfast needs Python's venv module: install the package python3-venv (Debian, Ubuntu) and run make again",
        ),
    ],
)
def test_a_machine_that_lacks_something_is_told_in_a_sentence(tmp_path: Path, lacks: str, sentence: str) -> None:
    """Too old a Python, or Debian's without venv: what is missing and what to do, and nothing half made."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt", "hatch_build.py"):
        (tmp_path / name).touch()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$2" in *{lacks}*) exit 1;; esac\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "--no-print-directory", f"PYTHON={python}", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout.splitlines()[0] == sentence
    assert not (tmp_path / ".venv").exists()
