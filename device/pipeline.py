"""One picture through the device: detect, check, align, verify. Times every stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from device.alignment import align, shrink
from device.detector import Face, FaceDetector
from device.quality import Quality, QualityLimits, assess, choose_face
from device.runtimes import Verifier


@dataclass
class Observation:
    """What one picture gave. `score` is None and `reason` says why when no score could be computed."""

    score: float | None = None
    reason: str = ""
    face: Face | None = None
    quality: Quality | None = None
    times_ms: dict[str, float] = field(default_factory=dict)


class Pipeline:
    """Detector and verifier of one bundle, held together. Not thread-safe."""

    def __init__(self, detector: FaceDetector, verifier: Verifier, input_px: int, limits: QualityLimits | None = None):
        self.detector, self.verifier, self.input_px = detector, verifier, input_px
        self.limits = limits or QualityLimits()

    def observe(self, rgb: np.ndarray, *, alone: bool = False) -> Observation:
        """uint8 RGB [H, W, 3] to a score or the reason there is none. `alone` refuses a second face."""
        seen = Observation()
        with _timed(seen, "detect"):
            seen.face, seen.reason = choose_face(self.detector.detect(rgb), self.limits, alone=alone)
        if seen.face is None:
            return seen
        with _timed(seen, "align"):
            crop = align(rgb, seen.face.landmarks)
            seen.quality = assess(crop, seen.face, self.limits)
            seen.reason = seen.quality.reason
        if seen.reason:
            return seen
        with _timed(seen, "verify"):
            seen.score = self.verifier.score(shrink(crop, self.input_px))
        return seen


@contextmanager
def _timed(seen: Observation, stage: str) -> Iterator[None]:
    start = time.perf_counter_ns()
    yield
    seen.times_ms[stage] = (time.perf_counter_ns() - start) / 1e6
