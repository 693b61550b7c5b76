"""Visits to many doors at once: who is let in, when, and how it is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import scenes
from benchmarks.visitors import RATES, Resident, film, photos_to_enrol, summary, watch
from device.alignment import align
from device.decision import Rates, SequentialTest
from device.detector import FaceDetector
from device.runtimes import Verifier
from device.score_model import ScoreModel

MODEL = ScoreModel(impostor=-0.2, genuine=0.5, spread=0.2, correlation=0.8)


class Fixed(Verifier):
    """A verifier of one mind, who remembers what it was shown."""

    def __init__(self, score: float):
        super().__init__("fixed", "int8")
        self.value, self.shown = score, 0

    def score(self, pixels: np.ndarray) -> float:
        assert pixels.shape == (64, 64, 3)
        self.shown += 1
        return self.value


def test_at_most_half_of_the_photos_are_enrolled() -> None:
    assert [len(photos_to_enrol(np.arange(n))) for n in (1, 2, 3, 6, 9, 10, 30)] == [0, 1, 1, 3, 3, 5, 5]


@pytest.fixture(scope="module")
def frames(photos: Path, detector_bytes: bytes) -> list[np.ndarray]:
    subject = scenes.portrait(photos / "obama.jpg", finder := scenes.portrait_detector(detector_bytes))
    return film(align(subject.rgb, subject.face.landmarks), finder, seed=1)


def test_a_visit_is_counted_once_at_every_door(frames: list[np.ndarray], detector_bytes: bytes) -> None:
    """The owner's door opens, a stranger's stays closed, one lets a stranger in, one cannot tell."""
    verifiers = {"0": Fixed(0.9), "1": Fixed(-0.6), "2": Fixed(0.9), "3": Fixed(0.2)}
    homes = [
        Resident(
            n, np.array([n]), {p: SequentialTest({str(n): MODEL}, Rates(false_accept=r)) for p, r in RATES.items()}
        )
        for n in range(4)
    ]
    detector = FaceDetector(detector_bytes)
    found = summary(watch(frames, 0, homes, dict(verifiers), detector, 64), homes)
    for point in RATES:
        genuine, impostor = found[point]["genuine"], found[point]["impostor"]
        assert genuine["outcomes"] == {"accepted": 1}
        assert genuine["within_500_ms"]["errors"] == 1
        assert impostor["outcomes"]["accepted"] == impostor["doors_with_an_accept"] == 1
        assert impostor["outcomes"]["rejected"] == 1
        assert impostor["trials"] == 3
        assert impostor["rule_of_three"] == 1
    assert verifiers["1"].shown < verifiers["3"].shown, "who has decided looks no longer"


def test_a_crop_without_a_face_makes_no_visit(detector_bytes: bytes) -> None:
    assert film(np.full((112, 112, 3), 90, np.uint8), scenes.portrait_detector(detector_bytes), 1) == []
