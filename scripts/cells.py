"""Markdown tables and what stands in their cells."""

from __future__ import annotations


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]).replace(" --- ", "---")


def percent(rate: dict[str, float]) -> str:
    return f"{rate['rate']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]"


def count(rate: dict[str, float]) -> str:
    return f"{rate['errors']:,} of {rate['trials']:,}, {percent(rate)}"


def verdict(met: bool) -> str:
    return "met" if met else "**missed**"
