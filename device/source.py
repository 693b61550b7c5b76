"""Where frames come from: a camera, a video file or a folder of photos, behind one context manager with timeouts."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device.image import IMAGE_SUFFIXES, read_image
from toolkit.errors import InputError, MissingError, UsageError


@dataclass(frozen=True)
class Frame:
    """uint8 RGB [H, W, 3] and its time: of the video for files, of the clock for cameras. `name` of a photo."""

    rgb: np.ndarray
    time_s: float
    name: str = ""


class Source(AbstractContextManager["Source"]):
    """`frames()` yields until the source ends; a camera never ends. `single` frames belong to no common moment."""

    single = False

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Frames in order, each at its time."""

    def __exit__(self, *_: object) -> None:
        """Nothing to release by default."""


class FolderSource(Source):
    """Photos of a folder in the order of their names. Unreadable ones raise InputError when they are reached."""

    single = True

    def __init__(self, path: Path):
        self._files = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not self._files:
            raise InputError(f"{path} holds no photos", expected=", ".join(IMAGE_SUFFIXES))

    def frames(self) -> Iterator[Frame]:
        for number, file in enumerate(self._files):
            yield Frame(read_image(file), float(number), file.name)


class VideoSource(Source):
    """Every frame of a video file, timed by its frame rate."""

    def __init__(self, path: Path):
        import cv2

        self._path = path
        self._capture: Any = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise InputError(f"{path} is not a readable video", do="convert it to MP4 (H.264) or AVI (MJPEG)")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self._rate = rate if 0 < rate < 1000 else 25.0  # containers without a rate report 0 or nonsense

    def frames(self) -> Iterator[Frame]:
        number = 0
        while True:
            ok, bgr = self._capture.read()
            if not ok:
                break
            yield Frame(np.ascontiguousarray(bgr[:, :, ::-1]), number / self._rate)
            number += 1
        if number == 0:
            raise InputError(f"{self._path} holds no frame that can be decoded")

    def __exit__(self, *_: object) -> None:
        self._capture.release()


class CameraSource(Source):
    """The newest frame of a camera, read on a thread of its own so that a stuck driver cannot hang the process."""

    def __init__(self, index: int, timeout_s: float = 5.0):
        import cv2

        self._index, self._timeout_s = index, timeout_s
        self._capture: Any = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise MissingError(
                f"camera {index} cannot be opened",
                do="check the cable and that your user is in the group `video`; `toolkit doctor` lists cameras",
            )
        self._newest: queue.Queue[np.ndarray | None] = queue.Queue(maxsize=1)
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            ok, bgr = self._capture.read()
            with contextlib.suppress(queue.Empty):
                self._newest.get_nowait()  # nobody took the older frame: it is of no use any more
            self._newest.put(bgr if ok else None)
            if not ok:
                return

    def frames(self) -> Iterator[Frame]:
        start = time.monotonic()
        while True:
            try:
                bgr = self._newest.get(timeout=self._timeout_s)
            except queue.Empty:
                bgr = None
            if bgr is None:
                raise MissingError(
                    f"camera {self._index} stopped giving frames", do="check the cable, then start again"
                )
            yield Frame(np.ascontiguousarray(bgr[:, :, ::-1]), time.monotonic() - start)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._reader.join(timeout=1.0)
        if not self._reader.is_alive():
            self._capture.release()  # a reader stuck in the driver still uses it; the process's end frees it then


def open_source(where: str) -> Source:
    """A camera index ("0"), a video file or a folder of photos. Raises UsageError, InputError, MissingError."""
    path = Path(where)
    if path.is_dir():
        return FolderSource(path)
    if path.is_file():
        return VideoSource(path)
    index = where.removeprefix("/dev/video")
    if index.isdecimal() and len(index) <= 3:
        return CameraSource(int(index))
    raise UsageError(f"no such source: {where}", expected="a camera index, a video file or a folder of photos")
