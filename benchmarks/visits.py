"""Visits on video at many doors at once: what every verifier scores, frame by frame, and how the scores are spread.

Each held-out person with two photos or more is enrolled from up to five, at most half of them. Everybody then comes to
the door once, on video made of one photo that was not enrolled (benchmarks/scenes.py). One photo a visit is the
hardest case: every frame repeats what is wrong with that photo.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import scenes
from benchmarks.enrolling import Enrol
from benchmarks.scoring import FileScorer
from device.detector import FaceDetector
from device.pipeline import Pipeline
from device.runtimes import Verifier
from device.score_model import PROBABILITIES
from models.faceset import FaceSet
from models.files import find_model
from models.fold import detector_file
from toolkit.progress import track

PHOTOS = (1, 3, 5)  # enrolled at most
VISIT_S = 2.5
NEAR_PX = 100.0  # of the face on video: the aligned crops have no more detail
BORDER_PX = 48  # around a crop, its edge repeated: detectors expect something around a face
LEVEL_FRAMES = 10  # whose mean is taken for a visit's level
FEWEST_FRAMES = 5  # of a visit that says something of its level
FEWEST_EXCESSES = 5  # that a tail is measured on; below, it goes on as between the outermost quantiles


@dataclass(frozen=True)
class Visits:
    """V visits before D doors, F usable frames of each; NaN where there were fewer, and where nobody is enrolled."""

    scores: np.ndarray  # float32 [V, D, F]
    owners: dict[int, np.ndarray]  # float32 [V, F] by photos enrolled: the visitor's own verifier
    time_s: np.ndarray  # float32 [V, F], from the first usable frame
    visitor: np.ndarray  # int64 [V], number of the person
    resident: np.ndarray  # int64 [D]
    photos: np.ndarray  # int64 [D], enrolled

    @property
    def strange(self) -> np.ndarray:
        """bool [V, D]: the visitor is not who is enrolled."""
        return np.asarray(self.visitor[:, None] != self.resident)


def photos_to_enrol(rows: np.ndarray) -> np.ndarray:
    """The first five, three or one, at most half of them."""
    possible = [n for n in PHOTOS if n <= len(rows) // 2]
    return rows[: max(possible, default=0)]


def film(crop: np.ndarray, finder: FaceDetector, seed: int) -> Iterator[np.ndarray]:
    """A visit's frames of an aligned crop uint8 RGB [112, 112, 3]; none where no face is found in it."""
    rgb = np.pad(crop, ((BORDER_PX, BORDER_PX), (BORDER_PX, BORDER_PX), (0, 0)), mode="edge")
    if found := finder.detect(rgb):
        subject, rng = scenes.Portrait(rgb, found[0]), np.random.default_rng(seed)
        for view in scenes.visit(subject, VISIT_S, seed, near_px=NEAR_PX):
            yield scenes.render(subject, view, rng)


