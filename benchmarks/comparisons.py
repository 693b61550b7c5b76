"""The outcome of a protocol: every score, whose verifier gave it, and who was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Comparisons:
    """N scores. People are numbered; a negative number is somebody without a name, different ones different people."""

    score: np.ndarray  # float64 [N]
    verifier: np.ndarray  # int64 [N]: number of the enrolment
    enrolled: np.ndarray  # int64 [N]: the verifier's person
    shown: np.ndarray  # int64 [N]: the probe's person
    probe: np.ndarray  # int64 [N]: row of the probe in the face set

    def __len__(self) -> int:
        return len(self.score)

    @property
    def mated(self) -> np.ndarray:
        return np.asarray(self.enrolled == self.shown)

    @property
    def genuine(self) -> np.ndarray:
        return np.asarray(self.score[self.mated])

    @property
    def impostor(self) -> np.ndarray:
        return np.asarray(self.score[~self.mated])

    @property
    def verifiers(self) -> int:
        return len(np.unique(self.verifier))

    @property
    def people(self) -> int:
        return len(np.unique(self.enrolled))

    def where(self, chosen: np.ndarray) -> Comparisons:
        """Those of a bool mask or an index."""
        columns = {name: column[chosen] for name, column in vars(self).items()}
        return Comparisons(**columns)

    def scored(self, score: np.ndarray) -> Comparisons:
        """The same comparisons with other scores."""
        return replace(self, score=score)


def joined(parts: Sequence[Comparisons]) -> Comparisons:
    return Comparisons(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})
