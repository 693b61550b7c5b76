"""How numbers are written in the cells of a report."""

from __future__ import annotations

from typing import Any


def percent(rate: dict[str, Any] | None) -> str:
    """A rate with the wider of its two intervals' ends, so that no assumption is hidden; the rule of three at 0."""
    if rate is None:
        return "–"
    low, high = rate["low"], rate["high"]
    if rate.get("people_low") is not None:
        low, high = min(low, rate["people_low"]), max(high, rate["people_high"])
    if not rate["errors"]:
        return f"0% (below {share(1 - 0.05 ** (1 / rate['trials']))})"
    return f"{share(rate['rate'])} [{share(low)}, {share(high)}]"


def accuracy(s: dict[str, Any]) -> str:
    return f"{s['accuracy']:.2%} ± {s['standard_error']:.2%}" if "accuracy" in s else "–"


def photos(number: str) -> str:
    return f"{number} photo" if number == "1" else f"{number} photos"


def share(value: float) -> str:
    return f"{100 * value:.3g}%"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def fnmr(scored: dict[str, Any], point: str) -> str:
    return percent(scored["at_fmr"].get(point, {}).get("fnmr"))
