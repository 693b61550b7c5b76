"""Sets of templates, as IJB-B and IJB-C are used: a person is enrolled from several photos and shown in several.

A set is a folder in InsightFace's layout: `loose_crop/` with photos, and in `meta/`

    *_name_5pts_score.txt       photo, ten landmark coordinates in it, detector's score
    *_face_tid_mid.txt          photo, template, medium: photos of one medium are frames of one video
    *_template_pair_label.txt   template, template, 1 for one person, else 0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.enrolling import Enrol
from benchmarks.pairs import PairScores
from benchmarks.protocols import Pairs
from benchmarks.scoring import FileScorer
from device.alignment import align, shrink
from device.image import read_image
from models.backbone import Backbone, unit
from models.faceset import FaceSet
from models.spec import Framing
from toolkit.errors import InputError
from toolkit.progress import track

PHOTOS = "loose_crop"
BLOCK = 64  # photos aligned and embedded at once


@dataclass(frozen=True)
class TemplateSet:
    """N photos of T templates. `pairs` compares templates."""

    files: tuple[Path, ...]
    landmarks: np.ndarray  # float64 [N, 5, 2], pixels of the photo
    template: np.ndarray  # int64 [N]: number of each photo's template, 0 … T-1
    medium: np.ndarray  # int64 [N]
    pairs: Pairs

    def rows(self) -> list[np.ndarray]:
        """The photos of each template."""
        order = np.argsort(self.template, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.template))[:-1])


def read_template_set(folder: Path) -> TemplateSet:
    """Raises InputError naming the file and the line."""
    media = _lines(_meta(folder, "_face_tid_mid.txt"), "name template medium", (str, int, int))
    points = {name: numbers for name, *numbers in _lines(
        _meta(folder, "_name_5pts_score.txt"), "name and 11 numbers", (str, *[float] * 11))}  # fmt: skip
    labels = _lines(pair_file := _meta(folder, "_template_pair_label.txt"), "template template 0|1", (int, int, int))
    missing = next((name for name, _, _ in media if name not in points), None)
    if missing is not None:
        raise InputError(f"{folder} has no landmarks of {missing}", expected="a line in *_name_5pts_score.txt")
    known, template = np.unique([t for _, t, _ in media], return_inverse=True)
    number = {int(t): i for i, t in enumerate(known)}
    for line, (a, b, same) in enumerate(labels, 1):
        if a not in number or b not in number or same not in (0, 1):
            raise InputError(f"{pair_file}: line {line} is not a pair of templates", got=f"{a} {b} {same}")
    first, second = (np.array([number[row[side]] for row in labels]) for side in (0, 1))
    same = np.array([row[2] == 1 for row in labels])
    landmarks = np.array([points[name][:10] for name, _, _ in media], np.float64).reshape(-1, 5, 2)
    files = tuple(folder / PHOTOS / name for name, _, _ in media)
    pairs = Pairs(first, second, same, np.zeros(len(same), np.int64))
    return TemplateSet(files, landmarks, template, np.array([m for _, _, m in media]), pairs)


def _meta(folder: Path, ending: str) -> Path:
    found = sorted((folder / "meta").glob(f"*{ending}"))
    if len(found) != 1:
        raise InputError(f"{folder} is not a template set", got=f"{len(found)} files meta/*{ending}", expected="one")
    return found[0]


def _lines(path: Path, form: str, kinds: Sequence[type]) -> list[tuple]:  # type: ignore[type-arg]
    """Words of every line, each made its kind."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable", got=error) from error
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            rows.append(tuple(kind(word) for kind, word in zip(kinds, line.split(), strict=True)))
        except ValueError as error:
            raise InputError(f"{path}: line {number} is not `{form}`", got=line[:80]) from error
    if not rows:
        raise InputError(f"{path} is empty", expected=f"lines `{form}`")
    return rows


def load_photos(source: TemplateSet, framing: Framing, backbone: Backbone) -> FaceSet:
    """Every photo aligned by its landmarks. Identities are not told: all -1. Raises InputError."""
    pixels, templates = [], []
    starts = range(0, len(source.files), BLOCK)
    for start in track(starts, "photos aligned and embedded", len(starts)):
        block = slice(start, start + BLOCK)
        crops = [
            _aligned(file, points) for file, points in zip(source.files[block], source.landmarks[block], strict=True)
        ]
        templates.append(backbone.embed(np.stack(crops)))
        pixels += [shrink(crop, framing) for crop in crops]
    names = tuple(file.name for file in source.files)
    return FaceSet(np.stack(pixels), np.concatenate(templates), np.full(len(names), -1), names, ())


def _aligned(file: Path, landmarks: np.ndarray) -> np.ndarray:
    """uint8 RGB [112, 112, 3]"""
    rgb = read_image(file)
    if (
        not np.isfinite(landmarks).all()
        or np.ptp(landmarks, 0).min() < 1
        or np.abs(landmarks).max() > 2 * max(rgb.shape)
    ):
        raise InputError(f"the landmarks of {file.name} are no face in it", got=landmarks.round(1).tolist())
    return align(rgb, landmarks)


def by_medium(values: np.ndarray, medium: np.ndarray) -> np.ndarray:
    """The mean over media of the mean over each one's photos, of [K, …]: a long video counts as much as a photo."""
    return np.asarray(np.mean([values[medium == m].mean(0) for m in np.unique(medium)], 0))


def score_templates(source: TemplateSet, faces: FaceSet, enrol: Enrol, scorer: FileScorer) -> PairScores:
    """Every template gets one verifier, of the mean of its media; the score of another is the mean over its media."""
    rows = source.rows()
    wanted: dict[int, list[tuple[int, int, int]]] = {}
    for number, (a, b) in enumerate(zip(source.pairs.first.tolist(), source.pairs.second.tolist(), strict=True)):
        wanted.setdefault(a, []).append((b, number, 0))
        wanted.setdefault(b, []).append((a, number, 1))
    table = np.empty((2, len(source.pairs.first)))
    for enrolled, shown in track(sorted(wanted.items()), f"{scorer.precision} verifiers", len(wanted)):
        own = rows[enrolled]
        mean = unit(by_medium(faces.templates[own], source.medium[own])[None])
        theta = enrol(faces.pixels[own[:1]], mean)
        photos = [rows[other] for other, _, _ in shown]
        scores = scorer.scores(theta, faces.pixels[np.concatenate(photos)])
        parts = np.split(scores, np.cumsum([len(part) for part in photos])[:-1])
        for (_, number, direction), part, photo in zip(shown, parts, photos, strict=True):
            table[direction, number] = by_medium(part, source.medium[photo])
    return PairScores(table[0], table[1])
