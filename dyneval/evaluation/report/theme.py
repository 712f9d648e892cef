"""Colours and type of charts, in a light and a dark version; the page's style sheet uses the same values.

`page` hands them to the template as variables of the style sheet.
"""

from __future__ import annotations

from dyneval.evaluation.report.base import Spec

FONT = "Inter, 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"
INK = {"light": "#1f2328", "dark": "#e9e6e0"}
MUTED = {"light": "#6a6f76", "dark": "#9a9ea6"}
LINE = {"light": "#e3e1db", "dark": "#2c3037"}
# Behind heat maps, where no image was scored.
GAP = {"light": "#f1efe9", "dark": "#1b1e23"}
# Tier 1, 2, 3: told apart by hue and by lightness.
TIERS = {"light": ["#0d6e6e", "#c98a1b", "#b5473c"], "dark": ["#4fb8b0", "#e0ab4c", "#e0786b"]}
# Evaluators, in order.
SERIES = {
    "light": ["#0d6e6e", "#b5473c", "#5b6abf", "#c98a1b", "#7a4d8f", "#4c7a34"],
    "dark": ["#4fb8b0", "#e0786b", "#97a3ea", "#e0ab4c", "#bd93d1", "#93c276"],
}
# Low, middle, high scores.
HEAT = {
    "light": ["#7f2a20", "#c4604c", "#e7b58f", "#f3ead2", "#b9d8cf", "#5fa7a2", "#0d6e6e"],
    "dark": ["#e8836f", "#a14f41", "#5d3a33", "#33373d", "#2c5855", "#3a8c86", "#6fd6cb"],
}


def config(mode: str) -> Spec:
    """Return the Vega-Lite configuration of `mode`, "light" or "dark"; the background is transparent."""
    ink, muted, line = INK[mode], MUTED[mode], LINE[mode]
    return {
        "font": FONT,
        "background": None,
        "view": {"stroke": None},
        "padding": 4,
        "axis": {
            "labelColor": muted,
            "titleColor": muted,
            "titleFontWeight": "normal",
            "labelFontSize": 11,
            "titleFontSize": 11,
            "gridColor": line,
            "domainColor": line,
            "tickColor": line,
            "labelLimit": 220,
            "labelSeparation": 8,
            "titleLimit": 300,
        },
        "header": {"labelColor": ink, "labelFontSize": 11, "labelFontWeight": 600, "title": None},
        "legend": {"labelColor": muted, "titleColor": muted, "titleFontWeight": "normal", "labelFontSize": 11},
        "title": {"color": ink, "fontSize": 13, "fontWeight": 600, "anchor": "start"},
        "text": {"color": ink, "fontSize": 11},
        "rule": {"color": muted},
        "mark": {"color": SERIES[mode][0]},
        "tick": {"color": ink},
        "point": {"filled": True, "size": 46},
        "range": {"category": SERIES[mode], "ordinal": TIERS[mode], "heatmap": HEAT[mode], "ramp": HEAT[mode]},
    }
