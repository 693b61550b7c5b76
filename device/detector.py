"""YuNet face detection (Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", 2023): boxes and landmarks.

The file is the official float-folded network with free height and width. It runs in ONNX Runtime where that is
installed, else in OpenCV's own network module, so that a LiteRT-only device needs no second runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from device.alignment import reduce
from device.onnx_session import onnx_session

STRIDES = (8, 16, 32)
MIN_SCORE = 0.6  # YuNet's demo asks for 0.9; doors have worse light, and the quality gate follows
MAX_OVERLAP = 0.3  # intersection over union above which the weaker of two boxes is dropped, as in OpenCV

# A face at arm's length or at a door is large, and time is short. Photographs show faces small and large; YuNet finds
# close-ups better in a smaller picture.
CAMERA_SIDES_PX = (320,)
PHOTO_SIDES_PX = (640, 320, 160)

# The window in which a face is followed: one that moves by 0.4 of its own size between two frames is still inside.
WINDOW_FACES = 1.8
MAX_WINDOW_PX = 160  # larger ones are shrunk; landmarks found at half the scale verify as well

Forward = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the image given. Landmarks [5, 2] as (x, y): the eye at the left of the image,
    the other eye, nose tip, mouth corner at the left, the other mouth corner."""

    x: float
    y: float
    width: float
    height: float
    score: float
    landmarks: np.ndarray

    @property
    def area(self) -> float:
        return self.width * self.height

    @property
    def eye_distance_px(self) -> float:
        return float(np.linalg.norm(self.landmarks[1] - self.landmarks[0]))


class FaceDetector:
    """Finds faces. The longer side is scaled to each of `long_sides_px` (never enlarged) until one shows any."""

    def __init__(self, model: bytes, long_sides_px: tuple[int, ...] = CAMERA_SIDES_PX, threads: int = 1):
        self.long_sides_px = long_sides_px
        self._forward = _onnxruntime(model, threads) or _opencv(model)

    def detect(self, rgb: np.ndarray) -> list[Face]:
        """Faces in uint8 RGB [H, W, 3], largest first."""
        return next((faces for side in self.long_sides_px if (faces := self._detect_at(rgb, side))), [])

    def detect_scaled(self, small: np.ndarray, shape: tuple[int, ...]) -> list[Face]:
        """Faces of a picture that was reduced from one of `shape` [H, W, …], in that one's pixels, largest first."""
        factor = np.array([small.shape[1] / shape[1], small.shape[0] / shape[0]])
        return sorted(self._find(small, factor), key=lambda face: -face.area)

    def follow(self, rgb: np.ndarray, face: Face) -> Face | None:
        """The same face a moment later, found in a small window around where it was; None when it is not there."""
        size = WINDOW_FACES * max(face.width, face.height)
        factor = max(1, int(np.ceil(size / MAX_WINDOW_PX)))
        side = int(np.ceil(size / factor / STRIDES[-1])) * STRIDES[-1] * factor
        middle = np.array([face.x + face.width / 2, face.y + face.height / 2])
        most = np.array(rgb.shape[1::-1])
        low = np.clip(np.rint(middle - side / 2), 0, np.maximum(most - side, 0)).astype(int)
        window = rgb[low[1] : low[1] + side, low[0] : low[0] + side]
        found = [_moved(other, low) for other in self._find(reduce(window, factor), np.full(2, 1 / factor))]
        return max(found, key=lambda other: overlap(face, other), default=None)

    def _detect_at(self, rgb: np.ndarray, long_side_px: int) -> list[Face]:
        import cv2

        height, width = rgb.shape[:2]
        scale = min(1.0, long_side_px / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)) if scale < 1 else rgb
        # Width and height were rounded apart; divide each by what it really became.
        faces = self._find(small, np.array([small.shape[1] / width, small.shape[0] / height]))
        return sorted(faces, key=lambda face: -face.area)

    def _find(self, rgb: np.ndarray, factor: np.ndarray) -> list[Face]:
        """Faces of a picture at the network's own scale; coordinates (x, y) are divided by `factor`."""
        # The network wants multiples of its largest stride; black padding at the right and bottom moves nothing.
        padded = [-(-side // STRIDES[-1]) * STRIDES[-1] for side in rgb.shape[:2]]
        canvas = np.zeros((3, *padded), np.float32)
        canvas[:, : rgb.shape[0], : rgb.shape[1]] = rgb.transpose(2, 0, 1)[::-1]  # BGR 0..255
        return _suppress(_decode(self._forward(canvas[None]), padded[1], factor))


def _moved(face: Face, by: np.ndarray) -> Face:
    return replace(face, x=face.x + float(by[0]), y=face.y + float(by[1]), landmarks=face.landmarks + by)


def _decode(outputs: dict[str, np.ndarray], width: int, factor: np.ndarray) -> list[Face]:
    """Anchor-free heads of each stride to faces in the original image's pixels."""
    faces = []
    for stride in STRIDES:
        score = np.sqrt(np.clip(outputs[f"cls_{stride}"], 0, 1) * np.clip(outputs[f"obj_{stride}"], 0, 1)).ravel()
        columns = width // stride
        for i in np.flatnonzero(score >= MIN_SCORE):
            cell = np.array([i % columns, i // columns])
            box = outputs[f"bbox_{stride}"].reshape(-1, 4)[i]
            centre = (cell + box[:2]) * stride / factor
            size = np.exp(box[2:]) * stride / factor
            points = (outputs[f"kps_{stride}"].reshape(-1, 5, 2)[i] + cell) * stride / factor
            x, y = centre - size / 2
            faces.append(Face(float(x), float(y), float(size[0]), float(size[1]), float(score[i]), points))
    return faces


def _suppress(faces: list[Face]) -> list[Face]:
    """Keep the best-scored of overlapping boxes."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(overlap(face, other) < MAX_OVERLAP for other in kept):
            kept.append(face)
    return kept


def overlap(a: Face, b: Face) -> float:
    """Intersection over union of two boxes."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    shared = max(0.0, width) * max(0.0, height)
    return shared / (a.area + b.area - shared)


def _onnxruntime(model: bytes, threads: int) -> Forward | None:
    try:
        session = onnx_session(model, threads)
    except ImportError:
        return None
    names = [output.name for output in session.get_outputs()]
    source = session.get_inputs()[0].name
    return lambda x: dict(zip(names, session.run(None, {source: x}), strict=True))


def _opencv(model: bytes) -> Forward:
    import cv2

    network: Any = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
    names = list(network.getUnconnectedOutLayersNames())

    def forward(x: np.ndarray) -> dict[str, np.ndarray]:
        network.setInput(x)
        return dict(zip(names, network.forward(names), strict=True))

    return forward
