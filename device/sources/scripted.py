"""A camera that does what a script says: the only way to see every fault on demand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from device.sources.base import FAULTS, CameraError

Picture = Callable[[int], np.ndarray]
Step = tuple[str, float]


class ScriptedCapture:
    """Plays steps, one after the other, over all its openings; then the camera is "missing" for good.

    ("frames", n): n pictures, `picture(i)` with i counted from the start. ("still", n): the last picture n times.
    ("hang", s): a read that takes s seconds. ("grey", n): n pictures with one channel. ("crash", 0): the driver raises.
    Any name of FAULTS: that fault, at the next read or opening.
    """

    name = "script"

    def __init__(self, picture: Picture, steps: Iterable[Step], interval_s: float = 0.0):
        self._picture, self._steps, self._interval_s = picture, iter(steps), interval_s
        self._pictures: Iterator[np.ndarray] = iter(())
        self._number = 0
        self.opened = self.faults = 0

    def __copy__(self) -> ScriptedCapture:
        return self  # one script for all openings

    def open(self) -> None:
        self.opened += 1
        self._step_on_fault()

    def read(self) -> tuple[np.ndarray, np.ndarray | None]:
        if self._interval_s:
            time.sleep(self._interval_s)
        while (picture := next(self._pictures, None)) is None:
            self._step_on_fault()
        return picture, None

    def close(self) -> None:
        """Nothing is held."""

    def _step_on_fault(self) -> None:
        """Begin the next step when the present one is over. Raises CameraError when it is a fault."""
        if (picture := next(self._pictures, None)) is not None:
            self._pictures = _chain(picture, self._pictures)
            return
        kind, amount = next(self._steps, ("missing", 0))
        self.faults += kind != "frames"
        if kind in FAULTS:
            raise CameraError(kind)
        if kind == "crash":
            raise ValueError("the driver's own error")
        if kind == "hang":
            time.sleep(amount)
            return
        self._pictures = self._play(kind, int(amount))

    def _play(self, kind: str, count: int) -> Iterator[np.ndarray]:
        for _ in range(count):
            if kind != "still":
                self._number += 1
            picture = self._picture(self._number)
            yield picture[:, :, 0] if kind == "grey" else picture


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest
