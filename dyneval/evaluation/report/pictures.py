"""The charts of a report as PNG, SVG and PDF files, on white, for papers and slides.

They are drawn from the page's specifications, so a figure in a paper shows what the report shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dyneval.evaluation.report import theme
from dyneval.evaluation.report.base import Chart
from dyneval.evaluation.report.page import ReportError
from dyneval.files.atomic import atomic_write

FORMATS = ("png", "svg", "pdf")
WIDTH = 560
"""Width of a chart that fills its container on the page, in pixels (points in a PDF)."""
# The version that vl-convert draws with, of those that it brings; `base.SCHEMA` names the same major version.
VEGA_LITE = "6.4"


def write_pictures(folder: Path, charts: Sequence[Chart], formats: Sequence[str] = FORMATS) -> list[Path]:
    """Draw every chart in every format below `folder`; returns the files.

    Args:
        folder: the files are called after the charts there, such as heat-map.pdf.
        charts: as the page shows them.
        formats: some of `FORMATS`.

    Raises:
        ReportError: vl-convert is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise ReportError("pictures need vl-convert: pip install 'dyneval[report]'") from error
    draw = {
        # Three pixels for each of the page's: 1,680 across, sharp in print.
        "png": lambda spec, config: vl_convert.vegalite_to_png(spec, VEGA_LITE, scale=3, config=config),
        "svg": lambda spec, config: vl_convert.vegalite_to_svg(spec, VEGA_LITE, config=config).encode(),
        "pdf": lambda spec, config: vl_convert.vegalite_to_pdf(spec, VEGA_LITE, config=config),
    }
    # On the page charts have no background of their own; on paper and slides it is white.
    config = theme.config("light") | {"background": "#ffffff"}
    made = []
    for chart in charts:
        spec = chart.spec | ({"width": WIDTH} if chart.spec.get("width") == "container" else {})
        for kind in formats:
            path = folder / f"{chart.name}.{kind}"
            with atomic_write(path, "wb") as file:
                file.write(draw[kind](spec, config))
            made.append(path)
    return made
