"""One picture through the device: detect or follow, check, align, verify. Times every stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from device.alignment import align
from device.detector import Face, FaceDetector
from device.quality import Quality, QualityLimits, assess, choose_face
from device.runtimes import Verifier
from device.tracking import Tracker
from models.spec import Framing


@dataclass
class Observation:
    """What one picture gave of one face. `reason` says why there is no score.

    `scores` has one for each user; `score` is that of the only one. `track` is the face's number in a video.
    """

    scores: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    face: Face | None = None
    quality: Quality | None = None
    times_ms: dict[str, float] = field(default_factory=dict)
    track: int = 0
    crop: np.ndarray | None = None  # what the verifier saw, uint8 RGB [S, S, 3]; never leaves the process

    @property
    def score(self) -> float | None:
        return next(iter(self.scores.values()), None)


class Pipeline:
    """A detector and the verifiers of one or several users. Not thread-safe.

    `verifiers`: by user; all see the same part of a face in the same size, so that it is aligned once for all of them.
    """

    def __init__(
        self,
        detector: FaceDetector,
        verifiers: Mapping[str, Verifier],
        framing: Framing,
        limits: QualityLimits | None = None,
        tracker: Tracker | None = None,
    ):
        self.detector, self.verifiers, self.framing = detector, dict(verifiers), framing
        self.limits = limits or QualityLimits()
        self.tracker = tracker or Tracker(detector)

    @property
    def verifier(self) -> Verifier:
        """The first user's."""
        return next(iter(self.verifiers.values()))

    def observe(self, rgb: np.ndarray, *, alone: bool = False) -> Observation:
        """A photo, uint8 RGB [H, W, 3], to scores or the reason there are none. `alone` refuses a second face."""
        seen = Observation()
        with _timed(seen, "detect"):
            seen.face, seen.reason = choose_face(self.detector.detect(rgb), self.limits, alone=alone)
        if seen.face is not None:
            self._judge(seen, rgb)
        return seen

    def follow(self, rgb: np.ndarray, small: np.ndarray | None = None) -> list[Observation]:
        """The next frame of a video: one observation a face, the largest first, or one without a face.

        `small`: the same picture, reduced, as some cameras give it.
        """
        whole = Observation()
        with _timed(whole, "detect"):
            tracks = self.tracker.update(rgb, small)
        if not tracks:
            dark = rgb[::16, ::16].mean() < self.limits.min_scene
            whole.reason = "dark_scene" if dark else "no_face"
            return [whole]
        found: list[Observation] = []
        for track in tracks:
            seen = Observation(face=track.face, track=track.number, times_ms=whole.times_ms if not found else {})
            self._judge(seen, rgb)
            found.append(seen)
        return found

    def _judge(self, seen: Observation, rgb: np.ndarray) -> None:
        """Align, check and score `seen.face`."""
        assert seen.face is not None
        with _timed(seen, "align"):
            seen.crop = align(rgb, seen.face.landmarks, self.framing)
            seen.quality = assess(seen.crop, seen.face, self.limits, self.framing)
            seen.reason = seen.quality.reason
        if not seen.reason:
            with _timed(seen, "verify"):
                seen.scores = {user: verifier.score(seen.crop) for user, verifier in self.verifiers.items()}


def total_ms(observations: Sequence[Observation]) -> float:
    """Time that one frame took."""
    return sum(sum(seen.times_ms.values()) for seen in observations)


@contextmanager
def _timed(seen: Observation, stage: str) -> Iterator[None]:
    start = time.perf_counter_ns()
    yield
    seen.times_ms[stage] = (time.perf_counter_ns() - start) / 1e6
