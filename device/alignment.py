"""From landmarks to the upright 112×112 crop that backbone and verifier were trained on. The same code on both ends."""

from __future__ import annotations

import numpy as np

CROP_PX = 112
# The ArcFace template (Deng et al., "ArcFace", 2019): eyes, nose tip, mouth corners in a 112×112 crop.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift [2, 3] that brings points [N, 2] closest to others, without reflection.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
    """
    source_mean, target_mean = source.mean(0), target.mean(0)
    a, b = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(b.T @ a / len(source))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u * sign @ vt
    scale = (singular * sign).sum() / max(a.var(0).sum(), 1e-12)
    return np.hstack([scale * rotation, (target_mean - scale * rotation @ source_mean)[:, None]])


def align(rgb: np.ndarray, landmarks: np.ndarray, side_px: int = CROP_PX) -> np.ndarray:
    """uint8 RGB [H, W, 3] and landmarks [5, 2] in its pixels to the crop uint8 RGB [side_px, side_px, 3].

    Edge pixels are repeated outside the image. A face much larger than the crop is first shrunk by area, because
    bilinear sampling alone would skip pixels.
    """
    import cv2

    matrix = similarity(landmarks, TEMPLATE * (side_px / CROP_PX))
    zoom = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if zoom < 0.5:
        rgb, corner, factor = _shrink_around(rgb, landmarks, zoom)
        # Coordinates are pixel centres, so half a pixel is added before scaling and taken off after it.
        matrix = similarity((landmarks - corner + 0.5) * factor - 0.5, TEMPLATE * (side_px / CROP_PX))
    return np.asarray(
        cv2.warpAffine(rgb, matrix, (side_px, side_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def _shrink_around(rgb: np.ndarray, landmarks: np.ndarray, zoom: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of the image around a face, shrunk by `zoom`; the part's corner and its exact factor, both (x, y)."""
    import cv2

    centre, reach = landmarks.mean(0), 1.2 * CROP_PX / zoom
    height, width = rgb.shape[:2]
    low = np.clip(np.floor(centre - reach), 0, [width - 1, height - 1]).astype(int)
    high = np.clip(np.ceil(centre + reach), low + 1, [width, height]).astype(int)
    part = rgb[low[1] : high[1], low[0] : high[0]]
    size = np.maximum(1, np.rint(np.array(part.shape[1::-1]) * zoom)).astype(int)
    small = np.asarray(cv2.resize(part, (int(size[0]), int(size[1])), interpolation=cv2.INTER_AREA))
    return small, low, size / np.array(part.shape[1::-1])


def shrink(crop: np.ndarray, side_px: int) -> np.ndarray:
    """A square RGB crop resampled to side_px × side_px by pixel area; how every verifier input is made."""
    import cv2

    if crop.shape[0] == side_px:
        return crop
    return np.asarray(cv2.resize(crop, (side_px, side_px), interpolation=cv2.INTER_AREA))
