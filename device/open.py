"""Open bundles for use: a detector and every user's verifier, checked and loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from device.detector import CAMERA_SIDES_PX, FaceDetector
from device.pipeline import Pipeline
from device.quality import QualityLimits
from device.runtimes import choose_runtime, open_verifier
from device.tracking import Tracker
from export.manifest import DETECTOR, Bundle
from toolkit.errors import MissingError, UsageError


@contextmanager
def open_pipeline(
    bundles: Bundle | Sequence[Bundle],
    runtime: str,
    precision: str,
    threads: int = 1,
    detection_sides_px: tuple[int, ...] = CAMERA_SIDES_PX,
    limits: QualityLimits | None = None,
    detect_every: int = 10,
    largest_only: bool = True,
) -> Iterator[Pipeline]:
    """Detector of the first bundle and the verifiers of all of them.

    Raises UsageError, MissingError, ArtifactError before any picture is read.
    """
    bundles = [bundles] if isinstance(bundles, Bundle) else list(bundles)
    _check_users(bundles)
    choose_runtime(runtime)
    try:
        import cv2
    except ImportError as error:
        raise MissingError(
            "OpenCV is not installed", do="run `pip install 'hyperverify[litert]'` or `'hyperverify[onnxruntime]'`"
        ) from error
    cv2.setNumThreads(threads)
    detector = FaceDetector(bundles[0].read(DETECTOR), detection_sides_px, threads)
    tracker = Tracker(detector, detect_every, largest_only=largest_only)
    with ExitStack() as stack:
        verifiers = {
            bundle.name: stack.enter_context(open_verifier(bundle, runtime, precision, threads)) for bundle in bundles
        }
        yield Pipeline(detector, verifiers, bundles[0].spec.framing, limits, tracker)


def _check_users(bundles: list[Bundle]) -> None:
    if not bundles:
        raise UsageError("no bundle given", do="name at least one, made with `toolkit enroll`")
    names = [bundle.name for bundle in bundles]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError("two bundles have one name", got=twice, do="enrol one of them under another name")
    framings = {bundle.spec.framing for bundle in bundles}
    if len(framings) > 1:
        told = sorted(f"{f.side_px} px of {f.size} from {f.left}, {f.top}" for f in framings)
        raise UsageError("these bundles need differently cut faces", got="; ".join(told), do="enrol all of them anew")
