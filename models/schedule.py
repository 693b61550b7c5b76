"""Values that change over training, written in a configuration as a number or as [[progress, value], …]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from toolkit.errors import UsageError


@dataclass(frozen=True)
class Schedule:
    """Piecewise linear over progress 0..1."""

    points: tuple[tuple[float, float], ...]

    @classmethod
    def parse(cls, value: object, name: str) -> Schedule:
        """Raises UsageError naming the setting."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return cls(((0.0, float(value)),))
        try:
            points = tuple((float(p), float(v)) for p, v in value)  # type: ignore[attr-defined]
        except (TypeError, ValueError):
            points = ()
        rising = all(a[0] < b[0] for a, b in pairwise(points))
        if not points or not rising or not all(0 <= p <= 1 for p, _ in points):
            raise UsageError(
                f"{name} is not a schedule",
                got=value,
                expected="a number or [[progress, value], …] with rising progress in 0..1",
            )
        return cls(points)

    def at(self, progress: float) -> float:
        return float(np.interp(progress, [p for p, _ in self.points], [v for _, v in self.points]))


def one_cycle(progress: float, peak: float, warm_up: float = 0.1) -> float:
    """Learning rate: linear rise to `peak`, then half a cosine to a hundredth of it."""
    if progress < warm_up:
        return peak * (0.04 + 0.96 * progress / warm_up)
    angle = math.pi * (progress - warm_up) / (1 - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(angle)))
