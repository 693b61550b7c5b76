"""What several tests say when they fail, and small files that several tests need."""

from __future__ import annotations

import struct

import numpy as np

from models.packs import RECORD_MAGIC
from models.spec import VerifierSpec, mobile_spec

# The form that was shipped before, of bundles that are in the field: configs/whole.toml.
WHOLE_FACE = mobile_spec(region=(0, 0, 112), half=0, stem=12, features=96)
APART = mobile_spec(half=36, stem=8, features=128, joined=False)  # the form before: halves on their own until the score


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


def record(payload: bytes, kind: int = 0) -> bytes:
    """One record of MXNet's RecordIO."""
    return struct.pack("<II", RECORD_MAGIC, kind << 29 | len(payload)) + payload + b"\0" * (-len(payload) % 4)


def labelled(image: bytes, *labels: float) -> bytes:
    """An image with MXNet's header, which holds its labels."""
    flag = 0 if len(labels) == 1 else len(labels)
    extra = b"" if flag == 0 else struct.pack(f"<{flag}f", *labels)
    return struct.pack("<IfQQ", flag, labels[0] if not flag else 0.0, 1, 0) + extra + image


def share_read(spec: VerifierSpec, name: str) -> float:
    """What int8 files hold of a layer's weights: half where it reads a mean, which they have as a sum."""
    names = [layer.name for layer in spec.layers]
    return 0.5 if "mean" in names and name == names[names.index("mean") + 1] else 1.0
