"""The demo's summary as one HTML page that opens from disk: no script, no network, light and dark.

What comes from the student (questions, answers, reasons) is escaped: it is text of a model and could hold markup or a
script. Pictures are embedded, so that the page is one file.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dyneval.demo.truth import Truth
from dyneval.files.atomic import atomic_write
from dyneval.files.html import content_policy
from dyneval.records import ScoreRecord
from dyneval.structs import Row

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]
Example = tuple[ScoreRecord, Truth, Path]
"""A score, the truth, and the picture's file."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --muted: #6a6f76; --line: #e3e1db; --ground: #fbfaf7; --card: #fff;
  --a: #0d6e6e; --b: #c98a1b; --c: #b5473c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9e6e0; --muted: #9a9ea6; --line: #2c3037; --ground: #14161a;
  --card: #1b1e23; --a: #4fb8b0; --b: #e0ab4c; --c: #e0786b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 Inter, "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .5rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .7rem; }
p { max-width: 46rem; } .muted { color: var(--muted); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem 1.2rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--muted); font-weight: 500; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.25rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; min-width: 0; }
.card img { width: 100%; max-width: 16rem; border-radius: .4rem; image-rendering: auto; display: block; }
.card ul { list-style: none; padding: 0; margin: .8rem 0 0; } .card li { margin: .45rem 0; }
.score { display: inline-block; min-width: 1.6rem; text-align: center; border-radius: .3rem; color: #fff;
  font-weight: 600; margin-right: .5rem; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; white-space: nowrap; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--muted); font-size: 12px; }
