"""A report as one HTML file that needs nothing else: no network, no library, no font."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from benchmarks.report.document import Chart, Report, Section, Table
from benchmarks.report.svg import COLOURS, draw

_HERE = Path(__file__).parent
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def to_html(report: Report) -> str:
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    sections = "".join(_section(section, i) for i, section in enumerate(report.sections))
    links = "".join(f'<a href="#{_anchor(s.title)}">{escape(s.title)}</a>' for s in report.sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(report.title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{style}</style></head><body>'
        f'<header><h1>{escape(report.title)}</h1><nav aria-label="Sections">{links}<a href="#sources">Sources</a></nav>'
        f'<button id="theme" type="button">Dark or light</button></header><main>{sections}'
        f'<section id="sources"><h2>{escape(report.sources.title)}</h2><p>{escape(report.sources.note)}</p>'
        f"{_table(report.sources, caption=False)}</section></main>"
        f'<div id="tip" role="status" aria-live="polite" hidden></div><script>{script}</script></body></html>\n'
    )


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


def _section(section: Section, number: int) -> str:
    charts = "".join(_figure(chart, f"c{number}-{i}") for i, chart in enumerate(section.charts))
    tables = "".join(map(_table, section.tables))
    return (
        f'<section id="{_anchor(section.title)}"><h2>{escape(section.title)}</h2><p>{escape(section.text)}</p>'
        f'{tables}<div class="charts">{charts}</div></section>'
    )


def _figure(chart: Chart, identifier: str) -> str:
    keys = "".join(
        f'<li class="s{i % COLOURS}{" dashed" if i >= COLOURS else ""}">{escape(series.label)}</li>'
        for i, series in enumerate(chart.series)
    )
    legend = f'<ul class="legend">{keys}</ul>' if len(chart.series) > 1 else ""
    return f"<figure><figcaption>{escape(chart.title)}</figcaption>{draw(chart, identifier)}{legend}</figure>"


def _table(table: Table, caption: bool = True) -> str:
    head = "".join(f'<th scope="col" aria-sort="none"><button type="button">{escape(cell) or "what"}</button></th>'
                   for cell in table.head)  # fmt: skip
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
    )
    title = f"<caption>{escape(table.title)}</caption>" if caption else ""
    note = f'<p class="note">{escape(table.note)}</p>' if table.note and caption else ""
    label = escape(table.title)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>{title}<thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>{note}"
    )
