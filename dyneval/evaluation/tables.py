"""Tables for the terminal, Markdown, LaTeX, HTML and CSV, through tabulate.

Names of T2I models, evaluators and categories come from files of others. A table is where they could do harm: as a
formula in a spreadsheet, as HTML in Markdown, as a command of LaTeX, or as a control character in a terminal. `Table`
makes them harmless in each form.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dyneval.evaluation import preference, rejects
from dyneval.evaluation.bootstrap import ONE_PROMPT, Estimate
from dyneval.evaluation.comparison import EvaluatorComparison
from dyneval.evaluation.preference import PreferenceComparison
from dyneval.files.atomic import atomic_write
from dyneval.files.delimited import harmless

FORMATS = {"md": "github", "tex": "latex_booktabs", "html": "html"}
"""File suffix -> tabulate's name of the format."""
_MINUS = "\u2212"
# Marks around what is bold until tabulate has escaped the cells. They are of the private use area, and removed from
# cells beforehand, so that no name can hold them.
_BOLD, _END = "\ue000", "\ue001"
# Control characters, line ends, marks of the direction of text, and the two above.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ue000\ue001]+")
# A bar ends a cell of Markdown, and "<" before a letter begins a tag.
_MARKDOWN = re.compile(r"\||<(?=[A-Za-z/!?])")
_ESCAPED = {"|": "\\|", "<": "&lt;"}
# Letters in names of models, such as PixArt-α.
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma",
    "τ": "tau", "υ": "upsilon", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta",
    "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi",
    "Ω": "Omega",
}  # fmt: skip
# What pdfLaTeX does not know as a letter, and how it is written.
_LATEX = {
    **{letter: rf"$\{name}$" for letter, name in _GREEK.items()},
    _MINUS: "$-$", "±": r"$\pm$", "≥": r"$\ge$", "≤": r"$\le$", "–": "--", "×": r"$\times$",
    _BOLD: r"\textbf{", _END: "}",
}  # fmt: skip
# The number that a cell begins with, before its interval.
_LEADING = re.compile(rf"[{_MINUS}+-]?\d*\.?\d+")


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and cells as text, notes below them, and the columns whose highest number LaTeX sets in bold."""

    headings: list[str]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()
    best: tuple[int, ...] = ()

    def render(self, style: str = "simple") -> str:
        """Return the table in one of tabulate's formats; numbers are kept as they are written here.

        Names of models and categories come from files of others: none ends a line or a cell, or steers a terminal.
        """
        lines = self._lines()
        if style == FORMATS["md"]:
            lines = [[_MARKDOWN.sub(lambda found: _ESCAPED[found[0]], cell) for cell in line] for line in lines]
        return _rendered(lines, style)

    def to_latex(self) -> str:
        """Return the table for a paper, with what its preamble needs; without names in other scripts pdfLaTeX does."""
        headings, *rows = self._lines()
        for column in self.best:
            starts = [_LEADING.match(row[column]) for row in rows]
            values = [float(start[0].replace(_MINUS, "-")) if start else None for start in starts]
            known = [value for value in values if value is not None]
            for row, value in zip(rows, values, strict=True):
                if known and value == max(known):
                    row[column] = f"{_BOLD}{row[column]}{_END}"
        text = _rendered([headings, *rows], FORMATS["tex"])
        # After tabulate, which would escape the backslashes and braces of these commands.
        for letter, command in _LATEX.items():
            text = text.replace(letter, command)
        # Latin letters, also with accents, end before U+0250; pdfLaTeX has no letters of other scripts.
        is_plain = all(ord(letter) < 0x250 for letter in text)
        engine = "" if is_plain else "% some names need lualatex or xelatex and a font that has their letters\n"
        return f"% \\usepackage{{booktabs}}\n{engine}{text}\n"

    def to_csv(self) -> str:
        """Return the table as CSV; a cell that a spreadsheet would run as a formula gets a ' before it.

        Names of models and categories come from files of others.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([harmless(cell) for cell in row] for row in (self.headings, *self.rows))
        return text.getvalue()

    def _lines(self) -> list[list[str]]:
        """Headings and rows, without what has no place in a cell."""
        return [[_UNSEEN.sub(" ", cell) for cell in line] for line in (self.headings, *self.rows)]

    def write(self, folder: Path, stem: str) -> list[Path]:
        """Write `stem` as CSV, Markdown, LaTeX and HTML below `folder`; returns the files."""
        plain = {suffix: self.render(style) + "\n" for suffix, style in FORMATS.items()}
        texts = {"csv": self.to_csv(), **plain, "tex": self.to_latex()}
        for suffix, text in texts.items():
            with atomic_write(folder / f"{stem}.{suffix}") as file:
                file.write(text)
        return [folder / f"{stem}.{suffix}" for suffix in texts]


