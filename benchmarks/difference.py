"""How far apart two forms of one thing are: accumulated block by block, so that any number of crops fits in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Difference:
    """Largest and mean absolute error, signal-to-quantisation-noise ratio and both ranges of all values seen."""

    count: int = 0
    largest: float = 0.0
    _errors: float = 0.0
    _noise: float = 0.0
    _signal: float = 0.0
    reference_range: list[float] = field(default_factory=lambda: [np.inf, -np.inf])
    found_range: list[float] = field(default_factory=lambda: [np.inf, -np.inf])

    def add(self, reference: np.ndarray, found: np.ndarray) -> None:
        """Arrays of one shape, in one unit."""
        reference, found = reference.astype(np.float64), found.astype(np.float64)
        error = np.abs(found - reference)
        self.count += error.size
        self.largest = max(self.largest, float(error.max(initial=0)))
        self._errors += float(error.sum())
        self._noise += float((error**2).sum())
        self._signal += float((reference**2).sum())
        for bounds, values in ((self.reference_range, reference), (self.found_range, found)):
            bounds[:] = [min(bounds[0], float(values.min())), max(bounds[1], float(values.max()))]

    @property
    def mean(self) -> float:
        return self._errors / max(self.count, 1)

    @property
    def sqnr_db(self) -> float | None:
        """None where nothing differs: the ratio is infinite, which JSON cannot say."""
        return float(10 * np.log10(max(self._signal, 1e-300) / self._noise)) if self._noise else None

    def summary(self) -> dict[str, Any]:
        return {
            "max_error": self.largest,
            "mean_error": self.mean,
            "sqnr_db": self.sqnr_db,
            "reference_range": self.reference_range,
            "range": self.found_range,
        }


def difference(reference: np.ndarray, found: np.ndarray) -> Difference:
    result = Difference()
    result.add(reference, found)
    return result
