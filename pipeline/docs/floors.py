"""Draws the import contract of pyproject.toml: its layers ("floors") as an SVG picture, and as a table.

    $ python pipeline/docs/floors.py > floors.svg
    $ python pipeline/docs/floors.py --write        # the table in ARCHITECTURE.md

`lint-imports` checks the code against the contract, and both forms are made from it, so that neither can be out of
date; a test compares the table with the contract.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Pixels: of the picture, of the box of training on the right, of a floor, between boxes, and around everything.
WIDTH, SIDE, HEIGHT, GAP, PAD = 860, 150, 38, 8, 10


def contract() -> tuple[list[list[str]], set[str]]:
    """Read the import contract.

    Returns:
        The floors from the top down, each with its modules, and the modules that `qwenvl` may not import.
    """
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    barred = next(one["forbidden_modules"] for one in contracts if one.get("source_modules") == ["qwenvl"])
    floors = [[name.strip() for name in floor.split("|")] for floor in layers]
    return floors, {name.removeprefix("dyneval.") for name in barred}


def purpose(module: str) -> str:
    """Return the first paragraph of the docstring of a module of `dyneval`, or of a package."""
    path = ROOT / "dyneval" / module
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(source.read_text())) or ""
    return " ".join(text.partition("\n\n")[0].split())


def svg() -> str:
    """Return the picture; it takes its colours from the page that it stands in."""
    floors, barred = contract()
    y, shapes = PAD, []
    # Training begins beside the highest floor from which it may import.
    first = next(number for number, floor in enumerate(floors) if set(floor) - barred - {"__main__"})
    for floor in floors:
        width = (WIDTH - SIDE - 3 * PAD - GAP * (len(floor) - 1)) / len(floor)
        for number, name in enumerate(floor):
            kind = "barred" if name in {*barred, "__main__"} else "box"
            shapes.append(_box(PAD + number * (width + GAP), y, width, HEIGHT, name, purpose(name), kind))
        y += HEIGHT + GAP
    top = PAD + first * (HEIGHT + GAP)
    left = WIDTH - SIDE - PAD
    about = "Training (Step 4): it may import what has the same frame as it, and nothing else of dyneval"
    shapes.append(_box(left, top, SIDE, y - GAP - top, "qwenvl (training)", about, "box training"))
    style = (
        ".floors text{font:13px system-ui,sans-serif;fill:var(--md-default-fg-color,#24292f);text-anchor:middle}"
        ".floors rect{fill:none;stroke:#0d7a7a;stroke-width:1.5;rx:5}.floors .barred rect{stroke:#8a8f98}"
        ".floors .training rect{stroke-dasharray:5 4}"
    )
    label = "Floors of the package: a module imports only from the floors below its own"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" class="floors" role="img" '
        f'aria-label="{label}">'
        f"<style>{style}</style>" + "".join(shapes) + "</svg>\n"
    )


def _box(x: float, y: float, width: float, height: float, name: str, about: str, kind: str) -> str:
    fitting = int(width / 7.4)  # characters: about 7.4 pixels each in the 13 px font
    shown = name if len(name) <= fitting else name[: fitting - 1] + "…"
    return (
        f'<g class="{kind}"><title>{escape(f"{name}: {about}")}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        f'<text x="{x + width / 2:.1f}" y="{y + height / 2 + 4.5:.1f}">{escape(shown)}</text></g>'
    )


def table() -> str:
    """Return the floors as a Markdown table, with the purpose of each module from its docstring."""
    rows = [
        f"| {number} | `{name}` | {purpose(name).replace('|', chr(92) + '|')} |"
        for number, floor in enumerate(contract()[0], 1)
        for name in floor
    ]
    return "| floor | module | purpose |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def write(path: Path, name: str, text: str) -> None:
    """Replace what stands between the marks `name` in a page by `text`. Raises ValueError where a mark is missing."""
    mark, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, opened, rest = path.read_text().partition(mark)
    _, closed, tail = rest.partition(end)
    if not (opened and closed):
        raise ValueError(f"{path}: expected {mark.strip()} and {end}")
    path.write_text(f"{head}{mark}\n{text.strip()}\n\n{end}{tail}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write(ROOT / "ARCHITECTURE.md", "floors", table())
    else:
        sys.stdout.write(svg())
