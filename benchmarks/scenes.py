"""Video made of photographs: people who come, look at the camera and leave, as a door's camera would see them.

What such video cannot show: a change of expression, light that moves over a face, and parallax, because a photograph
is flat. `turn` bends the picture over a cylinder for a crude turn of the head.

`python -m benchmarks.scenes OUT.avi PHOTO… [--fps F] [--shrink N]` writes such a video: one after the other, everybody
comes for three seconds, with `--empty` seconds of nobody after each.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from device.detector import PHOTO_SIDES_PX, Face, FaceDetector
from device.image import read_image
from toolkit.errors import InputError

WIDTH_PX, HEIGHT_PX = 640, 480
FPS = 15.0


@dataclass(frozen=True)
class Portrait:
    """A photograph, uint8 RGB [H, W, 3], and its largest face."""

    rgb: np.ndarray
    face: Face


@dataclass(frozen=True)
class View:
    """How one frame shows a portrait. Positions are those of the face's middle, in pixels of the frame."""

    face_px: float = 160.0  # width of the face
    x_px: float = WIDTH_PX / 2
    y_px: float = HEIGHT_PX / 2
    roll_deg: float = 0.0
    turn: float = 0.0  # of the head, −1 to 1: how far the middle of the face moves against its edge, in half widths
    gain: float = 1.0


def portrait(path: Path, detector: FaceDetector) -> Portrait:
    """Raises InputError when the photo shows no face."""
    rgb = read_image(path)
    faces = detector.detect(rgb)
    if not faces:
        raise InputError(f"{path} shows no face")
    return Portrait(rgb, faces[0])


def portrait_detector(model: bytes) -> FaceDetector:
    return FaceDetector(model, PHOTO_SIDES_PX)


def render(subject: Portrait, view: View, rng: np.random.Generator) -> np.ndarray:
    """One frame uint8 RGB [480, 640, 3] before a grey wall, with a sensor's noise of 2 steps."""
    import cv2

    face = subject.face
    zoom = view.face_px / face.width
    angle = np.deg2rad(view.roll_deg)
    matrix = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([face.x + face.width / 2, face.y + face.height / 2])
    move = np.hstack([matrix, (np.array([view.x_px, view.y_px]) - matrix @ middle)[:, None]])
    source = cv2.GaussianBlur(subject.rgb, (0, 0), 0.4 / zoom) if zoom < 0.7 else subject.rgb  # no aliasing
    frame = cv2.warpAffine(source, move, (WIDTH_PX, HEIGHT_PX), borderValue=(90, 90, 90))
    if view.turn:
        frame = _turned(np.asarray(frame), view)
    if view.gain != 1:
        frame = cv2.convertScaleAbs(frame, alpha=view.gain)
    x, y = rng.integers(0, 64, 2)
    noise = _noise()[y : y + HEIGHT_PX, x : x + WIDTH_PX]
    return np.asarray(cv2.add(frame, noise, dtype=cv2.CV_8U))


@cache
def _noise() -> np.ndarray:
    """More than a frame of a sensor's noise; frames take their part of it from different places."""
    return np.random.default_rng(0).normal(0, 2, (HEIGHT_PX + 64, WIDTH_PX + 64, 3)).round().astype(np.int16)


def _turned(picture: np.ndarray, view: View) -> np.ndarray:
    """The face's middle moved sideways more than its edge, as on a cylinder that turns."""
    import cv2

    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX].astype(np.float32)
    across, along = (x - view.x_px) / view.face_px * 2, (y - view.y_px) / view.face_px * 1.6
    bulge = np.clip(1 - across**2, 0, 1) * np.clip(1 - along**2, 0, 1)
    return np.asarray(
        cv2.remap(picture, (x - view.turn * view.face_px / 2 * bulge).astype(np.float32), y, cv2.INTER_LINEAR)
    )


def visit(subject: Portrait, seconds: float, seed: int, *, near_px: float = 170.0, fps: float = FPS) -> Iterator[View]:
    """Views of somebody who comes closer for the first third, and then stands, swaying, before the camera."""
    rng = np.random.default_rng(seed)
    phase, side = rng.uniform(0, 2 * np.pi, 4), rng.uniform(-60, 60)
    frames = max(1, round(seconds * fps))
    for i in range(frames):
        t, come = i / fps, min(1.0, 3 * i / frames)
        sway = np.sin(2 * np.pi * np.array([0.31, 0.43, 0.27, 0.5]) * t + phase)
        yield View(
            face_px=near_px * (0.35 + 0.65 * come) * (1 + 0.02 * sway[3]),
            x_px=WIDTH_PX / 2 + side * (1 - come) + 12 * sway[0],
            y_px=HEIGHT_PX / 2 + 6 * sway[1],
            roll_deg=3 * float(sway[2]),
            turn=0.10 * float(sway[0]),
        )


def film(subject: Portrait, seconds: float, seed: int, fps: float = FPS) -> Iterator[np.ndarray]:
    """The frames of a visit."""
    rng = np.random.default_rng(seed)
    for view in visit(subject, seconds, seed, fps=fps):
        yield render(subject, view, rng)


def nobody(seconds: float, level: int = 90, fps: float = FPS) -> Iterator[np.ndarray]:
    """The grey wall alone."""
    wall = np.full((HEIGHT_PX, WIDTH_PX, 3), level, np.int16)
    rng = np.random.default_rng(0)
    for _ in range(round(seconds * fps)):
        x, y = rng.integers(0, 64, 2)
        yield np.clip(wall + _noise()[y : y + HEIGHT_PX, x : x + WIDTH_PX], 0, 255).astype(np.uint8)


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float = FPS, shrink: int = 1) -> Path:
    """Frames as Motion JPEG, their sides divided by `shrink`."""
    import cv2

    size = (WIDTH_PX // shrink, HEIGHT_PX // shrink)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, size)
    for frame in frames:
        writer.write(cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), size, interpolation=cv2.INTER_AREA))
    writer.release()
    return path


def main() -> None:
    from models.files import find_model
    from models.fold import detector_file

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--fps", type=float, default=FPS)
    parser.add_argument("--shrink", type=int, default=1, help="divide the picture's 640×480 pixels by this, a side")
    parser.add_argument("--empty", type=float, default=2.0, help="seconds of nobody after each visit")
    o = parser.parse_args()
    finder = portrait_detector(detector_file(find_model("yunet")))
    visits = (film(portrait(photo, finder), 3.0, seed, o.fps) for seed, photo in enumerate(o.photos))
    scenes = (frame for visit in visits for frame in (*visit, *nobody(o.empty, fps=o.fps)))
    write_video(o.out, scenes, o.fps, o.shrink)


if __name__ == "__main__":
    main()
