"""The HTML page: template, style, scripts, Vega and data in one file that opens without a network."""

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
_THEME = "theme.js"
"""Runs before the page is drawn, which would flash in the other colours."""


class ReportError(UserError, RuntimeError):
    """The report cannot be made; the message says what to install."""


@dataclass(slots=True)
class Report:
    """What stands on the page; parts that are None or empty are left out.

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
    scripts = ["\n".join(_asset(name) for name in _SCRIPTS)]
    if data["charts"] or report.gallery:
        scripts.insert(0, vega_bundle())
    text = environment.get_template("report.html.j2").render(
        report=report,
        board=report.board,
        scale=_scale(report.board),
        rank_range=rank_range,
        tier_average=tier_average,
        style=_asset("page.css"),
        colours={mode: _colours(mode) for mode in ("light", "dark")},
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
        raise ReportError("the report needs vl-convert: pip install 'dyneval[report]'") from error
    untyped: Any = vl_convert  # its stub calls for an argument that has a default
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


def _scale(board: Board | None) -> tuple[float, float]:
    """From the lowest to the highest end of an interval on the board, a little wider."""
    if board is None:
        return 1, 5
    estimates = [row.ranked for row in board.rows]
    ends = [end for e in estimates for end in (e.value, e.low, e.high) if end is not None]
    return max(1, min(ends) - 0.15), min(5, max(ends) + 0.15)


def _colours(mode: str) -> dict[str, object]:
    return {
        "ink": theme.INK[mode],
        "muted": theme.MUTED[mode],
        "line": theme.LINE[mode],
        "gap": theme.GAP[mode],
        "tiers": theme.TIERS[mode],
        "heat": theme.HEAT[mode],
    }


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text("utf-8")
