"""How errors grow when the shown photo gets worse: the enrolled one stays as it is, and so does the threshold.

Crops are changed as a camera, a lamp, a network or a hand would change them, at 112×112, before they are shrunk to the
verifier's input. Pose is not made but found: the pairs are sorted by how far the shown face is turned, told by its
landmarks. At each step the device's quality check is asked too: a photo that it refuses makes no error but a delay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.comparisons import Comparisons
from benchmarks.enrolling import Enrol, each_alone
from benchmarks.metrics import NAMED_FMRS, Rate, equal_error_rate, threshold_at_fmr
from benchmarks.pairs import comparisons_of
from benchmarks.protocols import Pairs
from benchmarks.scoring import FileScorer
from device.alignment import TEMPLATE, shown_at, shrink
from device.detector import Face, FaceDetector
from device.quality import QualityLimits, assess, pose
from models.faceset import FaceSet
from models.spec import Framing
from toolkit.progress import track

READ_NOISE = 2.0  # standard deviation of the sensor's noise in grey levels, which stays when the light goes
BORDER_PX = 24  # around a tight crop, so that a detector sees a whole face
YAW_EDGES = (0.0, 0.1, 0.2, 0.3, 0.45)  # |nose tip's offset| in eye distances; the last is the device's own limit

Change = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Condition:
    """`levels` from mild to strong; `clean` is the level that changes nothing, for plots."""

    about: str
    levels: tuple[float, ...]
    clean: float
    change: Change


def blur(crop: np.ndarray, sigma: float, _: np.random.Generator) -> np.ndarray:
    import cv2

    return np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma))


def darken(crop: np.ndarray, light: float, rng: np.random.Generator) -> np.ndarray:
    noisy = crop * light + rng.normal(0, READ_NOISE, crop.shape)
    return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)


def compress(crop: np.ndarray, quality: float, _: np.random.Generator) -> np.ndarray:
    import cv2

    data = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def lower_resolution(crop: np.ndarray, side: float, _: np.random.Generator) -> np.ndarray:
    import cv2

    small = shrink(crop, Framing(int(side)))
    return np.asarray(cv2.resize(small, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR))


def occlude(crop: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A square of one grey, somewhere in the crop."""
    changed, side = crop.copy(), round(len(crop) * share**0.5)
    top, left = rng.integers(0, len(crop) - side + 1, 2)
    changed[top : top + side, left : left + side] = rng.integers(0, 256)
    return changed


CONDITIONS = {
    "blur": Condition("Gaussian blur, σ in px of the 112 px crop", (1, 2, 3, 4), 0, blur),
    "dark": Condition(f"share of the light, noise of {READ_NOISE:g} grey levels", (0.5, 0.25, 0.12, 0.06), 1, darken),
    "jpeg": Condition("JPEG quality of the crop", (50, 25, 10, 5), 100, compress),
    "resolution": Condition("px that the 112 px crop had", (48, 32, 24, 16), 112, lower_resolution),
    "occlusion": Condition("share of the crop under one grey square", (0.05, 0.1, 0.2, 0.3), 0, occlude),
}
STEPS = [(name, level) for name, condition in CONDITIONS.items() for level in condition.levels]


def evaluate_robustness(
    faces: FaceSet, crops: np.ndarray, pairs: Pairs, enrol: Enrol, scorer: FileScorer, detector: FaceDetector
) -> dict[str, Any]:
    """`crops` uint8 RGB [N, 112, 112, 3] are those of `faces`. Thresholds come from the unchanged impostor pairs."""
    scores, refused = score_changed(crops, faces, pairs, enrol, scorer)
    clean = comparisons_of(scores[0], pairs, faces.identity)
    thresholds = {name: threshold_at_fmr(clean.impostor, fmr) for name, fmr in NAMED_FMRS.items()
                  if fmr * len(clean.impostor) >= 1}  # fmt: skip
    found: dict[str, Any] = {name: {"about": c.about, "clean": c.clean, "levels": []} for name, c in CONDITIONS.items()}
    for (name, level), row, unusable in zip(STEPS, scores[1:], refused[1:], strict=True):
        errors = _errors(comparisons_of(row, pairs, faces.identity), thresholds)
        found[name]["levels"].append({"level": level, "refused": _share(unusable), **errors})
    return {
        "thresholds": thresholds,
        "unchanged": {"refused": _share(refused[0]), **_errors(clean, thresholds)},
        "conditions": found,
        "pose": _by_pose(crops, pairs, clean, thresholds, detector),
    }


