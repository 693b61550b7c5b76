"""Charts as SVG: drawn here, so that a page needs no library; colours come from the page's style sheet."""

from __future__ import annotations

import json
import math
from html import escape
from itertools import pairwise

from benchmarks.report.document import Axis, Chart, Series

WIDTH, HEIGHT, ROW = 480, 340, 26  # small, so that text stays readable when a phone scales it down
TOP, RIGHT, BOTTOM = 14, 24, 44
COLOURS = 6  # .s0 … .s5 in the style sheet; dashes tell further series apart


class _Frame:
    """Where data coordinates lie in the picture."""

    def __init__(self, chart: Chart):
        self.x, self.y = chart.x, chart.y
        longest = max(map(len, chart.y.names), default=0)
        self.left = max(54, 12 + 7 * longest) if chart.y.names else 54
        self.height = TOP + BOTTOM + ROW * (len(chart.y.names) + 1) if chart.y.names else HEIGHT

    def px(self, value: float) -> float:
        return self.left + _share(self.x, value) * (WIDTH - self.left - RIGHT)

    def py(self, value: float) -> float:
        return self.height - BOTTOM - _share(self.y, value) * (self.height - TOP - BOTTOM)


def _share(axis: Axis, value: float) -> float:
    """0 at the axis' low end, 1 at its high end; what lies outside is drawn at the edge."""
    low, high = axis.low, axis.high
    if axis.log:
        low, high, value = math.log10(low), math.log10(high), math.log10(max(value, axis.low))
    return min(1.0, max(0.0, (value - low) / (high - low)))


def ticks(axis: Axis) -> list[tuple[float, str]]:
    """Positions and labels: powers of ten, names, or five to ten round numbers."""
    if axis.names:
        return list(enumerate(axis.names))
    if axis.log:
        powers = range(math.ceil(math.log10(axis.low) - 1e-9), math.floor(math.log10(axis.high) + 1e-9) + 1)
        return [(10.0**p, number(10.0**p, axis.percent)) for p in powers]
    raw = (axis.high - axis.low) / 6
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw)
    first = math.ceil(axis.low / step - 1e-9)
    values = [(first + i) * step for i in range(int((axis.high - axis.low) / step) + 2)]
    return [(v, number(v, axis.percent)) for v in values if v <= axis.high + 1e-9 * step]


def number(value: float, percent: bool = False) -> str:
    return f"{100 * value:.3g}%" if percent else f"{value:.3g}"


def draw(chart: Chart, identifier: str) -> str:
    """One <svg>, with a title and a description, its points as data for the page's hover and arrow keys."""
    frame = _Frame(chart)
    marks = "".join(_series(frame, s, i) for i, s in enumerate(chart.series))
    points = [
        {"label": s.label, "points": [[round(frame.px(x), 1), round(frame.py(y), 1), _said(chart, s, i)]
                                      for i, (x, y) in enumerate(zip(s.x, s.y, strict=True))]}
        for s in chart.series
    ]  # fmt: skip
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {frame.height}" role="img" tabindex="0" '
        f'aria-labelledby="{identifier}-t {identifier}-d" data-points="{escape(json.dumps(points))}">'
        f'<title id="{identifier}-t">{escape(chart.title)}</title><desc id="{identifier}-d">{escape(chart.says)}</desc>'
        f'{_axes(frame)}{marks}<circle class="cursor" r="5" visibility="hidden"/></svg>'
    )


def _said(chart: Chart, series: Series, i: int) -> str:
    x, y = series.x[i], series.y[i]
    if chart.y.names:
        interval = ""
        if series.low:
            low, high = number(series.low[i], chart.x.percent), number(series.high[i], chart.x.percent)
            interval = f" [{low}, {high}]"
        return f"{chart.y.names[int(y)]}: {number(x, chart.x.percent)}{interval}"
    return f"{chart.x.label} {number(x, chart.x.percent)}, {chart.y.label} {number(y, chart.y.percent)}"


def _axes(frame: _Frame) -> str:
    left, bottom = frame.left, frame.height - BOTTOM
    parts = []
    for value, label in ticks(frame.x):
        at = frame.px(value)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(label)}</text>')
    for value, label in ticks(frame.y):
        at = frame.py(value)
        parts.append(f'<path class="grid" d="M{left} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(label)}</text>')
    middle, label = (left + WIDTH - RIGHT) / 2, escape(frame.x.label)
    parts.append(f'<text class="axis" x="{middle:.1f}" y="{frame.height - 8}" text-anchor="middle">{label}</text>')
    if not frame.y.names:
        parts.append(f'<text class="axis" transform="translate(13 {(TOP + bottom) / 2}) rotate(-90)" '
                     f'text-anchor="middle">{escape(frame.y.label)}</text>')  # fmt: skip
    return "".join(parts)


def _series(frame: _Frame, series: Series, index: int) -> str:
    style = f"s{index % COLOURS}" + (" dashed" if index >= COLOURS else "")
    at = [(frame.px(x), frame.py(y)) for x, y in zip(series.x, series.y, strict=True)]
    if not at:
        return ""
    if series.kind == "dots":
        shift = (index - 0.5) * 6 if frame.y.names and index else 0.0
        bars = "".join(
            f'<path class="bar" d="M{frame.px(lo):.1f} {y + shift:.1f}H{frame.px(hi):.1f}"/>'
            for (_, y), lo, hi in zip(at, series.low, series.high, strict=False)
        )
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y + shift:.1f}" r="3.5"/>' for x, y in at)
        return f'<g class="{style}">{bars}{dots}</g>'
    path = f"M{at[0][0]:.1f} {at[0][1]:.1f}"
    for (_, y0), (x, y) in pairwise(at):
        path += f"L{x:.1f} {y0:.1f}L{x:.1f} {y:.1f}" if series.kind == "step" else f"L{x:.1f} {y:.1f}"
    if series.kind == "area":
        floor = frame.py(frame.y.low)
        area = f"{path}L{at[-1][0]:.1f} {floor:.1f}L{at[0][0]:.1f} {floor:.1f}Z"
        return f'<g class="{style}"><path class="area" d="{area}"/><path class="line" d="{path}"/></g>'
    return f'<g class="{style}"><path class="line" d="{path}"/></g>'
