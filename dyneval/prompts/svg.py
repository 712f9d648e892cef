"""The two kinds of chart in the report, as SVG without any library: a histogram and rows of bars."""

from __future__ import annotations

from html import escape

import numpy as np
import numpy.typing as npt

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 960, 260, 56, 30, 22


def histogram(values: npt.NDArray[np.float64], groups: npt.NDArray[np.uint8], cuts: list[float]) -> str:
    """Histogram of `values`, the bars stacked by group (CSS classes t1, t2, ...), with dashed lines at `cuts`.

    Bars are 5 wide (50 where values are large), so that round cuts fall between two of them; the last takes the rest.
    """
    top = max(float(np.percentile(values, 99.8)), *cuts, 1.0) if len(values) else 1.0
    step = 5.0 if top <= 1000 else 50.0
    top = step * np.ceil(top / step)
    edges = np.arange(0, top + step, step)
    names = [int(name) for name in np.unique(groups)]
    counts = np.array([np.histogram(np.minimum(values[groups == name], top), edges)[0] for name in names])
    most = max(1, int(counts.sum(axis=0).max())) if len(counts) else 1
    parts = [_bars(counts, names, most), *(_cut(cut, top) for cut in cuts), *_axes(top, most)]
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Histogram of H">{"".join(parts)}</svg>'


def bars(rows: list[tuple[str, int]], css: list[str], name_width: int = 150, width: int = 320) -> str:
    """A horizontal bar with name and count for each row."""
    most = max([count for _, count in rows] + [1])
    room = width - name_width - 70
    parts = []
    for number, (name, count) in enumerate(rows):
        y, length = 20 * number, room * count / most
        parts.append(
            f'<text x="0" y="{y + 14}">{escape(name)}</text>'
            f'<rect class="{css[number]}" x="{name_width}" y="{y + 4}" width="{length:.1f}" height="12" rx="2"/>'
            f'<text class="strong" x="{name_width + length + 6:.1f}" y="{y + 14}">{count:,}</text>'
        )
    return f'<svg viewBox="0 0 {width} {20 * len(rows) + 4}" role="img" aria-label="Counts">{"".join(parts)}</svg>'


def _bars(counts: npt.NDArray[np.int64], names: list[int], most: int) -> str:
    step = (_WIDTH - _LEFT) / counts.shape[1]
    room = _HEIGHT - _BOTTOM - _TOP
    parts = []
    for column in range(counts.shape[1]):
        base = float(_HEIGHT - _BOTTOM)
        for row, name in enumerate(names):
            height = room * counts[row, column] / most
            base -= height
            if height:
                parts.append(
                    f'<rect class="t{name}" x="{_LEFT + column * step:.1f}" y="{base:.1f}" '
                    f'width="{step - 1:.1f}" height="{height:.1f}"/>'
                )
    return "".join(parts)


def _cut(cut: float, top: float) -> str:
    x = _LEFT + (_WIDTH - _LEFT) * cut / top
    return (
        f'<line class="cut" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text class="strong" x="{x + 4:.1f}" y="{_TOP}">H = {cut:g}</text>'
    )


def _axes(top: float, most: int) -> list[str]:
    floor = _HEIGHT - _BOTTOM
    step = next(s for s in (10, 20, 50, 100, 200, 500, 1000) if top / s <= 10 or s == 1000)
    ticks = [
        f'<text x="{_LEFT + (_WIDTH - _LEFT) * x / top:.1f}" y="{floor + 18}" text-anchor="middle">{x}</text>'
        for x in range(0, int(top) + 1, step)
    ]
    labels = [
        f'<text x="{_LEFT - 8}" y="{floor}" text-anchor="end">0</text>',
        f'<text x="{_LEFT - 8}" y="{_TOP + 6}" text-anchor="end">{most:,}</text>',
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH}" y1="{floor}" y2="{floor}"/>',
    ]
    return labels + ticks