svg .axis { stroke: var(--line); } svg .even { stroke: var(--muted); stroke-dasharray: 4 4; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .8rem; overflow-x: auto; }
"""
# For good, middling and bad scores, and for up to three models or stages.
_COLOURS = ("var(--a)", "var(--b)", "var(--c)")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 440, 330, 44, 12, 40


def write_page(
    path: Path,
    *,
    lead: str,
    tables: Mapping[str, Table],
    scatter: Sequence[tuple[float, float, str]],
    losses: Mapping[str, Sequence[Row]],
    example: Sequence[Example],
    commands: Sequence[str],
) -> None:
    """Write the page.

    Args:
        path: of the page.
        lead: first paragraph.
        tables: header and rows by title, in order.
        scatter: true and soft overall score of each pair and its image model.
        losses: rows of `train_log.jsonl` by stage; none of a run without training.
        example: a good and a damaged picture of one prompt, or nothing.
        commands: what to try next.
    """
    parts = ["<h1>DynEval demo</h1>", f"<p>{escape(lead)}</p>"]
    charts = {"Student against truth, overall, a dot a picture": _scatter(scatter)}
    if any(losses.values()):
        charts["Loss a token while training"] = _curves(losses)
    cards = [f'<div class="card"><div class="muted">{title}</div>{chart}</div>' for title, chart in charts.items()]
    parts.append(f'<div class="row">{"".join(cards)}</div>')
    for title, (header, rows) in tables.items():
        lines = ["".join(f"<th>{escape(str(cell))}</th>" for cell in header)]
        lines += ["".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows]
        table = "".join(f"<tr>{line}</tr>" for line in lines)
        parts.append(f'<h2>{escape(title)}</h2><div class="wide"><table>{table}</table></div>')
    if example:
        prompt = example[0][0].prompt
        parts.append(f"<h2>Two pictures of one prompt</h2><p class='muted'>“{escape(prompt)}”</p>")
        parts.append(f'<div class="row">{"".join(_picture(*one) for one in example)}</div>')
    shown = escape("\n".join(commands))
    parts.append(f"<h2>Next</h2><pre>{shown}</pre>")
    # The policy forbids scripts and addresses, in case that something was not escaped after all.
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"{content_policy()}<title>DynEval demo</title><style>{_STYLE}</style>"
    page = f'<!doctype html><html lang="en"><head>{head}</head>'
    with atomic_write(path) as file:
        file.write(f"{page}<body>{''.join(parts)}</body></html>\n")


def _picture(record: ScoreRecord, truth: Truth, image: Path) -> str:
    """Return the card of one picture: its scores beside the true ones, and what the student said to each question."""
    data = base64.b64encode(image.read_bytes()).decode("ascii")
    soft = record.soft or {}
    told = (
        f"T2IA {soft['t2ia']:.2f} (truth {truth.truth_t2ia:.2f}), IQA {soft['iqa']:.2f} (truth {truth.truth_iqa:.2f})"
    )
    rows = ""
    for asked in (*(record.t2ia_questions or ()), *(record.iqa_questions or ())):
        colour = _COLOURS[0 if asked.score >= 4 else 1 if asked.score == 3 else 2]
        score = f'<span class="score" style="background:{colour}">{asked.score}</span>'
        reason = f'<br><span class="muted">{escape(asked.reasoning)}</span>' if asked.reasoning else ""
        rows += f"<li>{score}{escape(asked.question)}{reason}</li>"
    alt = f"Picture by {truth.model}"
    return (
        f'<div class="card"><img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
        f'<p><b>{escape(truth.model)}</b><br><span class="muted">{escape(told)}</span></p><ul>{rows}</ul></div>'
    )


# ---------------------------------------------------------------------------
# Charts


def _axes(x: tuple[float, float], y: tuple[float, float], xs: Sequence[float], ys: Sequence[float], names: str) -> str:
    """Return lines and numbers at the places `xs` and `ys`; `x` and `y` are the limits of the chart."""
    parts = []
    for value in xs:
        at = _x(value, x)
        parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{value:g}</text>')
    for value in ys:
        at = _y(value, y)
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<text x="{_WIDTH - 10}" y="{_HEIGHT - 6}" text-anchor="end">{escape(names)}</text>')
    return "".join(parts)


def _x(value: float, limits: tuple[float, float]) -> float:
    """Return where a value stands in the chart, in units of its viewBox."""
    return _LEFT + (value - limits[0]) / (limits[1] - limits[0]) * (_WIDTH - 10 - _LEFT)


def _y(value: float, limits: tuple[float, float]) -> float:
    """Return where a value stands in the chart; SVG counts downwards, so a large one has a small number."""
    return _HEIGHT - _BOTTOM - (value - limits[0]) / (limits[1] - limits[0]) * (_HEIGHT - _BOTTOM - _TOP)


def _chart(content: str, label: str, names: Sequence[str]) -> str:
    """Return a drawing with its description for readers of screens, and coloured dots with `names` under it."""
    legend = "".join(
        f'<span><span style="color:{_COLOURS[i % 3]}">●</span> <span class="muted">{escape(name)}</span></span>'
        for i, name in enumerate(names)
    )
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{content}</svg>'
    return f'{svg}<div class="legend">{legend}</div>'


def _scatter(points: Sequence[tuple[float, float, str]]) -> str:
    """Return a chart of (true score, soft score, image model), with the line on which both are equal."""
    limits = (1.0, 5.0)
    models = sorted({model for _, _, model in points})
    dots = "".join(
        f'<circle cx="{_x(true, limits):.1f}" cy="{_y(said, limits):.1f}" r="4" opacity=".75" '
        f'style="fill:{_COLOURS[models.index(model) % 3]}"/>'
        for true, said, model in points
    )
    even = f'<line class="even" x1="{_x(1, limits)}" y1="{_y(1, limits)}" x2="{_x(5, limits)}" y2="{_y(5, limits)}"/>'
    axes = _axes(limits, limits, range(1, 6), range(1, 6), "truth →   (upwards: student, soft score)")
    return _chart(axes + even + dots, "Scatter plot of the student's scores against the truth", models)


def _curves(losses: Mapping[str, Sequence[Row]]) -> str:
    """Return a chart of the losses by step, a line for each stage; nothing where no step was logged."""
    curves = {name: [(row["step"], row["loss"]) for row in rows if "loss" in row] for name, rows in losses.items()}
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return ""
    x, y = (0.0, float(max(step for step, _ in points))), (0.0, max(loss for _, loss in points) * 1.05)
    lines = ""
    for position, curve in enumerate(curves.values()):
        path = " ".join(f"{_x(step, x):.1f},{_y(loss, y):.1f}" for step, loss in curve)
        lines += f'<polyline points="{path}" style="fill:none;stroke:{_COLOURS[position % 3]};stroke-width:2"/>'
    ticks = [round(x[1] * part / 5) for part in range(6)]
    heights = [round(y[1] * part / 5, 1) for part in range(6)]
    return _chart(_axes(x, y, ticks, heights, "step →") + lines, "Loss by step", list(curves))
