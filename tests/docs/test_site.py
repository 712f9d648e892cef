"""What the documentation says of the code, beside the code: floors, navigation, links, figures, versions."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "pipeline" / "docs"), str(ROOT / "pipeline")]
import commands  # noqa: E402
import floors  # noqa: E402
import formats  # noqa: E402
import licences  # noqa: E402
import results  # noqa: E402

import dyneval  # noqa: E402
from dyneval import __version__  # noqa: E402
from dyneval.cli import VERBS  # noqa: E402
from dyneval.records import RECORDS, schema_name  # noqa: E402
from tests import processes  # noqa: E402

LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md", "dev/LOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))


def test_architecture_has_every_module_on_the_floor_of_the_contract():
    said = re.findall(r"^\| (\d+) \| `(\w+)` \| \S", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    contract = [(str(number), name) for number, floor in enumerate(floors.contract()[0], 1) for name in floor]
    assert said == contract, "python pipeline/docs/floors.py --write"


def test_modules_that_architecture_sends_to_are_there():
    text = (ROOT / "ARCHITECTURE.md").read_text().partition("## Where to look first")[2]
    named = re.findall(r"`((?:dyneval|Qwen3-VL)/[\w/.-]+)`", text)
    assert len(named) > 15 and not [name for name in named if not (ROOT / name).exists()]


def test_the_picture_has_a_box_for_every_module():
    picture = floors.svg()
    assert picture.count("<rect") == sum(map(len, floors.contract()[0])) + 1
    assert "qwenvl" in picture


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text().partition("nav:")[2]
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert not {page for page in pages if f" {page}\n" not in nav and not page.startswith("rewards/")} - {"index.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_pages_in_the_repository_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text()):
        path = (page.parent / target.replace("%20", " ")).resolve() if target else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{target}#{anchor}"


def test_every_verb_and_way_in_is_told_of_in_the_readme_or_a_page_that_it_links_to():
    text = (ROOT / "README.md").read_text()
    linked = [ROOT / target for target, _ in LINK.findall(text) if target.endswith(".md")]
    said = "\n".join([text, *(path.read_text() for path in linked)])
    assert not [verb for verb in VERBS if f"dyneval {verb}" not in said]
    assert not [way for way in ("serve --rewards", "AsyncClient", "hf://", "Metric(") if way not in said]


def test_every_verb_has_a_page_with_the_flags_of_its_parser():
    pages = dict(commands.pages())
    assert {f"reference/commands/{verb}.md" for verb in VERBS} < set(pages)
    assert "`--max-drop`" in pages["reference/commands/check.md"]
    # How many values a flag takes is written as --help writes it.
    assert "| `--ray` | `[ADDRESS]` |" in pages["reference/commands/score.md"]
    assert "| `--folds` | `FILE [FILE ...]` |" in pages["reference/commands/benchmark.md"]
    assert "## dyneval gendb hub" in pages["reference/commands/gendb.md"]
    # Of the engines of students, too, which the parser has by their options.
    assert "`--tensor-parallel-size`" in pages["reference/commands/score.md"]


def test_commands_in_the_pages_have_flags_that_are_there():
    pages = [path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "extend"]  # those are run
    pages += [ROOT / name for name in ("README.md", "benchmarks/README.md", "image_gen_scripts/README.md")]
    pages.append(ROOT / "Distill Annotations" / "README.md")
    wrong, seen = [], 0
    for page in pages:
        for line in page.read_text().replace("\\\n", " ").splitlines():
            if not (found := re.match(r"\s*dyneval (\w+) (.*)", line.partition("  #")[0])) or found[1] not in VERBS:
                continue
            known, parsers = set(), [commands.parser_of(found[1])]
            for parser in parsers:
                known |= set(parser._option_string_actions)
                parsers += [one for _, one, _ in commands._verbs(parser)]
            flags = re.findall(r"(?<!\S)--[a-z][\w-]*", found[2])
            seen += len(flags)
            wrong += [f"{page.name}: {line.strip()}: {flag}" for flag in flags if flag not in known]
    assert seen > 100 and not wrong, wrong


def test_every_record_is_described():
    page = formats.page()
    assert not [name for record in RECORDS if f"\n## {(name := schema_name(record))}\n" not in page]
    assert "`'" not in page and "higher is better" in page


def test_the_hook_uses_names_that_the_package_has():
    # mkdocs has an environment of its own, so that no test here can build the page of the Python interface.
    hook = (ROOT / "pipeline" / "docs" / "hook.py").read_text()
    named = set(re.findall(r"\bdyneval\.(_\w+)", hook))
    assert named and not [name for name in named if not hasattr(dyneval, name)]


def test_published_figures_are_marked_and_ours_are_dated():
    assert results.published().count("(published)") == 4
    assert "`bash benchmarks/learning_proof.sh`" in results.origins(lambda title, _: title)
    proof = (ROOT / "benchmarks" / "README.md").read_text().partition("\n## Learning proof\n")[2].partition("\n## ")[0]
    table = "\n".join(line for line in proof.splitlines() if line.startswith("|"))
    assert "curriculum" in table and table in (ROOT / "docs" / "results" / "index.md").read_text()


def test_the_version_has_a_section_in_the_changelog():
    assert f"\n## {__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"] and "version" not in project


def test_a_release_is_refused_in_one_line_where_it_is_asked_for_wrongly():
    done = processes.run(["bash", "pipeline/release.sh"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--check" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", True),
        ("MIT AND GPL-3.0-only", False),
        ("AGPL-3.0", False),
        ("You have to submit a form", False),
        ("", False),
    ],
)
def test_a_licence_that_was_not_looked_at_is_told(text, known):
    assert licences.is_known(text) == known


def test_a_page_without_its_marks_is_not_written(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- floors -->\nold\n")
    with pytest.raises(ValueError, match="/floors"):
        floors.write(page, "floors", "new")
    assert page.read_text() == "<!-- floors -->\nold\n"


def test_messages_that_the_faq_explains_are_messages_of_ours():
    sources = [path for folder in ("dyneval", "pipeline") for path in (ROOT / folder).rglob("*")]
    sources = [path for path in sources if path.suffix in (".py", ".sh") and "docs" not in path.parts]
    said = "\n".join(path.read_text() for path in [*sources, ROOT / "tests" / "cli" / "test_mistakes.py"])
    heads = re.findall(r"^\*\*(`.+?)\*\*", (ROOT / "docs" / "faq.md").read_text(), re.MULTILINE)
    named = [message for head in heads for message in re.findall(r"`([^`]+)`", head)]
    assert len(named) > 12 and not [message for message in named if message not in said]


def test_figures_of_the_readme_are_those_of_the_benchmarks():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") < 150
    table = text.partition("\n| what | figure |\n")[2].partition("\n\n")[0]
    figures = re.findall(r"-?\d+\.\d+", "".join(row.rpartition(" | ")[2] for row in table.splitlines()))
    benchmarks = (ROOT / "benchmarks" / "README.md").read_text()
    assert len(figures) > 6 and not [figure for figure in figures if figure not in benchmarks]


def test_a_site_with_a_broken_link_or_something_from_elsewhere_is_refused(tmp_path):
    (tmp_path / "index.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#there">1</a><a href="b.html#gone">2</a><a href="c.html">3</a>'
        '<a href="https://example.org">4</a><img src="https://example.org/x.png"><script src="x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<h2 id="there">B</h2><a href="index.html#top">5</a>')
    (tmp_path / "x.js").write_text("")
    check = [sys.executable, ROOT / "pipeline" / "docs" / "check.py", tmp_path]
    done = processes.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "index.html: b.html#gone: there is no such anchor",
        "index.html: c.html: there is no such file",
        "index.html: https://example.org/x.png: is loaded from elsewhere",
    ]
    (tmp_path / "index.html").write_text('<a href="b.html#there">1</a><h1 id="top">A</h1>')
    assert processes.run(check, capture_output=True, check=False).returncode == 0


def test_a_folder_with_other_things_is_not_emptied_for_the_site(tmp_path):
    (tmp_path / "mine.txt").touch()
    done = processes.run(["bash", ROOT / "pipeline" / "docs.sh", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "name an empty folder" in done.stderr
    assert (tmp_path / "mine.txt").exists()
