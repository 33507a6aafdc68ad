"""`python -m benchmarks`: lists the benchmarks; with names, or `--all`, runs them.

`--all` runs each in a process of its own, and leaves out those whose needs are not met: a module's NEEDS, names of
environment variables (in capitals) or of programs.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Benchmark:
    summary: str
    needs: tuple[str, ...]

    def missing(self) -> list[str]:
        return [
            need for need in self.needs if not (os.environ.get(need) if need.isupper() else shutil.which(need))
        ]


def benchmarks() -> dict[str, Benchmark]:
    """Every module that defines `main`, peers aside: the first line of its docstring, and what it needs."""
    found = {}
    for path in sorted(HERE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        has_main = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
        if has_main and path.name != "__main__.py" and path.parent.name != "peers":
            name = ".".join(path.relative_to(HERE).with_suffix("").parts)
            found[name] = Benchmark((ast.get_docstring(tree) or "").partition("\n")[0], _needs(tree))
    return found


def _needs(tree: ast.Module) -> tuple[str, ...]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "NEEDS" for t in node.targets):
            return tuple(ast.literal_eval(node.value))
    return ()


def run_all(known: dict[str, Benchmark]) -> int:
    failed, left_out = [], {}
    for name, benchmark in known.items():
        if missing := benchmark.missing():
            left_out[name] = missing
        elif subprocess.run([sys.executable, "-m", "benchmarks", name]).returncode:
            failed.append(name)
    for name, missing in left_out.items():
        print(f"left out: {name} needs {', '.join(missing)}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="the benchmarks to run; none: list them")
    parser.add_argument("--all", action="store_true", help="run every benchmark whose needs are met")
    options = parser.parse_args()
    known = benchmarks()
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(known) or 'none'}")
    if options.all:
        return run_all(known)
    for name in options.names:
        print(f"== {name}: {known[name].summary}", flush=True)
        sys.argv = [name]
        importlib.import_module(f"benchmarks.{name}").main()
    if not options.names:
        for name, benchmark in known.items():
            needs = f" (needs {', '.join(benchmark.needs)})" if benchmark.needs else ""
            print(f"{name:32} {benchmark.summary}{needs}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