def score_changed(
    crops: np.ndarray, faces: FaceSet, pairs: Pairs, enrol: Enrol, scorer: FileScorer
) -> tuple[np.ndarray, np.ndarray]:
    """Scores [1 + steps, pairs] of the second photos, unchanged and at each of STEPS, by the first photos' verifiers;
    and whether the quality check refuses them. Each photo is changed alike in all pairs."""
    wanted: dict[int, list[int]] = {}
    for row, first in enumerate(pairs.first.tolist()):
        wanted.setdefault(first, []).append(row)
    scores = np.empty((1 + len(STEPS), len(pairs.first)))
    refused = np.zeros(scores.shape, bool)
    everyone = each_alone(enrol, faces, sorted(wanted))
    for enrolled, theta in track(everyone, "robustness", len(wanted)):
        rows = wanted[enrolled]
        shown = [_versions(crops[photo], photo) for photo in pairs.second[rows].tolist()]
        flat = [shrink(crop, scorer.spec.framing) for versions in shown for crop in versions]
        scores[:, rows] = scorer.scores(theta, np.stack(flat)).reshape(len(rows), -1).T
        refused[:, rows] = np.array([_unusable(face, scorer.spec.framing) for face in flat]).reshape(len(rows), -1).T
    return scores, refused


def _versions(crop: np.ndarray, photo: int) -> list[np.ndarray]:
    """The crop as it is, and at each of STEPS."""
    rng = np.random.default_rng(photo)
    return [crop, *(CONDITIONS[name].change(crop, level, rng) for name, level in STEPS)]


def _unusable(shown: np.ndarray, framing: Framing) -> bool:
    """What the device's quality check says of it; the landmarks are where alignment puts them."""
    face = Face(0, 0, len(shown), len(shown), 1.0, shown_at(TEMPLATE, framing))
    return bool(assess(shown, face, QualityLimits(), framing).reason)


def _errors(c: Comparisons, thresholds: dict[str, float]) -> dict[str, Any]:
    """EER, and FNMR and FMR at thresholds that were set on unchanged photos."""
    genuine, impostor = c.where(c.mated), c.where(~c.mated)
    return {
        "eer": equal_error_rate(c.genuine, c.impostor),
        "at": {name: {"fnmr": _share(genuine.score < threshold), "fmr": _share(impostor.score >= threshold)}
               for name, threshold in thresholds.items()},
    }  # fmt: skip


def _share(wrong: np.ndarray) -> dict[str, Any]:
    """With Clopper–Pearson's interval, which takes pairs as independent."""
    return asdict(Rate.of(int(wrong.sum()), len(wrong)))


def _by_pose(
    crops: np.ndarray, pairs: Pairs, clean: Comparisons, thresholds: dict[str, float], detector: FaceDetector
) -> dict[str, Any]:
    """Genuine pairs by how far the shown face is turned: FNMR in each range; `unknown`: no landmarks were found."""
    shown = sorted({int(photo) for photo in pairs.second[pairs.same]})
    yaw = dict(zip(shown, (_yaw(crops[photo], detector) for photo in track(shown, "pose", len(shown))), strict=True))
    turned = np.array([yaw.get(photo, np.nan) for photo in pairs.second.tolist()])
    ranges = []
    for low, high in pairwise(YAW_EDGES):
        rows = clean.where(clean.mated & (turned >= low) & (turned < high))
        if len(rows):
            at = {name: {"fnmr": _share(rows.score < threshold)} for name, threshold in thresholds.items()}
            ranges.append({"low": low, "high": high, "at": at})
    beyond = int((turned[pairs.same] >= YAW_EDGES[-1]).sum())
    return {"about": "nose tip's offset from between the eyes, in eye distances", "ranges": ranges,
            "beyond": beyond, "unknown": int(np.isnan(turned[pairs.same]).sum())}  # fmt: skip


def _yaw(crop: np.ndarray, detector: FaceDetector) -> float:
    """|yaw| of an aligned crop's face; NaN where none is found."""
    around = (BORDER_PX, BORDER_PX)
    found = detector.detect(np.pad(crop, (around, around, (0, 0)), "edge"))
    return abs(pose(found[0].landmarks)[0]) if found else float("nan")
