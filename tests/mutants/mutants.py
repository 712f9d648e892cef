"""Mutation testing: does a test fail when a line of the code says something else?

    nice -n 19 .venv/bin/python -m tests.mutants.mutants --every 4 --output mutants.jsonl [FILE...]

Each mutant is one change of a file of TARGETS: another comparison, operator, number or text, a condition turned round,
a result left out. The file's own tests are run on it in a forked process, which loads the changed code in place of the
file's; nothing is written to the file. A mutant that no test sees is a missing assertion, or changes nothing that
anybody can see (a message's wording, a speed). dev/LOG.md has the last counts.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {
    "dyneval/records.py": ["tests/test_records.py"],
    "dyneval/structs.py": ["tests/test_records.py"],
    "dyneval/replies.py": ["tests/test_replies.py"],
    "dyneval/tokens.py": ["tests/test_tokens.py"],
    **{
        f"dyneval/evaluation/{name}.py": ["tests/evaluation/test_statistics.py"]
        for name in ("bootstrap", "correlation", "pairwise", "significance")
    },
}
SECONDS = 60
"""CPU seconds of a mutant's tests; one that takes longer does not end, which is seen too."""
_OTHER: dict[type, Callable[[], Any]] = {
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr},
}


def changes(node: ast.AST) -> Iterator[Callable[[Any], None]]:
    """What may be changed at a node, each as a function that changes it."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _OTHER:
        yield lambda one: one.ops.__setitem__(0, _OTHER[type(one.ops[0])]())
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in _OTHER:
        yield lambda one: setattr(one, "op", _OTHER[type(one.op)]())
    elif isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            yield lambda one: setattr(one, "value", not one.value)
        elif isinstance(value, int | float):
            yield lambda one: setattr(one, "value", one.value + 1)
        elif isinstance(value, str) and value:
            yield lambda one: setattr(one, "value", "X" + one.value)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield lambda one: setattr(one, "test", ast.UnaryOp(ast.Not(), one.test))
    elif isinstance(node, ast.Return) and node.value and ast.unparse(node.value) != "None":
        yield lambda one: setattr(one, "value", ast.Constant(None))


def _spared(tree: ast.Module) -> set[int]:
    """Nodes that are left alone: documentation, annotations, and what only the garbage collector sees."""
    spared: set[int] = set()
    for node in ast.walk(tree):
        part: ast.AST | None = None
        match node:
            case ast.Expr(value=ast.Constant()) | ast.keyword(arg="gc"):
                part = node
            case ast.arg() | ast.AnnAssign():
                part = node.annotation
            case ast.FunctionDef():
                part = node.returns
        spared |= {id(one) for one in ast.walk(part)} if part else set()
    return spared


def mutants(source: str) -> Iterator[tuple[str, str, str]]:
    """Line and column, the changed line as Python writes it, and the whole changed file."""
    tree = ast.parse(source)
    spared, nodes = _spared(tree), list(ast.walk(tree))
    for number, node in enumerate(nodes):
        for change in changes(node) if id(node) not in spared else ():
            changed = copy.deepcopy(tree)
            one: Any = list(ast.walk(changed))[number]
            before, place = ast.unparse(one).splitlines()[0], f"{one.lineno}:{one.col_offset + 1}"
            change(one)
            yield place, f"{before} -> {ast.unparse(one).splitlines()[0]}", ast.unparse(changed)


def survives(path: Path, text: str, tests: list[str]) -> bool:
    """Whether the tests pass on the changed text."""
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        silent = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(silent, number)
        code = SourceFileLoader.get_code
        SourceFileLoader.get_code = lambda self, name: (  # type: ignore[method-assign]
            compile(text, self.path, "exec") if self.path == str(path) else code(self, name)
        )
        os._exit(pytest.main(["-xq", "-p", "no:cacheprovider", *tests]))
    _, status = os.waitpid(child, 0)
    return status == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=list(TARGETS), metavar="FILE", help="of TARGETS (default: all)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try one mutant of N")
    parser.add_argument("--output", type=Path, required=True, help="a row a mutant; killed ones are not tried again")
    options = parser.parse_args()
    os.chdir(ROOT)
    # Examples are the same for each mutant (Hypothesis keeps to them in CI), and no plugin is loaded again and again.
    os.environ |= {"CI": "true", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    lines = options.output.read_text().splitlines() if options.output.exists() else []
    rows = {(row["file"], row["place"], row["change"]): row for row in map(json.loads, lines)}
    for library in ("hypothesis", "jsonschema", "msgspec", "numpy", "scipy.stats"):
        importlib.import_module(library)  # once, not in each fork
    for file in options.files:
        path = ROOT / file
        if not survives(path, path.read_text(), TARGETS[file]):
            parser.error(f"{file}: its tests fail as it is")
        tried = list(mutants(path.read_text()))[:: options.every]
        for place, change, text in tried:
            key = (file, place, change)
            if key not in rows or rows[key]["survives"]:
                begun = time.monotonic()
                row = {"file": file, "place": place, "change": change, "survives": survives(path, text, TARGETS[file])}
                rows[key] = row | {"seconds": round(time.monotonic() - begun, 1)}
                with options.output.open("a") as output:
                    output.write(json.dumps(rows[key]) + "\n")
        alive = [f"  {place}: {change}" for place, change, _ in tried if rows[file, place, change]["survives"]]
        print(f"{file}: {len(tried) - len(alive)} of {len(tried)} killed", *alive, sep="\n", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
