"""Read photographs: bytes or files to upright RGB pixels, refusing what cannot be trusted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from toolkit.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_PIXELS = 40_000_000  # a decoded 40-megapixel photo takes 120 MB; beyond that a small device starts to swap

# OpenCV reads its own limit once, before its first decode; a larger header is refused before any memory is taken.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))


def _is_truncated_jpeg(data: bytes) -> bool:
    """True when the end-of-image marker is missing: OpenCV would fill the rest with grey and say nothing.

    Segments are walked up to the first scan, so that a thumbnail's end inside the EXIF block does not count, nor do
    bytes that phones append behind the picture.
    """
    if data[:2] != b"\xff\xd8":
        return False
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(b"\xff\xd9", at) < 0


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Encoded bytes to uint8 RGB [H, W, 3], turned upright by EXIF. Raises InputError naming `name`."""
    import cv2

    if not data:
        raise InputError(f"{name} is an empty file", do="use a JPEG, PNG, WebP or BMP photo")
    if _is_truncated_jpeg(data):
        raise InputError(f"{name} is cut short (a JPEG without its end)", do="copy the photo again")
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "PIXELS" in str(error).upper():
            raise _too_large(name) from error
        raise InputError(f"{name} is not a readable image", do="use a JPEG, PNG, WebP or BMP photo") from error
    if bgr is None:
        raise InputError(f"{name} is not a readable image", do="use a JPEG, PNG, WebP or BMP photo")
    if bgr.shape[0] * bgr.shape[1] > MAX_PIXELS:
        raise _too_large(name)  # OpenCV had been loaded before its limit was set
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


def _too_large(name: str) -> InputError:
    limit = f"at most {MAX_PIXELS // 1_000_000} megapixels"
    return InputError(f"{name} is too large", expected=limit, do="scale the photo down")


def read_image(path: Path) -> np.ndarray:
    """A photo file to uint8 RGB [H, W, 3], upright. Raises InputError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}", got=os.strerror(error.errno or 0)) from error
    return decode_image(data, str(path))