def _rendered(lines: list[list[str]], style: str) -> str:
    from tabulate import tabulate

    # Without `disable_numparse` tabulate writes numbers anew, and .7930 loses its last digit.
    align = ["left", *["right"] * (len(lines[0]) - 1)]
    return str(tabulate(lines[1:], lines[0], style, disable_numparse=True, colalign=align))


def files(folder: Path, stems: Sequence[str]) -> list[Path]:
    """What a run may write into its folder: its tables in all forms, their figures as JSON, and the report."""
    suffixes = ("json", "csv", *FORMATS)
    return [folder / "report.html", *(folder / f"{stem}.{suffix}" for stem in stems for suffix in suffixes)]


def estimate(value: Estimate, digits: int = 4) -> str:
    """Write an estimate as `.7932 [.785, .801]`, or a dash where it is not defined."""
    if value.value is None:
        return "–"
    if value.low is None or value.high is None:
        return number(value.value, digits)
    return f"{number(value.value, digits)} [{number(value.low, digits - 1)}, {number(value.high, digits - 1)}]"


def number(value: float, digits: int = 4) -> str:
    """Write a coefficient without its leading zero."""
    # The sign apart: -0.00004 with four digits is .0000, and no minus stands before it.
    text = f"{abs(value):.{digits}f}"
    return (_MINUS if value < 0 and float(text) else "") + (text.removeprefix("0") or "0")


def signed(value: float, digits: int) -> str:
    """Write a difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", _MINUS)


def p_value(value: float | None) -> str:
    """Write a p-value."""
    return "–" if value is None else "< .001" if value < 0.001 else number(value, 3)


def agreement_table(comparison: EvaluatorComparison) -> Table:
    """One row an evaluator, measured ones first, then those of the paper, marked as published."""
    rows = []
    notes = []
    for result in comparison.evaluators:
        found = result.agreement
        cells = (found.srcc, found.plcc, found.krcc, found.pairwise_accuracy, result.system["srcc"])
        rows.append([result.name, "measured", str(found.items), *(estimate(cell) for cell in cells)])
        if found.srcc.reason:
            notes.append(f"{result.name}: {found.srcc.reason}")
        if result.missing:
            notes.append(f"{result.name}: no score for {result.missing} of {len(comparison.rated.items)} rated images")
        if others := result.of_other_prompts:
            notes.append(
                f"{result.name}: {len(others)} images are scored for another prompt than they were rated for, such as "
                f"{others[0]}; are the scores of another edition of the benchmark?"
            )
    if comparison.people:
        found = comparison.people
        rows.append(
            ["one rater", "people", str(found.items), estimate(found.srcc), estimate(found.plcc), "–", "–", "–"]
        )
        notes.insert(0, "one rater: against the mean of the other raters of an image, each left out in turn")
    for row in comparison.published:
        rows.append([row.evaluator, "published", str(row.pairs), number(row.srcc), number(row.plcc), "–", "–", "–"])
    parts = [found for one in comparison.evaluators for found in (*one.categories.values(), *one.folds.values())]
    if any(found.srcc.reason == ONE_PROMPT for found in parts):
        notes.append("a category or fold of one prompt has no interval: the bootstrap draws whole prompts")
    if comparison.rated.unrated:
        notes.append(f"{len(comparison.rated.unrated)} images of the benchmark have no rating")
    notes += rejects.notes(comparison.rejects, comparison.repeated)
    headings = ["evaluator", "figures", "images", "SRCC", "PLCC", "KRCC", "pairwise accuracy", "SRCC over T2I models"]
    return Table(headings, rows, tuple(notes), best=(3, 4, 5, 6, 7))


def difference_table(comparison: EvaluatorComparison) -> Table:
    """One row for each two evaluators: by how much their SRCC differs, and how surely."""
    rows = [
        [
            f"{found.first} {_MINUS} {found.second}",
            str(found.items),
            estimate(found.difference),
            p_value(found.p_bootstrap),
            p_value(found.p_williams),
        ]
        for found in comparison.differences
    ]
    return Table(["evaluators", "images", "SRCC difference", "p (bootstrap)", "p (Williams)"], rows)


def calibration_table(comparison: EvaluatorComparison) -> Table:
    """One row an evaluator: how far from the raters' means its scores are, once brought to their scale."""
    rows, notes = [], []
    for result in comparison.evaluators:
        found = result.calibration
        if found is None:
            continue
        errors = [f"{value:.3f}" for value in (found.constant, found.linear, found.isotonic)]
        interval = "–" if found.half_width is None else f"±{found.half_width:.3f}"
        hit = "–" if found.covered is None else f"{found.covered:.1%}"
        rows.append([result.name, str(found.images), *errors, found.best, interval, hit])
        notes.append(
            f"{result.name}: rating = {found.slope:.4g} x score {found.intercept:+.4g}; agreement.json has both maps"
        )
    level = next((one.calibration.level for one in comparison.evaluators if one.calibration), 0.0)
    headings = [
        "evaluator",
        "test images",
        "RMSE of the mean",
        "linear",
        "isotonic",
        "better",
        f"{level:.0%} interval",
        "hit",
    ]
    return Table(headings, rows, tuple(notes))


