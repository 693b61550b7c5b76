"""A set of faces in memory: pixels at the verifier's size, templates, identities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.backbone import Backbone
from models.facedata import FaceFile, face_files, read_faces, templates_of
from toolkit.errors import InputError


@dataclass(frozen=True)
class FaceSet:
    """N faces. `identity` numbers `people` in the order of their names, and is -1 where nobody knows who it is."""

    pixels: np.ndarray  # uint8 RGB [N, H, W, 3]
    templates: np.ndarray  # float32 [N, D], unit length
    identity: np.ndarray  # int64 [N]
    names: tuple[str, ...]  # file name of each face
    people: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pixels)


def load_faces(paths: list[Path], split: str, side_px: int, backbone: Backbone) -> FaceSet:
    """Faces of one split ("train", "val"; "" for all); those without a split count as "train".

    Raises InputError if there are none.
    """
    pixels, templates, people, names = [], [], [], []
    for path in face_files(paths):
        faces = read_faces(path)
        rows = [i for i, s in enumerate(faces.splits) if not split or (s or "train") == split]
        if not rows:
            continue
        templates.append(templates_of(faces, backbone)[rows])
        pixels.append(subset(faces, rows).crops(side_px))
        people += [faces.identities[i] for i in rows]
        names += [faces.names[i] for i in rows]
    if not people:
        where = ", ".join(map(str, paths))
        raise InputError(f"no face{f' of split {split}' if split else ''} in {where}")
    known = sorted(set(people) - {""})
    numbers = {name: i for i, name in enumerate(known)}
    identity = np.array([numbers.get(name, -1) for name in people], np.int64)
    return FaceSet(np.concatenate(pixels), np.concatenate(templates), identity, tuple(names), tuple(known))


# Two photos whose templates are this close may show one person. SFace's authors decide at 0.363; dlib's cosines of
# strangers spread nearly twice as far.
LOOKALIKE_COSINE = {"sface": 0.5, "dlib": 0.75, "sface+dlib": 0.6}


def without_lookalikes(faces: FaceSet, held_out: FaceSet, backbone: str) -> FaceSet:
    """Leave out faces of unknown people that may be somebody of the held-out set, which then stays unseen."""
    nearest = np.concatenate([(block @ held_out.templates.T).max(1) for block in np.array_split(faces.templates, 64)])
    keep = (faces.identity >= 0) | (nearest <= LOOKALIKE_COSINE[backbone])
    names = tuple(name for name, kept in zip(faces.names, keep, strict=True) if kept)
    return FaceSet(faces.pixels[keep], faces.templates[keep], faces.identity[keep], names, faces.people)


def toward_person(faces: FaceSet, share: float) -> np.ndarray:
    """Templates [N, D] moved by `share` of the way to the mean of all of that person's, back to unit length.

    One photo's template also tells its pose and its light; the mean of several tells mostly who it is. Faces of unknown
    people keep their own.
    """
    known = faces.identity >= 0
    sums = np.zeros((len(faces.people), faces.templates.shape[1]), np.float32)
    np.add.at(sums, faces.identity[known], faces.templates[known])
    means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    moved = faces.templates.copy()
    moved[known] += share * (means[faces.identity[known]] - moved[known])
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), np.float32)


def subset(faces: FaceFile, rows: list[int]) -> FaceFile:
    columns: dict[str, Any] = {
        name: [getattr(faces, name)[i] for i in rows] for name in ("images", "identities", "names", "splits")
    }
    return replace(faces, **columns)
