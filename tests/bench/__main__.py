"""All benchmarks, or those named: `python -m tests.bench [NAME ...]`.

Each is a file `bench_<name>.py` with a `main()` that prints ratios against a named peer, medians of several runs in one go. A
machine's noise moves both sides, so only ratios are worth quoting.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Run the benchmarks that were asked for."""
    sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
    found = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.rglob("bench_*.py"))}
    wanted = sys.argv[1:] or list(found)
    unknown = [name for name in wanted if name not in found]
    if unknown:
        sys.exit(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(found)}")
    for name in wanted:
        print(f"== {name}", flush=True)
        _load(found[name]).main()


main()
