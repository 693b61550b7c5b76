"""Scores of real model files: each template becomes a file, and that file sees the probes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from device.runtimes import RUNTIMES, choose_runtime, load_verifier
from export.bundle import write_model
from models.spec import VerifierSpec

if TYPE_CHECKING:
    from export.tflite_writer import TfliteTemplate


@lru_cache(maxsize=4)
def _template(spec: VerifierSpec, precision: str) -> TfliteTemplate:
    from export.tflite_writer import TfliteTemplate

    return TfliteTemplate(spec, precision)


@dataclass(frozen=True)
class FileScorer:
    """Writes θ in a precision for a runtime, loads it there and scores faces."""

    spec: VerifierSpec
    precision: str = "fp32"
    runtime: str = "auto"

    def _write(self, runtime: str, theta: np.ndarray) -> bytes:
        kind = RUNTIMES[runtime].kind
        if kind == "tflite":
            return _template(self.spec, self.precision).write(theta)
        return write_model(self.spec, theta, kind, self.precision)

    def scores(self, theta: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """θ [P] and faces uint8 RGB [N, H, W, 3] to float64 [N]."""
        name = choose_runtime(self.runtime)
        data = self._write(name, theta)
        with load_verifier(name, data, self.precision) as verifier:
            return np.array([verifier.score(face) for face in pixels])
