"""What strangers' verifiers say of a face: some faces they take for their own more often than others.

One threshold then lets in those faces at many doors, and keeps out the rest at their own. Biometrics takes each probe's
scores under a cohort of other models to one mean and one deviation ("T-norm": Auckenthaler, Carey and Lloyd-Thomas,
"Score normalization for text-independent speaker verification systems", 2000), which costs a device many verifiers.
Here it is learned: distillation asks for the backbone's cosines so normalised, and a penalty keeps what the bank's
templates say of each face alike. Nothing is added to the verifier. Its counterpart for users is
`models/normalisation.py`.

The moments are of single photos' templates. While distillation compares people rather than photos (`person_targets`)
they fit less well; training ends with photos.

This is the project's own step; the paper is not known to have one.

Letters: U templates, N faces, D template dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 65_536  # templates read at a time: they may be on disk, and more than memory holds


@dataclass(frozen=True)
class Cohort:
    """Moments of strangers' templates: `mean` [D], `covariance` [D, D], and the deviation of their usual cosines."""

    mean: np.ndarray
    covariance: np.ndarray
    deviation: float

    @classmethod
    def of(cls, templates: np.ndarray) -> Cohort:
        """Of templates [N, D] of unit length."""
        total, squares = np.zeros(templates.shape[1]), np.zeros((templates.shape[1],) * 2)
        for start in range(0, len(templates), BLOCK):
            block = np.asarray(templates[start : start + BLOCK], np.float64)
            total += block.sum(0)
            squares += block.T @ block
        mean = total / len(templates)
        covariance = squares / len(templates) - np.outer(mean, mean)
        # Of one cosine of two strangers' templates: the root of the mean of xᵀ cov x over x.
        deviation = float(np.sqrt(np.trace(covariance @ squares) / len(templates)))
        return cls(mean, covariance, deviation)

    def as_enrolled(self, templates: np.ndarray) -> np.ndarray:
        """Templates [U, D] such that their products with `as_shown` ones are normalised cosines."""
        return np.asarray(templates - self.mean, np.float32)

    def as_shown(self, templates: np.ndarray) -> np.ndarray:
        """Faces' templates [N, D], each scaled so that strangers' products with it spread as all do on average."""
        spread = np.sqrt(np.einsum("nd,de,ne->n", templates, self.covariance, templates, optimize=True))
        return np.asarray(templates * (self.deviation / np.maximum(spread, 1e-6))[:, None], np.float32)


def comparable(enrolled: np.ndarray, shown: np.ndarray, cohort: Cohort | None) -> tuple[np.ndarray, np.ndarray]:
    """Templates [U, D] and [N, D] whose products are the cosines to learn: as they are, or normalised by a cohort."""
    if cohort is None:
        return enrolled, shown
    return cohort.as_enrolled(enrolled), cohort.as_shown(shown)
