"""From landmarks to the upright 112×112 crop that backbone and verifier were trained on. The same code on both ends."""

from __future__ import annotations

import numpy as np

from models.spec import CROP_PX, WHOLE, Framing

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


def shown_at(points: np.ndarray, framing: Framing) -> np.ndarray:
    """Where points (x, y) [..., 2] of an aligned face, in its own pixels, are in what `framing` shows of it."""
    return np.asarray((points - (framing.left, framing.top)) * framing.scale)


def align(rgb: np.ndarray, landmarks: np.ndarray, framing: Framing = WHOLE) -> np.ndarray:
    """uint8 RGB [H, W, 3] and landmarks [5, 2] in its pixels to the crop uint8 RGB [side_px, side_px, 3] of `framing`.

    Edge pixels are repeated outside the image. A face larger than the crop is first shrunk by a whole number, because
    bilinear sampling alone would skip pixels; averaging whole pixels is ten times faster than any other area scaling.
    """
    import cv2

    side_px = framing.side_px
    target = shown_at(TEMPLATE, framing)
    matrix = similarity(landmarks, target)
    factor = round(1 / max(float(np.hypot(matrix[0, 0], matrix[1, 0])), 1e-6))
    if factor > 1:
        rgb, corner = _shrink_around(rgb, landmarks, 1.2 * side_px * factor, factor)
        # Coordinates are pixel centres, so half a pixel is added before scaling and taken off after it.
        matrix = similarity((landmarks - corner + 0.5) / factor - 0.5, target)
    return np.asarray(
        cv2.warpAffine(rgb, matrix, (side_px, side_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def _shrink_around(
    rgb: np.ndarray, landmarks: np.ndarray, reach_px: float, factor: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image around a face, `factor` times smaller, and the part's corner (x, y)."""
    height, width = rgb.shape[:2]
    most = np.array([width, height])
    low = np.clip(np.floor(landmarks.mean(0) - reach_px), 0, most - 1).astype(int)
    high = np.clip(np.ceil(landmarks.mean(0) + reach_px), low + 1, most).astype(int)
    return reduce(rgb[low[1] : high[1], low[0] : high[0]], factor), low


def reduce(rgb: np.ndarray, factor: int) -> np.ndarray:
    """A picture [H, W, 3] of which each pixel is the mean of factor × factor; a rest at the end is cut off."""
    import cv2

    columns, rows = max(1, rgb.shape[1] // factor), max(1, rgb.shape[0] // factor)
    whole = rgb[: rows * factor, : columns * factor]
    return np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA))


def shrink(crop: np.ndarray, framing: Framing) -> np.ndarray:
    """What `framing` shows of an aligned RGB crop, resampled by pixel area; how every verifier input is made.

    A crop of another size than CROP_PX can only be shown whole.
    """
    import cv2

    if framing.region != WHOLE.region:
        assert len(crop) == CROP_PX, "a region is given in the aligned crop's own pixels"
        crop = crop[framing.top : framing.top + framing.size, framing.left : framing.left + framing.size]
    side_px = framing.side_px
    if len(crop) == side_px:
        return np.ascontiguousarray(crop)
    return np.asarray(cv2.resize(crop, (side_px, side_px), interpolation=cv2.INTER_AREA))
