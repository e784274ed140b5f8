"""What must stay true of the source as a whole: who imports whom, who touches the disk, what never stands in a file."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("daemon", "journal", "snapshot")
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Imports run one way: daemon -> snapshot -> journal (DESIGN section 3).
MAY_IMPORT = {"journal": {"journal"}, "snapshot": {"journal", "snapshot"}, "daemon": set(PACKAGES)}

# journal/ and snapshot/ know nothing of AWS, HTTP or moto: users embed them for services of their own.
FOREIGN = {"moto", "boto3", "botocore", "uvicorn", "httptools", "http", "urllib", "click", "rich", "watchfiles"}

# The one door to the file system, and its fakes.
DISK = {Path("journal/disk.py"), Path("journal/fakes.py")}
WRITES = {
    "os": frozenset(
        {
            "chmod",
            "chown",
            "copy_file_range",
            "fdatasync",
            "fsync",
            "ftruncate",
            "link",
            "makedirs",
            "mkdir",
            "mkfifo",
            "open",
        }
        | {
            "posix_fallocate",
            "pwrite",
            "pwritev",
            "remove",
            "removedirs",
            "rename",
            "renames",
            "replace",
            "rmdir",
            "sendfile",
        }
        | {"symlink", "truncate", "unlink"}
    ),
    "shutil": frozenset({"copy", "copy2", "copyfile", "copyfileobj", "copytree", "move", "rmtree"}),
    "tempfile": frozenset({"NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile", "mkdtemp", "mkstemp"}),
}
ALLOWED = {
    Path("snapshot/fork.py"): {"os.open"},  # of the null device: the child's standard streams
    Path("snapshot/views.py"): {"os.chmod"},  # a view is for people to look at and is never read back
}
PATH_METHODS = {"hardlink_to", "symlink_to", "touch", "write_bytes", "write_text"}

TEXTS = (
    ".cfg",
    ".json",
    ".md",
    ".mk",
    ".py",
    ".service",
    ".sh",
    ".socket",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
    "Makefile",
    "run",
)


def tree_of(module: Path) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"), filename=str(module))


def imports_of(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Full names of all that a module imports, inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides where it goes"
            if node.module == "holdfast":
                for alias in node.names:
                    yield f"holdfast.{alias.name}", node.lineno
            else:
                yield node.module or "", node.lineno


def crossings(package: str, tree: ast.Module) -> list[str]:
    """Imports that `package` must not make."""
    found = []
    for name, line in imports_of(tree):
        top, _, rest = name.partition(".")
        if top == "holdfast" and rest.partition(".")[0] not in MAY_IMPORT[package]:
            found.append(f"line {line} imports {name}")
        if package != "daemon" and top in FOREIGN:
            found.append(f"line {line} imports {name}")
        if top in PACKAGES:
            found.append(f"line {line} imports {name}: that is another distribution's; ours is holdfast.{name}")
    return found


def only_reads(call: ast.Call) -> bool:
    """True when the mode of an `open` is in the source and is one of reading, as for files of /proc."""
    modes = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return bool(call.args) and all(
        isinstance(mode, ast.Constant) and isinstance(mode.value, str) and not set(mode.value) & set("wax+")
        for mode in modes
    )


def writes_of(tree: ast.Module) -> list[tuple[int, str]]:
    """Calls that could write to the file system, each with its line."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id == "open" and not only_reads(node):
            found.append((node.lineno, "open"))
        elif isinstance(function, ast.Attribute):
            owner = function.value.id if isinstance(function.value, ast.Name) else ""
            if function.attr in WRITES.get(owner, ()):
                found.append((node.lineno, f"{owner}.{function.attr}"))
            elif function.attr in PATH_METHODS:
                found.append((node.lineno, function.attr))
    return found


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_run_one_way(module: Path) -> None:
    """daemon -> snapshot -> journal, and never a top-level `daemon`, which is python-daemon's."""
    assert crossings(module.parts[0], tree_of(module)) == []


