"""Is this face good enough to be used? Each refusal is a stable reason and a sentence a person can act on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from device.detector import Face

ADVICE = {
    "no_face": "no face found; face the camera, with light on the face",
    "several_faces": "several faces of similar size; only one person may be in the picture",
    "too_small": "the face is too small; come closer or use a larger photo",
    "too_blurred": "the face is blurred; hold still or use a sharper photo",
    "too_dark": "the face is too dark; add light or turn towards it",
    "too_bright": "the face is overexposed; avoid direct light",
    "turned_away": "the face is turned away; look at the camera",
}


@dataclass(frozen=True)
class QualityLimits:
    """Chosen on photographs of held-out people so that ordinary portraits pass; see docs/enrolment.md."""

    min_eye_distance_px: float = 20.0  # the verifier's own input has its eyes 20 px apart
    min_sharpness: float = 0.025  # a Gaussian blur of 2 px on the crop falls below, sharp photos stay above 0.04
    min_brightness: float = 40.0
    max_brightness: float = 225.0
    max_yaw: float = 0.45  # nose tip's offset from between the eyes, in eye distances; about 35 degrees
    pitch: tuple[float, float] = (0.2, 0.85)  # nose tip's height between eyes (0) and mouth (1)
    rival_size: float = 0.6  # a second face at least this large, by width, makes the picture ambiguous


@dataclass(frozen=True)
class Quality:
    """What was measured of one face. `reason` is empty when the face can be used."""

    reason: str
    eye_distance_px: float
    sharpness: float
    brightness: float
    yaw: float
    pitch: float


def choose_face(faces: list[Face], limits: QualityLimits, *, alone: bool) -> tuple[Face | None, str]:
    """The largest face and "", or None and the reason. `alone` refuses a second face of similar size."""
    if not faces:
        return None, "no_face"
    if alone and len(faces) > 1 and faces[1].width >= limits.rival_size * faces[0].width:
        return None, "several_faces"
    return faces[0], ""


def assess(crop: np.ndarray, face: Face, limits: QualityLimits) -> Quality:
    """Measure an aligned crop, uint8 RGB [112, 112, 3], and the landmarks it came from."""
    import cv2

    luma = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY))
    inner = luma[32:104, 28:84]  # eyes to mouth, without hair and background
    brightness, sharpness = float(inner.mean()), _sharpness(inner)
    yaw, pitch = _pose(face.landmarks)
    checks = (
        (face.eye_distance_px < limits.min_eye_distance_px, "too_small"),
        (brightness < limits.min_brightness, "too_dark"),
        (brightness > limits.max_brightness, "too_bright"),
        (abs(yaw) > limits.max_yaw or not limits.pitch[0] <= pitch <= limits.pitch[1], "turned_away"),
        (sharpness < limits.min_sharpness, "too_blurred"),
    )
    reason = next((name for wrong, name in checks if wrong), "")
    return Quality(reason, face.eye_distance_px, sharpness, brightness, yaw, pitch)


def _sharpness(luma: np.ndarray) -> float:
    """Energy of the Laplacian over the variance of the picture: low when blurred, whatever the contrast."""
    import cv2

    laplacian = cv2.Laplacian(luma, cv2.CV_32F, ksize=1)
    return float(laplacian.var() / (luma.astype(np.float32).var() + 25.0))  # 25: sensor noise on a flat patch


def _pose(landmarks: np.ndarray) -> tuple[float, float]:
    """(yaw, pitch) proxies from five landmarks, free of roll and scale."""
    left, right, nose, mouth_left, mouth_right = landmarks
    middle, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    axis = right - left
    distance = max(float(np.linalg.norm(axis)), 1e-6)
    axis = axis / distance
    down = np.array([-axis[1], axis[0]])
    height = float((mouth - middle) @ down)
    pitch = float((nose - middle) @ down) / height if abs(height) > 1e-6 else 0.0
    return float((nose - middle) @ axis) / distance, pitch
