"""Pictures that nobody is on: smooth, deterministic, and the same on every machine."""

from __future__ import annotations

import numpy as np

COARSE = 9  # random values a side, spread smoothly over the picture


def made_up(count: int, side_px: int, seed: int = 0) -> np.ndarray:
    """uint8 RGB [count, side_px, side_px, 3]: random values, linearly interpolated in integers."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, COARSE, COARSE, 3), np.int64)
    at = np.arange(side_px) * (COARSE - 1) * 256 // side_px
    cell, part = at // 256, at % 256
    rows = coarse[:, cell] * (256 - part)[:, None, None] + coarse[:, cell + 1] * part[:, None, None]
    fine = rows[:, :, cell] * (256 - part)[:, None] + rows[:, :, cell + 1] * part[:, None]
    return np.ascontiguousarray(fine // 65536, np.uint8)
