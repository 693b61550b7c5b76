"""Scores of real model files: each template becomes a file, and that file sees the probes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from device.runtimes import RUNTIMES, Verifier, choose_runtime, load_verifier
from export.stencil import Stencil, file_tensors
from models.spec import VerifierSpec


@lru_cache(maxsize=4)
def _stencil(spec: VerifierSpec, kind: str, precision: str) -> Stencil:
    return Stencil(spec, kind, precision)


@dataclass(frozen=True)
class FileScorer:
    """Writes θ in a precision for a runtime, loads it there and scores faces."""

    spec: VerifierSpec
    precision: str = "fp32"
    runtime: str = "auto"

    def open(self, theta: np.ndarray) -> Verifier:
        """θ [P] as a model file, loaded."""
        name = choose_runtime(self.runtime)
        data = _stencil(self.spec, RUNTIMES[name].kind, self.precision).fill(
            file_tensors(self.spec, theta, self.precision)
        )
        return load_verifier(name, data, self.precision)

    def scores(self, theta: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """θ [P] and faces uint8 RGB [N, H, W, 3] to float64 [N]."""
        with self.open(theta) as verifier:
            return np.array([verifier.score(face) for face in pixels])
