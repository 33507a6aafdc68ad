"""`python -m benchmarks`: lists the benchmarks; with names, or `--all`, runs them."""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent


def benchmarks() -> dict[str, str]:
    """Every module below this folder that defines `main`, and the first line of its docstring."""
    found = {}
    for path in sorted(HERE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        has_main = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
        if has_main and path.name != "__main__.py":
            name = ".".join(path.relative_to(HERE).with_suffix("").parts)
            found[name] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="the benchmarks to run; none: list them")
    parser.add_argument("--all", action="store_true", help="run every benchmark")
    options = parser.parse_args()
    known = benchmarks()
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(known) or 'none'}")
    chosen = list(known) if options.all else options.names
    for name in chosen:
        print(f"== {name}: {known[name]}", flush=True)
        sys.argv = [name]
        importlib.import_module(f"benchmarks.{name}").main()
    if not chosen:
        for name, summary in known.items():
            print(f"{name:32} {summary}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
