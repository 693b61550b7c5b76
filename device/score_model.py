"""What a score says: how much likelier it is for the enrolled person than for a stranger, over one frame or several.

The bundle tells false match and non-match rates at its thresholds. On probit scales both are close to straight lines in
the threshold, as they are for normal distributions (Martin and others, "The DET curve in assessment of detection task
performance", 1997); two lines of one slope give the stranger's and the enrolled person's mean and their common spread.
The slope is that of the strangers' line: it is the one that false accepts hang on.

Frames of one visit are far from independent: who looks alike in one frame does so in the next. A share `correlation` of
the variance is taken to be the visit's, the rest the frame's. The mean of n frames then has the variance
spread² · (correlation + (1 − correlation) / n), and evidence has an end however long somebody stands there.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from toolkit.errors import ArtifactError

NORMAL = NormalDist()
PATHS = 4000  # simulated visits; the bound moves by about 0.02 from one seed to the next
RARE = 1e-6  # rates are kept this far from 0 and 1, whose probits are infinite


@dataclass(frozen=True)
class ScoreModel:
    """Scores of single frames: normal, means `impostor` and `genuine`, one standard deviation."""

    impostor: float
    genuine: float
    spread: float
    correlation: float

    @classmethod
    def from_points(cls, points: dict[str, dict[str, Any]], correlation: float, origin: str = "bundle") -> ScoreModel:
        """From a manifest's operating points. Raises ArtifactError when they do not describe two distributions."""
        try:
            rows = sorted((float(p["threshold"]), float(p["fmr"]), float(p["fnmr"])) for p in points.values())
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{origin} does not tell its error rates", do="enrol the person again") from error
        threshold = np.array([row[0] for row in rows])
        strangers = np.array([-_probit(row[1]) for row in rows])  # (t − impostor) / spread
        enrolled = np.array([_probit(row[2]) for row in rows])  # (t − genuine) / spread
        slope = float(np.polyfit(threshold, strangers, 1)[0]) if np.ptp(threshold) > 0 else 0.0
        if not slope > 0:
            raise ArtifactError(
                f"{origin} has too few operating points for decisions over frames", do="enrol the person again"
            )
        spread = 1 / slope
        model = cls(
            float((threshold - strangers * spread).mean()),
            float((threshold - enrolled * spread).mean()),
            spread,
            correlation,
        )
        if not model.genuine > model.impostor:
            raise ArtifactError(f"{origin} cannot tell its person from strangers", do="enrol from other photos")
        return model

    @property
    def separation(self) -> float:
        """d′: the distance of the means in spreads."""
        return (self.genuine - self.impostor) / self.spread

    def log_likelihood_ratio(self, mean: float | np.ndarray, frames: int | np.ndarray) -> Any:
        """Of the mean score of so many frames; the mean is all that the scores say under this model."""
        shrink = self.correlation + (1 - self.correlation) / frames
        middle = (self.genuine + self.impostor) / 2
        return self.separation / (self.spread * shrink) * (mean - middle)

    def bound(self, rate: float, frames: int) -> float:
        """The log-likelihood ratio that a stranger's visit reaches with probability `rate` in any of so many frames.

        By symmetry, an enrolled person's visit falls to its negative with the same probability. Wald's bounds,
        log(1 / rate), hold for endless tests of independent frames and are far too strict here. A rare event is
        simulated by visits of the enrolled person, each weighted by its likelihood for a stranger (Siegmund,
        "Importance sampling in the Monte Carlo study of sequential tests", 1976).
        """
        rng = np.random.default_rng(1976)
        visit, noise = rng.standard_normal((PATHS, 1)), rng.standard_normal((PATHS, frames))
        scores = np.sqrt(self.correlation) * visit + np.sqrt(1 - self.correlation) * noise
        number = np.arange(1, frames + 1)
        means = self.genuine + self.spread * np.cumsum(scores, 1) / number
        ratios = self.log_likelihood_ratio(means, number)
        low, high = 0.0, 60.0
        while high - low > 1e-3:
            middle = (low + high) / 2
            low, high = (middle, high) if _crossing_rate(ratios, middle) > rate else (low, middle)
        return high


def _crossing_rate(ratios: np.ndarray, bound: float) -> float:
    """A stranger's probability to reach `bound`, from ratios [visits, frames] of enrolled people."""
    above = ratios >= bound
    crossed = above.any(1)
    first = ratios[np.arange(len(ratios)), above.argmax(1)]
    return float(np.exp(-first[crossed]).sum() / len(ratios))


def _probit(rate: float) -> float:
    return NORMAL.inv_cdf(min(max(rate, RARE), 1 - RARE))