def watch(frames: Iterator[np.ndarray], pipeline: Pipeline, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N, users] of at most so many usable frames, and their times in seconds from the first of them [N].

    Of the face that was followed longest: no evidence passes from one face to another.
    """
    runs: dict[int, list[tuple[int, list[float]]]] = {}
    for number, frame in enumerate(frames):
        seen = pipeline.follow(frame)[0]
        if seen.scores:
            run = runs.setdefault(seen.track, [])
            run.append((number, list(seen.scores.values())))
            if len(run) == most:
                break
    longest = max(runs.values(), key=len, default=[])
    times = np.array([number for number, _ in longest]) / scenes.FPS
    return np.array([scores for _, scores in longest]), times - (times[0] if len(times) else 0)


def record(faces: FaceSet, crops: np.ndarray, enrol: Enrol, scorer: FileScorer, most: int) -> Visits:
    """Everybody before every door. `crops`: the same faces at 112 pixels; `most`: frames of a visit."""
    rows_of = {int(p): np.flatnonzero(faces.identity == p) for p in np.unique(faces.identity[faces.identity >= 0])}
    homes = {person: photos_to_enrol(rows) for person, rows in rows_of.items() if len(photos_to_enrol(rows))}
    visitors = [person for person, rows in rows_of.items() if len(rows) > len(photos_to_enrol(rows))]

    def verifier(rows: np.ndarray) -> Verifier:
        return scorer.open(enrol(faces.pixels[rows], faces.templates[rows]))

    everybody = {str(person): verifier(rows) for person, rows in track(homes.items(), "enrolling", len(homes))}
    model = detector_file(find_model("yunet"))
    finder = scenes.portrait_detector(model)
    scores = np.full((len(visitors), len(homes), most), np.nan, np.float32)
    owners = {n: np.full((len(visitors), most), np.nan, np.float32) for n in PHOTOS}
    time_s = np.full((len(visitors), most), np.nan, np.float32)
    for i, person in enumerate(track(visitors, "visits", len(visitors))):
        rows = rows_of[person]
        own = {f"enrolled from {n}": verifier(rows[:n]) for n in PHOTOS if n < len(rows)}
        pipeline = Pipeline(FaceDetector(model), everybody | own, scorer.spec.framing)
        seen, times = watch(film(crops[rows[-1]], finder, i), pipeline, most)
        if len(seen):
            scores[i, :, : len(seen)] = seen[:, : len(homes)].T
            time_s[i, : len(seen)] = times
            for n, column in zip((n for n in PHOTOS if n < len(rows)), seen[:, len(homes) :].T, strict=True):
                owners[n][i, : len(seen)] = column
    photos = np.array([len(rows) for rows in homes.values()])
    return Visits(scores, owners, time_s, np.array(visitors), np.array(list(homes)), photos)


def describe(visits: Visits, people: np.ndarray) -> dict[int, dict[str, Any]]:
    """What a bundle tells of visits, by number of photos enrolled: of these people only, at their own doors.

    Strangers' scores are alike whatever a verifier was made of (models/normalisation.py), so theirs are pooled.
    """
    came, lives = np.isin(visits.visitor, people), np.isin(visits.resident, people)
    strange = visits.scores[came][:, lives][visits.strange[came][:, lives]]
    noise, impostor = noise_of(strange), distribution(levels(strange))
    return {
        n: {"noise": noise, "impostor": impostor, "genuine": distribution(levels(owners[came]))}
        for n, owners in visits.owners.items()
        if (~np.isnan(owners[came, FEWEST_FRAMES - 1])).sum() >= 2
    }


def levels(scores: np.ndarray) -> np.ndarray:
    """Scores [N, F] of visits to their levels, of those with enough frames."""
    first = scores[~np.isnan(scores[:, FEWEST_FRAMES - 1]), :LEVEL_FRAMES]
    return np.asarray(np.nanmean(first, 1))


def noise_of(scores: np.ndarray) -> float:
    """The deviation of independent noise that would move the mean of the first n frames as it moves.

    A frame's own deviation would not do: the noise of neighbours is correlated.
    Visits with a frame at an end of the int8 range, beyond which nothing strays, would tell too little of it.
    """
    whole = scores[~np.isnan(scores[:, LEVEL_FRAMES - 1]), :LEVEL_FRAMES]
    whole = whole[((whole > -1) & (whole < 127 / 128)).all(1)]
    number = np.arange(1, LEVEL_FRAMES)
    means = np.cumsum(whole, 1)[:, :-1] / number
    strayed = ((means - whole.mean(1, keepdims=True)) ** 2).mean(0)
    return round(float(np.sqrt((strayed / (1 / number - 1 / LEVEL_FRAMES)).mean())), 5)


def distribution(found: np.ndarray) -> dict[str, Any]:
    """Quantiles of levels and the mean excess beyond the outermost, as `device.score_model.Levels` takes them."""
    quantiles = np.quantile(found, PROBABILITIES)
    odds = np.diff(np.log(np.array(PROBABILITIES) / (1 - np.array(PROBABILITIES))))
    slopes = np.maximum(np.diff(quantiles), 1e-3) / odds
    tails = []
    for excess, slope in ((quantiles[0] - found, slopes[0]), (found - quantiles[-1], slopes[-1])):
        beyond = excess[excess > 0]
        tails.append(float(beyond.mean()) if len(beyond) >= FEWEST_EXCESSES else float(slope))
    return {
        "visits": len(found),
        "probabilities": list(PROBABILITIES),
        "quantiles": [round(float(q), 5) for q in quantiles],
        "tails": [round(tail, 5) for tail in tails],
    }
