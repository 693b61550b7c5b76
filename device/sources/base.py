"""What every source yields: frames, and for cameras the outages between them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

# Why a camera gives no usable frame, and what a person can do about it.
FAULTS = {
    "missing": "there is no such camera; connect it, or name one that `toolkit cameras` lists",
    "permission": "no permission to use the camera; add the user to the group `video`",
    "busy": "another program uses the camera; end it",
    "unplugged": "the camera went away; check its cable",
    "frozen": "the camera gives no new picture; it is being opened again",
    "format": "the camera gives pictures that cannot be used; choose another mode, see `toolkit cameras`",
    "unreachable": "the stream cannot be reached; check its address and the network",
    "package": "picamera2 is not installed; run `sudo apt install python3-picamera2` and use the system's packages",
}


class CameraError(Exception):
    """One of FAULTS, with the driver's own words when it has any."""

    def __init__(self, kind: str, detail: str = ""):
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind, self.detail = kind, detail


@dataclass(frozen=True)
class Frame:
    """uint8 RGB [H, W, 3] and its time: of the video for files, of the clock for cameras. `name` of a photo.

    `small` is the same picture as the camera's own reduced stream gives it, where there is one.
    """

    rgb: np.ndarray
    time_s: float
    name: str = ""
    small: np.ndarray | None = None


@dataclass(frozen=True)
class Outage:
    """No frame for now, and why; yielded again and again while it lasts, so that timers go on."""

    kind: str
    time_s: float
    detail: str = ""
    attempts: int = 0

    @property
    def advice(self) -> str:
        return FAULTS[self.kind]


class Source(AbstractContextManager["Source"]):
    """`frames()` yields until the source ends or is stopped; a camera never ends by itself.

    `single` frames belong to no common moment: they are photos.
    """

    single = False
    live = False
    dropped = 0  # frames that nobody took in time

    @abstractmethod
    def frames(self) -> Iterator[Frame | Outage]:
        """Frames in order, each at its time."""

    def stop(self) -> None:
        """Let `frames()` end soon; may be called from a signal handler or another thread."""

    def __exit__(self, *_: object) -> None:
        """Nothing to release by default."""
