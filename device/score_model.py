"""What scores say: how much likelier a visit's are for the enrolled person than for a stranger.

Frames of one visit are far from independent: who looks alike in one frame does so in the next. So a score is taken to
have two parts: the visit's level, which all its frames share, and the frame's noise, normal and new in every frame.
The mean of n frames lies about the level with the deviation noise / √n, and evidence has an end however long somebody
stands there.

How levels are distributed is not assumed: the bundle tells quantiles of the levels of strangers and of enrolled people,
from visits of people who took no part in training (benchmarks/visits.py). Beyond the outermost quantiles the
tail is exponential, with the mean excess that was measured there (Pickands, "Statistical inference using extreme order
statistics", 1975, with the shape 0): strangers' tails are heavier than the normal distribution's, and a false accept
lives in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

from toolkit.errors import ArtifactError

NORMAL = NormalDist()
PROBABILITIES = (0.002, 0.005, 0.01, 0.02, 0.05, *(k / 10 for k in range(1, 10)), 0.95, 0.98, 0.99, 0.995, 0.998)
PATHS = 2000  # simulated visits' noise; the rates move by less than a hundredth of themselves with the seed
CELLS = 800  # of the axis of levels
RAREST = 1e-9  # where the axis ends
WIDEST = 1e6  # no scores are so far apart
RARE = 1e-6  # rates are kept this far from 0 and 1, whose probits are infinite
FALLBACK_CORRELATION = 0.8  # of frames, for bundles that tell nothing of visits


@dataclass(frozen=True)
class Levels:
    """A distribution of visits' levels: their quantiles, and the mean excess beyond the outermost ones."""

    probabilities: tuple[float, ...]
    quantiles: tuple[float, ...]
    tails: tuple[float, float]  # below, above

    @classmethod
    def normal(cls, mean: float, deviation: float) -> Levels:
        """A normal distribution's, whose tails go on as they are at the outermost quantiles."""
        probits = [NORMAL.inv_cdf(p) for p in PROBABILITIES]
        tail = deviation * PROBABILITIES[0] / NORMAL.pdf(probits[0])
        return cls(PROBABILITIES, tuple(mean + deviation * z for z in probits), (tail, tail))

    def logit(self, level: np.ndarray) -> np.ndarray:
        """log(P(lower) / P(higher)): a line between quantiles and beyond them, which is an exponential tail."""
        p, q = np.array(self.probabilities), np.array(self.quantiles)
        odds = np.log(p / (1 - p))
        below, above = np.minimum(level - q[0], 0) / self.tails[0], np.maximum(level - q[-1], 0) / self.tails[1]
        return np.asarray(np.interp(level, q, odds) + below + above)

    def lower(self, level: np.ndarray) -> np.ndarray:
        """The share of visits below `level`."""
        return np.asarray(np.exp(-np.logaddexp(0, -self.logit(level))))

    def higher(self, level: np.ndarray) -> np.ndarray:
        """The share of visits above `level`; exact where it is tiny."""
        return np.asarray(np.exp(-np.logaddexp(0, self.logit(level))))

    def ends(self, rare: float) -> tuple[float, float]:
        """Levels that are not reached, but by a share `rare` on either side."""
        low = self.quantiles[0] + self.tails[0] * np.log(rare / self.probabilities[0])
        return float(low), float(self.quantiles[-1] - self.tails[1] * np.log(rare / (1 - self.probabilities[-1])))


