"""A set of faces as arrays: pixels at the verifier's size, templates, identities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.backbone import Backbone
from models.facedata import decoded, face_blocks
from models.facestream import Split, own_numbers, told_apart
from models.files import sha256_of_arrays
from models.spec import Framing
from toolkit.errors import InputError

BLOCK = 65_536  # templates read at a time


@dataclass(frozen=True)
class FaceSet:
    """N faces. `identity` numbers `people` in the order of their names, and is -1 where nobody knows who it is.

    Training's own sets (`models/facemap.py`) leave names and people empty.
    """

    pixels: np.ndarray  # uint8 RGB [N, H, W, 3]
    templates: np.ndarray  # float32 [N, D], unit length
    identity: np.ndarray  # int64 [N]
    names: tuple[str, ...]  # file name of each face
    people: tuple[str, ...]
    blends: int = 0  # that many at the end show nobody (models/blend.py)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def sha256(self) -> str:
        """Of templates and identities: which faces these are, without reading every pixel."""
        return sha256_of_arrays(self.templates, self.identity)

    @property
    def photos(self) -> FaceSet:
        """The faces without the blends."""
        end = len(self) - self.blends
        return FaceSet(self.pixels[:end], self.templates[:end], self.identity[:end], self.names[:end], self.people)


def load_faces(
    paths: list[Path], split: str, framing: Framing, backbone: Backbone, held_out_share: float = 0.0
) -> FaceSet:
    """Faces of one split ("train", "val"; "" for all). In sets without splits, `held_out_share` of the people count as
    "val", everybody else as "train".

    Raises InputError if there are none.
    """
    pixels, templates, people, names = [], [], [], []
    chosen = Split(held_out_share)
    for path, numbers_of in own_numbers(paths).items():
        for faces, rows in face_blocks(path, backbone, lambda face: not split or chosen.of(face) == split):
            pixels.append(decoded(faces, len(faces), path, framing))
            templates.append(rows)
            people += [told_apart(face.identity, numbers_of) for face in faces]
            names += [face.name for face in faces]
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


def lookalikes(templates: np.ndarray, held_out: np.ndarray, backbone: str) -> np.ndarray:
    """Which of the templates [N, D] may be somebody's of the held-out [M, D]; bool [N]."""
    if not len(held_out):
        return np.zeros(len(templates), bool)
    return np.asarray((templates @ held_out.T).max(1) > LOOKALIKE_COSINE[backbone])


class PersonTargets:
    """Templates moved towards the mean of all of their person's.

    One photo's template also tells its pose and its light; the mean of several tells mostly who it is.
    """

    def __init__(self, faces: FaceSet):
        self._faces = faces
        self._means = np.zeros((faces.identity.max(initial=-1) + 1, faces.templates.shape[1]), np.float32)
        for start in range(0, len(faces), BLOCK):  # the templates may be on disk, and more than memory holds
            identity = faces.identity[start : start + BLOCK]
            known = identity >= 0
            np.add.at(self._means, identity[known], faces.templates[start : start + BLOCK][known])
        self._means /= np.maximum(np.linalg.norm(self._means, axis=1, keepdims=True), 1e-12)

    def of(self, rows: np.ndarray, share: float | np.ndarray) -> np.ndarray:
        """Those of `rows` [N], moved by `share` of the way, all alike or each by its own [N], and back to length one:
        [N, D].

        Faces of unknown people keep their own.
        """
        moved = self._faces.templates[rows]
        known = self._faces.identity[rows] >= 0
        part = np.broadcast_to(np.asarray(share, np.float32), len(rows))[known, None]
        moved[known] += part * (self._means[self._faces.identity[rows[known]]] - moved[known])
        return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), np.float32)
