"""Frames from files: a folder of photos, or a video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from device.image import IMAGE_SUFFIXES, read_image
from device.sources.base import Frame, Source
from toolkit.errors import InputError


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

        self._path, self._stopped = path, False
        self._capture: Any = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise InputError(f"{path} is not a readable video", do="convert it to MP4 (H.264) or AVI (MJPEG)")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self._rate = rate if 0 < rate < 1000 else 25.0  # containers without a rate report 0 or nonsense

    def frames(self) -> Iterator[Frame]:
        import cv2

        number = 0
        while not self._stopped:
            ok, bgr = self._capture.read()
            if not ok:
                break
            yield Frame(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)), number / self._rate)
            number += 1
        if number == 0 and not self._stopped:
            raise InputError(f"{self._path} holds no frame that can be decoded")

    def stop(self) -> None:
        self._stopped = True

    def __exit__(self, *_: object) -> None:
        self._capture.release()
