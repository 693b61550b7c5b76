"""What several tests say when they fail, and small files that several tests need."""

from __future__ import annotations

import numpy as np


def describe(reference: np.ndarray, found: np.ndarray) -> str:
    """Maximum and mean error, signal-to-quantisation-noise ratio, and both ranges."""
    reference, found = reference.astype(np.float64), found.astype(np.float64)
    error = found - reference
    noise = float((error**2).mean())
    sqnr = 10 * np.log10(float((reference**2).mean()) / noise) if noise else np.inf
    worst = int(np.abs(error).argmax())
    return (
        f"max error {np.abs(error).max():.5f} (row {worst}: {reference[worst]:.5f} and {found[worst]:.5f}), "
        f"mean {np.abs(error).mean():.5f}, SQNR {sqnr:.1f} dB, "
        f"ranges [{reference.min():.3f}, {reference.max():.3f}] and [{found.min():.3f}, {found.max():.3f}]"
    )