@pytest.mark.parametrize("module", [m for m in MODULES if m.parts[0] != "daemon" and m not in DISK], ids=str)
def test_only_the_disk_module_writes(module: Path) -> None:
    """All disk access of journal and snapshot goes through one object, or the crash tests would not see it."""
    calls = {call for _, call in writes_of(tree_of(module))}
    assert calls == ALLOWED.get(module, set())


def test_the_checks_above_can_fail() -> None:
    """A crossing import and a write behind the disk's back are found."""
    assert crossings("journal", ast.parse("def f():\n    from holdfast.daemon import bus\n"))
    assert crossings("snapshot", ast.parse("import moto.s3.models"))
    assert crossings("daemon", ast.parse("import daemon"))
    assert not crossings("daemon", ast.parse("from holdfast import journal"))
    assert writes_of(ast.parse("open('x', 'ab')"))
    assert writes_of(ast.parse("open('x', mode=mode)"))
    assert not writes_of(ast.parse("open('/proc/self/smaps', 'rb')"))
    assert writes_of(ast.parse("import os\nos.rename('a', 'b')"))
    assert writes_of(ast.parse("path.write_bytes(b'')"))


@pytest.mark.parametrize(
    "module", [m for m in MODULES if not m.name.startswith("_") or m.name == "__init__.py"], ids=str
)
def test_a_module_says_what_is_public(module: Path) -> None:
    """Explicit `__all__`, in which every name exists; a package's is its table of contents."""
    tree = tree_of(module)
    if not tree.body or all(isinstance(node, ast.Expr) for node in tree.body):
        return  # a docstring alone
    public = [node.value for node in tree.body if isinstance(node, ast.Assign) and assigns(node, "__all__")]
    assert len(public) == 1, "one __all__ a module"
    assert set(ast.literal_eval(public[0])) - set(names_of(tree)) == set()


def assigns(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


def names_of(tree: ast.Module) -> Iterator[str]:
    """Names that a module binds at its top level, under `if` and `try` too."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (name.id for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.If | ast.Try):
            waiting += [*node.body, *node.orelse]


def our_texts() -> Iterator[Path]:
    for top in ROOT.iterdir():
        if top.name in {*PACKAGES, "tests", "systemd", "docs", ".ci"}:
            yield from (path for path in top.rglob("*") if path.is_file() and path.name.endswith(TEXTS))
        elif top.is_file() and top.name.endswith(TEXTS):
            yield top


def test_no_file_names_one_machine_or_one_registry() -> None:
    """A home folder of somebody's, or the host of a package registry, belongs in nobody's clone."""
    home = re.compile(r"(?<![\w.])/(?:home/(?!user\b)\w+|Users/\w+|root)/")
    registry = re.compile(
        "|".join(("py" + r"pi\.org", "python" + r"hosted\.org", "registry" + r"\.npmjs", "conda" + r"\.anaconda"))
    )
    found = []
    for path in our_texts():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if home.search(line) or registry.search(line) or str(ROOT) + "/" in line:
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_tests_are_no_package() -> None:
    """pytest imports by path (PACKAGING): an __init__.py in tests would give modules a second identity."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_the_type_checker_really_checks(tmp_path: Path) -> None:
    """With this project's configuration and its links, a deliberate error is found: silence of mypy means something."""
    pytest.importorskip("mypy", reason="mypy is not installed; `make lint` installs it")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    links = tmp_path / "build" / "dev" / "holdfast"
    links.mkdir(parents=True)
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "__init__.py").write_text("")
    (tmp_path / "journal" / "canary.py").write_text("def sing() -> int:\n    return 'tweet'\n")
    (links / "journal").symlink_to(tmp_path / "journal")
    # Without site-packages, where this very project is installed and would be found first.
    mypy = [sys.executable, "-m", "mypy", "--no-incremental", "--no-site-packages"]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "canary.py:2: error" in done.stdout
