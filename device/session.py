"""From scores of single frames to a decision about a person: the mean of the last frames against the threshold."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from device.detector import Face, overlap
from device.pipeline import Observation

SAME_FACE_OVERLAP = 0.2  # a box that overlaps the last one less than this is taken for another person
GONE_S = 1.0  # without a usable face for so long, what was collected is forgotten


@dataclass(frozen=True)
class Decision:
    """Accepted or rejected, and on what: the fused score, and the number of frames it is the mean of."""

    accepted: bool
    score: float
    threshold: float
    frames: int
    time_s: float


class Session:
    """Collects `frames` scores of what looks like one person, decides, and starts again.

    The threshold was set on single frames. The mean of several varies less, for genuine and impostor alike, so at
    the same threshold a fused decision errs less often on both sides.
    """

    def __init__(self, threshold: float, frames: int):
        self.threshold, self.frames = threshold, frames
        self._scores: deque[float] = deque(maxlen=frames)
        self._last_face: Face | None = None
        self._last_time_s = 0.0

    def add(self, seen: Observation, time_s: float) -> Decision | None:
        """Take one observation; return a decision when enough have come together."""
        if seen.score is None or seen.face is None:
            if time_s - self._last_time_s > GONE_S:
                self._forget()
            return None
        another = self._last_face is not None and overlap(self._last_face, seen.face) < SAME_FACE_OVERLAP
        if another or time_s - self._last_time_s > GONE_S:
            self._forget()
        self._scores.append(seen.score)
        self._last_face, self._last_time_s = seen.face, time_s
        if len(self._scores) < self.frames:
            return None
        score = sum(self._scores) / len(self._scores)
        decision = Decision(score >= self.threshold, score, self.threshold, len(self._scores), time_s)
        self._forget()
        return decision

    def _forget(self) -> None:
        self._scores.clear()
        self._last_face = None