@dataclass(frozen=True)
class ScoreModel:
    """Levels of strangers' and of the enrolled person's visits, and the deviation of a single frame about them."""

    impostor: Levels
    genuine: Levels
    noise: float

    @classmethod
    def from_manifest(cls, manifest: dict[str, Any], origin: str = "bundle") -> ScoreModel:
        """Raises ArtifactError when the bundle does not describe two distributions."""
        if visits := manifest.get("visits"):
            return cls.from_visits(visits, origin)
        return cls.from_points(manifest["operating_points"], origin)

    @classmethod
    def from_visits(cls, visits: dict[str, Any], origin: str = "bundle") -> ScoreModel:
        """From what benchmarks/visits.py measured of visits."""
        try:
            sides = [_levels(visits[side]) for side in ("impostor", "genuine")]
            noise = float(visits["noise"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArtifactError(f"{origin} tells nothing usable of visits", do="enrol the person again") from error
        if not 0 < noise < WIDEST:
            raise ArtifactError(f"{origin} tells no usable noise of frames", got=noise, do="enrol the person again")
        return cls(sides[0], sides[1], noise)._checked(origin)

    @classmethod
    def from_points(cls, points: dict[str, dict[str, Any]], origin: str = "bundle") -> ScoreModel:
        """From the error rates of single photos alone, for bundles that tell nothing of visits.

        On probit scales both rates are close to straight lines in the threshold, as they are for normal distributions
        (Martin and others, "The DET curve in assessment of detection task performance", 1997); two lines of the slope
        of the strangers' give both means and their common spread.
        """
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
        means = [float((threshold - probits * spread).mean()) for probits in (strangers, enrolled)]
        impostor, genuine = (Levels.normal(mean, spread * FALLBACK_CORRELATION**0.5) for mean in means)
        return cls(impostor, genuine, spread * (1 - FALLBACK_CORRELATION) ** 0.5)._checked(origin)

    def _checked(self, origin: str) -> ScoreModel:
        middle = len(self.genuine.quantiles) // 2
        if not self.genuine.quantiles[middle] > self.impostor.quantiles[middle]:
            raise ArtifactError(f"{origin} cannot tell its person from strangers", do="enrol from other photos")
        return self

    @property
    def axis(self) -> np.ndarray:
        """Mean scores that are told apart, float64 [CELLS]."""
        ends = [self.impostor.ends(RAREST), self.genuine.ends(RARE)]
        margin = 6 * self.noise
        return np.linspace(min(low for low, _ in ends) - margin, max(high for _, high in ends) + margin, CELLS)

    def log_likelihood_ratio(self, mean: float | np.ndarray, frames: int) -> Any:
        """Of the mean score of so many frames; the mean is all that the scores say under this model."""
        return np.interp(mean, *_curve(self, frames))

    def bound(self, rate: float, frames: int) -> float:
        """The log-likelihood ratio that a stranger's visit reaches with probability `rate` in any of so many frames.

        Wald's bounds, log(1 / rate), hold for endless tests of independent frames. Here the noise of visits is
        simulated, and of each it is known how rare the level is that reaches the bound with it: rates are never
        counted, so that rare ones are as exact as others.
        """
        paths = self._noise_of_means(frames)
        return _bisect(lambda at: float(self.impostor.higher((self._means_at(at, frames) - paths).min(1)).mean()), rate)

    def floor(self, rate: float, frames: int) -> float:
        """The ratio to which an enrolled person's visit falls with probability `rate` in any of so many frames."""
        paths = self._noise_of_means(frames)
        return -_bisect(lambda at: float(self.genuine.lower((self._means_at(-at, frames) - paths).max(1)).mean()), rate)

    def _means_at(self, ratio: float, frames: int) -> np.ndarray:
        """The mean scores of 1, 2 … frames that make this ratio, float64 [frames]."""
        curves = (_curve(self, number) for number in range(1, frames + 1))
        return np.array([np.interp(ratio, ratios, means) for means, ratios in curves])

    def _noise_of_means(self, frames: int) -> np.ndarray:
        """What noise adds to the mean of 1, 2 … frames, in simulated visits, float64 [PATHS, frames]."""
        noise = np.random.default_rng(1976).standard_normal((PATHS, frames))
        return np.asarray(self.noise * np.cumsum(noise, 1) / np.arange(1, frames + 1))


@lru_cache(maxsize=4096)
def _curve(model: ScoreModel, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean scores of so many frames, and their log-likelihood ratios: rising, for more score is never less evidence."""
    axis = model.axis
    step = axis[1] - axis[0]
    deviation = max(model.noise / frames**0.5, step / 2)
    reach = np.arange(-int(6 * deviation / step) - 1, int(6 * deviation / step) + 2) * step
    kernel = np.exp(-(reach**2) / (2 * deviation**2))
    chances = [np.convolve(_mass(levels, axis, step), kernel, "same") for levels in (model.impostor, model.genuine)]
    ratios = np.log(chances[1] + 1e-300) - np.log(chances[0] + 1e-300)
    # Far out, where few visits were seen, ratios of two tails mean little: outwards they change by one for each spread.
    medians = [levels.quantiles[len(levels.quantiles) // 2] for levels in (model.impostor, model.genuine)]
    least = axis / (model.impostor.quantiles[-1] - model.impostor.quantiles[0]) * 6
    middle, rest = int(np.searchsorted(axis, sum(medians) / 2)), ratios - least
    low = np.minimum.accumulate(rest[:middle][::-1])[::-1]
    return axis, np.append(low, np.maximum.accumulate(rest[middle:])) + least


def _mass(levels: Levels, axis: np.ndarray, step: float) -> np.ndarray:
    """The share of visits in each cell of the axis; as differences of small numbers on either side of the middle."""
    edges = np.append(axis - step / 2, axis[-1] + step / 2)
    low, high = levels.lower(edges), levels.higher(edges)
    return np.asarray(np.where(low[1:] < 0.5, np.diff(low), -np.diff(high)))


def _bisect(rate_at: Any, rate: float) -> float:
    """The least of 0 … 60 at which a falling rate is `rate` or less."""
    low, high = 0.0, 60.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if rate_at(middle) > rate else (low, middle)
    return high


def _levels(told: dict[str, Any]) -> Levels:
    """Raises KeyError, TypeError, ValueError, OverflowError for what describes no distribution."""
    p, q, tails = (np.array([float(x) for x in told[key]]) for key in ("probabilities", "quantiles", "tails"))
    sound = len(p) == len(q) >= 3 and len(tails) == 2 and np.isfinite([*p, *q, *tails]).all()
    sound = sound and p[0] > 0 and p[-1] < 1 and (np.diff(p) > 0).all() and (np.diff(q) >= 0).all()
    if not (sound and 0 < q[-1] - q[0] < WIDEST and tails.min() > 1 / WIDEST and tails.max() < WIDEST):
        raise ValueError("these are no quantiles")
    return Levels(tuple(p.tolist()), tuple(q.tolist()), (float(tails[0]), float(tails[1])))


def _probit(rate: float) -> float:
    return NORMAL.inv_cdf(min(max(rate, RARE), 1 - RARE))
