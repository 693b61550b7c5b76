"""What a report is made of, whatever it is written as: sections of tables, charts and sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """The first column names the row; cells that start with a number sort by it."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


@dataclass(frozen=True)
class Axis:
    """`names` makes it an axis of categories, at 0, 1, 2, …"""

    label: str
    low: float
    high: float
    log: bool = False
    percent: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """Points [N]; `low` and `high` are intervals of x, drawn as bars. `kind` is line, step, area or dots."""

    label: str
    x: list[float]
    y: list[float]
    kind: str = "line"
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Chart:
    """`says` is the picture in words, for people who do not see it."""

    title: str
    x: Axis
    y: Axis
    series: list[Series]
    says: str


@dataclass(frozen=True)
class Section:
    title: str
    text: str
    tables: list[Table]
    charts: list[Chart]


@dataclass(frozen=True)
class Report:
    title: str
    sections: list[Section]
    sources: Table