def category_table(comparison: EvaluatorComparison) -> Table:
    """SRCC of each evaluator within each category."""
    names = sorted({name for result in comparison.evaluators for name in result.categories})
    rows = [
        [
            name,
            str(max(result.categories[name].items for result in comparison.evaluators)),
            *(estimate(result.categories[name].srcc) for result in comparison.evaluators),
        ]
        for name in names
    ]
    return Table(["category", "images", *(f"SRCC {result.name}" for result in comparison.evaluators)], rows)


def preference_tables(found: PreferenceComparison) -> dict[str, Table]:
    """Accuracy and tau of each evaluator, published accuracies, differences, and strengths of the T2I models."""
    rows, notes = [], []
    for result in found.evaluators:
        models = "–" if result.models is None else number(result.models)
        counted = (str(result.prompts), f"{result.pairs:,}")
        rows.append([result.name, "measured", *counted, estimate(result.accuracy), estimate(result.kendall), models])
        if result.missing:
            notes.append(f"{result.name}: no score for {result.missing} of {len(found.rated.items)} images")
        if result.accuracy.reason:
            notes.append(f"{result.name}: {result.accuracy.reason}")
    for name, accuracy in preference.PUBLISHED.get(found.rated.benchmark.name, {}).items():
        rows.append([name, "published", "–", "–", number(accuracy, 3), "–", "–"])
    if found.rated.unrated:
        notes.append(f"{len(found.rated.unrated)} images of the benchmark have no rating")
    notes += rejects.notes(found.rejects, found.repeated)
    headings = ["evaluator", "figures", "prompts", "pairs", "accuracy", "tau within prompts", "SRCC over T2I models"]
    shown = {"Agreement": Table(headings, rows, tuple(notes), best=(4, 5, 6))}
    if found.differences:
        shown["Differences"] = Table(
            ["evaluators", "prompts", "accuracy difference", "p (bootstrap)"],
            [
                [
                    f"{one.first} {_MINUS} {one.second}",
                    str(one.prompts),
                    estimate(one.difference),
                    p_value(one.p_bootstrap),
                ]
                for one in found.differences
            ],
        )
    models_of = {name: result.strengths for result in found.evaluators for name in result.strengths}
    if models_of:
        shown["Models"] = Table(
            ["T2I model", *(head for one in found.evaluators for head in (f"people ({one.name})", one.name))],
            [
                [
                    name,
                    *(signed(value, 2) for result in found.evaluators for value in result.strengths.get(name, ())),
                ]
                for name in models_of
                if all(name in result.strengths for result in found.evaluators)
            ],
            # 1 / (1 + exp(-1)) = 0.73.
            ("Log strengths (Bradley-Terry), people's over the pairs that the evaluator scored; 1 more wins 73 %",),
        )
    return shown
