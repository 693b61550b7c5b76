"""A report as Markdown: its tables, and what its charts say."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report.document import Report, Table


def to_markdown(report: Report, level: int = 1) -> str:
    lines = [f"{'#' * level} {report.title}", ""]
    for section in report.sections:
        lines += [f"{'#' * (level + 1)} {section.title}", "", section.text, ""]
        for table in section.tables:
            lines += [f"**{table.title}**", "", markdown_table(table.head, table.rows), ""]
            lines += [table.note, ""] if table.note else []
    source = report.sources
    lines += [f"{'#' * (level + 1)} {source.title}", "", _sources(source), "", source.note]
    return "\n".join(lines) + "\n"


def _sources(table: Table) -> str:
    return markdown_table(table.head, [(row[0], f"`{row[1]}`", *row[2:]) for row in table.rows])


def markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') or ' ' for cell in cells)} |"

    return "\n".join([line(head), f"|{'---|' * len(head)}", *map(line, rows)])
