"""How the code is written: few functions, comments, one name a class, examples in docstrings that run."""

import ast
import io
import re
import shutil
import textwrap
import tokenize
from collections import defaultdict
from pathlib import Path

import pytest

from tests.serve.conftest import running

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("dyneval", "Qwen3-VL", "benchmarks", "pipeline")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
MOST = 40
"""Functions in 1,000 lines of a package: more of them, and a reader leafs through helpers instead of reading."""
OFTEN_CALLED = {"dyneval": 51, "dyneval/demo": 43, "dyneval/files": 50, "dyneval/generation": 45, "dyneval/llm": 49}
OFTEN_CALLED |= {"dyneval/scorer": 48, "dyneval/serve": 50, "dyneval/work": 54}
"""Packages whose public functions, protocol methods and overrides alone come close to 40. The bounds only shrink."""
NOT_REASONS = re.compile(r"#\s*(!|noqa|type:|ruff:|fmt:|pragma)")


def package(path):
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[: 2 if parts[0] == "dyneval" and len(parts) > 2 else 1])


def trees(path):
    return ast.walk(ast.parse(path.read_text()))


PACKAGES = defaultdict(list)
for path in FILES:
    PACKAGES[package(path)].append(path)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_has_few_functions_and_says_why(name):
    texts = [path.read_text() for path in PACKAGES[name]]
    lines = sum(text.count("\n") for text in texts)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = sum(isinstance(node, kinds) for path in PACKAGES[name] for node in trees(path))
    tokens = (token for text in texts for token in tokenize.generate_tokens(io.StringIO(text).readline))
    comments = sum(token.type == tokenize.COMMENT and not NOT_REASONS.match(token.string) for token in tokens)
    most = OFTEN_CALLED.get(name, MOST)
    assert functions <= most / 1000 * lines, f"{functions} functions in {lines} lines: at most {most} in 1,000"
    assert comments >= 0.03 * lines, f"{comments} lines of comments in {lines}: at least 3 %"


def test_no_two_packages_have_a_class_of_one_name():
    places = defaultdict(set)
    for path in FILES:
        for node in trees(path):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(package(path))
    assert not {name: sorted(found) for name, found in places.items() if len(found) > 1}


def examples():
    """Each indented block of a module's docstring that is Python, with the name of the module."""
    for path in FILES:
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        for block in re.findall(r"(?:^ {4}.*\n?(?:\n(?= {4}))?)+", docstring, re.MULTILINE):
            text = textwrap.dedent(block)
            try:
                ast.parse(text)
            except SyntaxError:
                continue  # a command, or the form of a file
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield pytest.param(module, text, id=module)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of `dyneval serve` with the demo's judge."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with running(log, "--checkpoint", "demo", "--device", "cpu") as (address, _):
        yield address


@pytest.mark.parametrize(("module", "text"), examples())
def test_an_example_of_a_docstring_runs(module, text, server, tmp_path, monkeypatch):
    """In a folder with a picture, with a running server where it names one."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "assets" / "cubes.png", "cat.png")
    exec(compile(text.replace("http://127.0.0.1:8000", server), module, "exec"), {"__name__": "example"})
