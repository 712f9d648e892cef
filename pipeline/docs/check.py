"""Checks a built site: links, anchors and files of every page, and that no page loads anything from elsewhere.

    $ python pipeline/docs/check.py output/docs

mkdocs checks the links in Markdown. This checks those in the finished pages, which themes, plugins and our hook write
too. The site must work without a network, so a page that loads a font or a script from another host is an error.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Collects the anchors of a page, what it links to, and what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element; `HTMLParser.feed` calls this."""
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        # A canonical link names the page's address; the browser does not load it.
        if tag == "link" and "canonical" not in found.get("rel", ""):
            self.loads.append(found.get("href", ""))
        if "src" in found:
            self.loads.append(found["src"])


def main(site: Path) -> int:
    """Check the pages below `site` and print what is wrong.

    Returns:
        0, or 1 where a link leads nowhere or a page loads something from elsewhere.
    """
    # All pages are read first: a link may lead to an anchor of any of them.
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = Page()
        pages[path].feed(path.read_text())
    wrong = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are those of a site at the root of a server
        for link in page.links + page.loads:
            wrong += [
                f"{path.relative_to(site)}: {link}: {why}" for why in _faults(link, path, link in page.loads, pages)
            ]
    sys.stdout.write(
        "".join(f"{line}\n" for line in wrong) or f"{len(pages)} pages, no broken link: {site}/index.html\n"
    )
    return 1 if wrong else 0


def _faults(link: str, page: Path, is_loaded: bool, pages: dict[Path, Page]) -> list[str]:
    parts = urlsplit(link)
    if parts.scheme in ("http", "https", "mailto", "data") or parts.netloc:
        return ["is loaded from elsewhere"] if is_loaded and parts.scheme != "data" else []
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return ["there is no such file"]
    # The theme's own anchors (__tabbed_1_1 and the like) are made by its script.
    anchor = unquote(parts.fragment)
    if anchor and target in pages and not anchor.startswith("__") and anchor not in pages[target].anchors:
        return ["there is no such anchor"]
    return []


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
