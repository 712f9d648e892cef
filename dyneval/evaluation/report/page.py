"""The HTML page: template, style, scripts, Vega and data in one file that opens without a network.

Names, prompts and replies in it come from others. They are escaped by the template or written as JSON, and a content
security policy with the hashes of our scripts keeps anything else from running.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from dyneval.errors import UserError
from dyneval.evaluation.board_tables import rank_range, tier_average
from dyneval.evaluation.bootstrap import Estimate
from dyneval.evaluation.leaderboard import Board, Cell
from dyneval.evaluation.report import theme
from dyneval.evaluation.report.base import Chart
from dyneval.evaluation.report.gallery import Gallery, script_json
from dyneval.evaluation.tables import Table
from dyneval.files.atomic import atomic_write
from dyneval.files.html import content_policy

_SCRIPTS = ("page.js", "table.js", "graph.js", "gallery.js")
# Runs before the page is drawn, which would otherwise flash in the colours of the other mode.
_THEME = "theme.js"


class ReportError(UserError, RuntimeError):
    """The report cannot be made; the message says what to install."""


@dataclass(slots=True)
class Report:
    """The contents of the page; parts that are None or empty are left out.

    Attributes:
        title: heading of the page.
        lead: one or two sentences below it.
        board: the leaderboard.
        board_charts: of the leaderboard.
        board_tables: of the leaderboard, by heading.
        heading: of the section with `tables` and `agreement_charts`.
        tables: of the comparison with raters or of runs, by heading.
        agreement_charts: of the comparison.
        gallery: the images.
        notes: gaps and rejects, one sentence each.
    """

    title: str
    lead: str
    board: Board | None = None
    board_charts: Sequence[Chart] = ()
    board_tables: dict[str, Table] = field(default_factory=dict)
    heading: str = "Agreement with people"
    tables: dict[str, Table] = field(default_factory=dict)
    agreement_charts: Sequence[Chart] = ()
    gallery: Gallery | None = None
    notes: Sequence[str] = ()


def write_report(path: Path, report: Report) -> None:
    """Write the page, all or nothing.

    Raises:
        ReportError: vl-convert is not installed.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("dyneval.evaluation.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(tint=tint, interval=interval)
    data = {
        "charts": {chart.name: chart.spec for chart in (*report.board_charts, *report.agreement_charts)},
        "themes": {mode: theme.config(mode) for mode in ("light", "dark")},
        "gallery": report.gallery.index if report.gallery else None,
    }
    colours: dict[str, Any] = {
        "ink": theme.INK,
        "muted": theme.MUTED,
        "line": theme.LINE,
        "gap": theme.GAP,
        "tiers": theme.TIERS,
        "heat": theme.HEAT,
    }
    # Bars of intervals reach from the lowest to the highest end on the board, and a little further: on the whole scale
    # 1-5 the intervals of most boards are too short to be told apart.
    rows = report.board.rows if report.board else []
    ends = [end for row in rows for end in (row.ranked.value, row.ranked.low, row.ranked.high) if end is not None]
    scale = (max(1, min(ends) - 0.15), min(5, max(ends) + 0.15)) if ends else (1, 5)
    scripts = ["\n".join(_asset(name) for name in _SCRIPTS)]
    # A page of tables alone does not carry Vega. Vega comes first: the others use it.
    if data["charts"] or report.gallery:
        scripts.insert(0, vega_bundle())
    text = environment.get_template("report.html.j2").render(
        report=report,
        board=report.board,
        scale=scale,
        rank_range=rank_range,
        tier_average=tier_average,
        style=_asset("page.css"),
        colours={mode: {name: values[mode] for name, values in colours.items()} for mode in ("light", "dark")},
        theme_script=_asset(_THEME),
        scripts=scripts,
        policy=content_policy([_asset(_THEME), *scripts], bool(report.gallery and not report.gallery.index["inline"])),
        data=script_json(data),
    )
    with atomic_write(path) as file:
        file.write(text)


@cache
def vega_bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script. Raises ReportError when vl-convert is missing."""
    try:
        import vl_convert
    except ImportError as error:
        raise ReportError("the report needs vl-convert: pip install 'dyneval[report]', or --no-report") from error
    # Its stub calls for an argument that has a default.
    untyped: Any = vl_convert
    # In a string of JavaScript "<\/" means "</", and HTML then sees no end of the script.
    return str(untyped.javascript_bundle()).replace("</script", "<\\/script")


def tint(value: float | None) -> str:
    """Return the class and strength with which a score (1-5) colours its cell, as HTML attributes' values."""
    if value is None:
        return "gap"
    return f"{'high' if value >= 3 else 'low'} s{min(10, round(abs(value - 3) * 5))}"


def interval(estimate: Estimate | Cell, scale: tuple[float, float]) -> dict[str, str] | None:
    """Place a mean and its interval on a bar from 0 to 100 %."""
    low, high = scale
    if estimate.value is None:
        return None
    places = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {name: f"{(place - low) / (high - low) * 100:.2f}%" for name, place in places.items() if place is not None}


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text("utf-8")
