"""The hook of mkdocs.yml. It adds pages made from code and pages kept elsewhere in the repository, and rewrites links.

A link in a page is relative to its file in the repository, so it works on a code host, too; a link to a generated page
names the source that the page is made from. In the site each link must lead to the page that shows that file, to a copy
of the picture, or to a copy of the source as text. A link that leads nowhere is a warning, which `mkdocs build
--strict` turns into an error.
"""

from __future__ import annotations

import logging
import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[2]
# mkdocs loads this file by its path, so neither the modules beside it nor the package are on the path yet.
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

import commands  # noqa: E402
import floors  # noqa: E402
import formats  # noqa: E402
import results  # noqa: E402

import dyneval  # noqa: E402

logger = logging.getLogger("mkdocs.plugins.hook")

ELSEWHERE = {
    "benchmarks/README.md": "results/benchmarks.md",
    "benchmarks/reliability.md": "results/reliability.md",
    "dyneval/demo/students/MODEL_CARD.md": "results/demo-judge.md",
    "image_gen_scripts/README.md": "steps/image-models.md",
    "image_gen_scripts/TRIED.md": "steps/tried.md",
    "Distill Annotations/README.md": "steps/teacher.md",
    "Qwen3-VL/qwen-vl-finetune/OPTIONS.md": "steps/training-options.md",
    "ARCHITECTURE.md": "maintainers/architecture.md",
    "CONTRIBUTING.md": "maintainers/contributing.md",
    "CHANGELOG.md": "maintainers/changelog.md",
    "dev/LOG.md": "maintainers/log.md",
}
"""Files of the repository and the pages that show them."""
SHOWN = {
    **ELSEWHERE,
    "README.md": "index.md",
    "dyneval/records.py": "reference/formats.md",
    "dyneval/evaluation/data/published_agreement.csv": "results/published.md",
    **{f"dyneval/cli/{verb}.py": f"reference/commands/{verb}.md" for verb in commands.VERBS},
}
"""Files of the repository that links may name, and the pages that show them or are made from them."""
PICTURES = (".png", ".svg", ".jpg", ".webp")
LINK = re.compile(
    r"(?P<code>^ *```.*?^ *```[^\S\n]*$|`[^`\n]+`)"
    r"|(?P<mark>!?)\[(?P<label>(?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|mailto:|#)(?P<target>[^)\s]+)\)",
    re.MULTILINE | re.DOTALL,
)
"""Matches a link, or code, in which nothing is a link; whichever begins first."""

ABOUT_PICTURE = (
    "Drawn from the contract. Training, on the right, may import what stands beside it in its colour, and nothing grey."
)

# The site's own way to make anchors of titles, so that links into a page find them.
slug: Callable[[str, str], str] = slugify(case="lower")


# mkdocs finds the next three functions by their names and calls them in this order.


def on_config(config: Any) -> Any:
    """Fill in the parts of the navigation that depend on what is there: pages of trainers and of verbs."""
    pages = Path(config.docs_dir).glob("rewards/*.md")
    rewards = [f"rewards/{path.name}" for path in sorted(pages, key=lambda path: (path.name != "README.md", path.name))]
    verbs = [f"reference/commands/{name}.md" for name in ("index", *commands.VERBS)]
    _fill(config.nav, {"REWARDS": rewards, "COMMANDS": verbs})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, and those that are kept elsewhere in the repository."""
    names = [name for name in dyneval.__all__ if not name.startswith("__")]
    # mkdocstrings reads the module in which a name is defined; `dyneval` itself only looks names up when asked.
    blocks = [f"::: {dyneval._MODULES[name]}.{name}" for name in names]
    api = (
        "# Python interface\n\n"
        f"`from dyneval import {', '.join(names)}`. Importing the package loads nothing heavy; torch comes with the "
        "first use of `Scorer`. All other modules may change without notice.\n\n" + "\n\n".join(blocks) + "\n"
    )
    made = {
        **dict(commands.pages()),
        "reference/formats.md": formats.page(),
        "reference/api.md": api,
        "results/published.md": results.published(),
    }
    made |= {page: (ROOT / source).read_text() for source, page in ELSEWHERE.items()}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrite the links of a page for the site, and insert generated tables and pictures."""
    path = page.file.src_uri
    if path == "results/benchmarks.md":
        head, _, rest = markdown.partition("\n## ")
        markdown = f"{head}\n{results.origins(slug)}## {rest}"
    if path == "maintainers/architecture.md":
        # Raw HTML, so that the picture takes the colours of the page.
        markdown = re.sub(
            r"(?s)<!-- floors -->.*?<!-- /floors -->",
            lambda _: f"<div>{floors.svg().strip()}</div>\n\n{ABOUT_PICTURE}\n\n{floors.table()}",
            markdown,
        )
    source = next((one for one, shown in ELSEWHERE.items() if shown == path), f"docs/{path}")
    if source not in ELSEWHERE and not (ROOT / source).is_file():
        return markdown  # made from code: its links are those of the site
    return LINK.sub(lambda found: _rewritten(found, source, path, config, files), markdown)


def _rewritten(found: re.Match[str], source: str, page: str, config: Any, files: Files) -> str:
    """One link, or code as it is. `source` is the file in the repository, `page` its page in the site."""
    if found["code"]:
        return found[0]
    mark, label = found["mark"], found["label"]
    target, _, anchor = found["target"].partition("#")
    inside = posixpath.normpath(posixpath.join(posixpath.dirname(source), target.replace("%20", " ")))
    if not (ROOT / inside).exists():
        logger.warning("%s: link to %s, which is not there", source, target)
        return found[0]
    if (ROOT / inside).is_dir():
        return label  # a folder has no page
    shown = SHOWN.get(inside) or (inside[5:] if inside.startswith("docs/") else None)
    if shown is None:
        # Copied into the site, sources as text: a browser would download a .py file where it can show a .txt file.
        shown = f"files/{inside.replace(' ', '_')}" + ("" if inside.endswith(PICTURES) else ".txt")
        if files.get_file_from_path(shown) is None:
            files.append(File.generated(config, shown, content=(ROOT / inside).read_bytes()))
    relative = posixpath.relpath(shown, posixpath.dirname(page) or ".")
    return f"{mark}[{label}]({relative}{f'#{anchor}' if anchor else ''})"


def _fill(nav: list[Any], parts: dict[str, list[str]]) -> None:
    """Replace the names of `parts` in the navigation by lists of pages, in place; an entry without pages is removed."""
    for place, one in enumerate(list(nav)):
        if isinstance(one, dict):
            for name, inner in one.items():
                if isinstance(inner, str) and inner in parts:
                    nav[place] = {name: parts[inner]} if parts[inner] else {}
                elif isinstance(inner, list):
                    _fill(inner, parts)
    nav[:] = [one for one in nav if one]
