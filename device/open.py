"""Open a bundle for use: its detector and its verifier, checked and loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from device.detector import CAMERA_SIDES_PX, FaceDetector
from device.pipeline import Pipeline
from device.runtimes import choose_runtime, open_verifier
from export.manifest import DETECTOR, Bundle
from toolkit.errors import MissingError


@contextmanager
def open_pipeline(
    bundle: Bundle,
    runtime: str,
    precision: str,
    threads: int = 1,
    detection_sides_px: tuple[int, ...] = CAMERA_SIDES_PX,
) -> Iterator[Pipeline]:
    """Detector and verifier of a bundle. Raises UsageError, MissingError, ArtifactError before any picture is read."""
    choose_runtime(runtime)
    try:
        import cv2  # noqa: F401  (asked for here so that its absence is told before anything else)
    except ImportError as error:
        raise MissingError(
            "OpenCV is not installed", do="run `pip install 'hyperverify[litert]'` or `'hyperverify[onnxruntime]'`"
        ) from error
    detector = FaceDetector(bundle.read(DETECTOR), detection_sides_px, threads)
    with open_verifier(bundle, runtime, precision, threads) as verifier:
        yield Pipeline(detector, verifier, bundle.spec.input_px)
