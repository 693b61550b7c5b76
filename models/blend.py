"""Made-up faces for distillation: each is blended from two people, and the backbone says who it is like.

A small network learns the training people by heart and knows others less well. What the backbone says of faces that
nobody has teaches it more of the backbone; labels say of such a face only that it is itself. To ask the teacher about
mixtures is known from "Knowledge distillation: A good teacher is patient and consistent" (Beyer et al., CVPR 2022).
Aligned faces may also be joined below the eyes: the eyes of one and the mouth of another.

This is the project's own step; the paper is not known to have one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from models.backbone import Backbone
from models.facedata import cache_folder, face_blocks, locked
from models.faceset import LOOKALIKE_COSINE
from models.facestream import Face, Split
from models.spec import CROP_PX
from models.splits import unknown_lookalikes
from toolkit.atomic import write_atomically
from toolkit.errors import InputError, MissingError
from toolkit.progress import track

RECIPE = 1  # raise it where blends become others: it is part of their files' names
A_FILE = 20_000  # blends; each file has a seed of its own
MAX_PARENTS = 100_000  # in memory, still encoded; of larger sets the first
CANDIDATES = 16  # the likest of them is the second parent, most often one of about the same age, sex and pose
ATTEMPTS = 100  # at two people, in sets where nearly all are one
MIXED = 0.5  # share of the blends that mix two faces everywhere; the others have a seam
WEIGHT = (0.35, 0.65)  # of the second face where both are mixed everywhere
SEAM_PX, SEAM_SLOPE, SEAM_SOFTNESS_PX = (58, 84), (-0.15, 0.15), (3, 7)  # from below the eyes to above the mouth
FACE = (slice(20, 100), slice(20, 92))  # rows and columns whose colours are made alike
CONTRAST = (0.5, 2)  # the second face's is changed by no more
WEBP_QUALITY = 90
REMEDY = "name sets of more people, or set blends = 0"


@dataclass(frozen=True)
class Parents:
    """Training faces, still encoded, and their templates [N, D].

    Where a name is missing, two faces with a cosine above `lookalike` may be one person's.
    """

    faces: list[Face]
    templates: np.ndarray
    lookalike: float

    def pair(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Two people's faces, uint8 RGB [112, 112, 3]. Raises InputError where there seems to be one person only."""
        for _ in range(ATTEMPTS):
            first, *others = rng.integers(0, len(self.faces), 1 + CANDIDATES)
            cosines = self.templates[others] @ self.templates[first]
            person, people = self.faces[first].identity, [self.faces[row].identity for row in others]
            known = np.array([bool(person and other) for other in people])
            same = np.array([person == other for other in people])
            cosines[np.where(known, same, cosines > self.lookalike)] = -np.inf
            best = int(np.argmax(cosines))
            if np.isfinite(cosines[best]):
                return self._crop(first), self._crop(others[best])
        raise InputError("there are too few different people to blend", do=REMEDY)

    def _crop(self, row: int) -> np.ndarray:
        return self.faces[row].crop(Path("a face to blend"))


def blend_files(count: int, key: str) -> list[Path]:
    """Where `count` blends of the sources that `key` stands for are, or will be: Parquet files in the cache folder."""
    names = (f"{key}-{RECIPE}-{seed}-{size}.parquet" for seed, size in enumerate(_sizes(count), 1))
    return [cache_folder() / "blends" / name for name in names]


def _sizes(count: int) -> list[int]:
    """Of the files of `count` blends."""
    return [min(A_FILE, count - start) for start in range(0, count, A_FILE)]


def write_blends(
    count: int, key: str, files: list[Path], held_out: np.ndarray, backbone: Backbone, split: Split
) -> None:
    """Write those of `blend_files` that are not there, of the training faces in `files`.

    No face without a name takes part that may be somebody's of the templates `held_out` [M, D].
    Raises InputError for too few faces, MissingError without pyarrow.
    """
    if find_spec("pyarrow") is None:
        raise MissingError("blends are Parquet files and need pyarrow", do="run `pip install 'hyperverify[train]'`")
    folder = cache_folder() / "blends"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    paths = blend_files(count, key)
    with locked(folder / f"{key}-{RECIPE}.lock"):
        for stale in folder.glob(f".{key}-{RECIPE}-*"):  # of a run that was killed while it wrote
            stale.unlink(missing_ok=True)
        if not all(path.is_file() for path in paths):
            parents = _parents(files, held_out, backbone, split)
            for seed, (size, path) in enumerate(zip(_sizes(count), paths, strict=True), 1):
                if not path.is_file():
                    write_atomically(path, partial(_write, parents, size, seed))


def _parents(files: list[Path], held_out: np.ndarray, backbone: Backbone, split: Split) -> Parents:
    faces: list[Face] = []
    templates = []
    blocks = (face_blocks(file, backbone, lambda face: split.of(face) == "train") for file in files)
    for block, rows in chain.from_iterable(blocks):
        taken = np.flatnonzero(~unknown_lookalikes(block, rows, held_out, backbone))
        faces += [block[row] for row in taken]
        templates.append(rows[taken])
        if len(faces) >= MAX_PARENTS:
            break
    if len(faces) <= CANDIDATES:
        raise InputError("too few faces to blend", got=len(faces), expected=f"more than {CANDIDATES}", do=REMEDY)
    return Parents(faces, np.concatenate(templates), LOOKALIKE_COSINE[backbone.name])


def _write(parents: Parents, count: int, seed: int, stream: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = []
    for number in track(range(count), "blended faces"):
        rng = np.random.default_rng([seed, number])
        images.append(encoded(blend(*parents.pair(rng), rng)))
    columns = {"image": pa.array(images, pa.binary()), "identity": [""] * count, "split": ["train"] * count}
    pq.write_table(pa.table(columns), stream)


def blend(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One face of two people's, uint8 RGB [112, 112, 3] all; `b` is brought to the colours of `a` first."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    ours, theirs = a[FACE].reshape(-1, 3), b[FACE].reshape(-1, 3)
    contrast = np.clip(ours.std(0) / np.maximum(theirs.std(0), 1), *CONTRAST)
    b = (b - theirs.mean(0)) * contrast + ours.mean(0)
    share = _share_of_second(rng)
    return np.asarray(np.clip(a * (1 - share) + b * share, 0, 255), np.uint8)


def _share_of_second(rng: np.random.Generator) -> np.ndarray | np.float32:
    """How much each pixel is the second face's: a number, or [112, 112, 1] from 0 to 1 across a seam."""
    if rng.random() < MIXED:
        return np.float32(rng.uniform(*WEIGHT))
    height, slope, softness = (rng.uniform(*limits) for limits in (SEAM_PX, SEAM_SLOPE, SEAM_SOFTNESS_PX))
    y, x = np.mgrid[:CROP_PX, :CROP_PX].astype(np.float32)
    share = 1 / (1 + np.exp(-(y - height - slope * (x - CROP_PX / 2)) / softness))[..., None]
    return np.asarray(1 - share if rng.random() < 0.5 else share)


def encoded(face: np.ndarray) -> bytes:
    """uint8 RGB [112, 112, 3] as WebP."""
    import cv2

    return bytes(cv2.imencode(".webp", face[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])[1])
