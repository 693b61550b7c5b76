"""Training sets of any size: crops, templates and identities as plain arrays on disk.

The first run writes them once into the cache folder, block by block; every later run, every variant of an ablation and
every process of a distributed run opens the same files. Pixels and templates are memory-mapped; in memory stay 8 bytes
a face for its identity, what the sampler knows of it (about 40), a mean template for each person, and the held-out
faces, which judge a run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from models.backbone import Backbone
from models.blend import blend_files, write_blends
from models.facedata import cache_folder, decoded, face_blocks, locked
from models.faceset import FaceSet
from models.facestream import SPLITS, Split, face_files, own_numbers, told_apart
from models.spec import WHOLE, Framing
from models.splits import held_out_templates, unknown_lookalikes
from toolkit.atomic import folder_atomically, write_atomically
from toolkit.errors import InputError
from toolkit.output import note

SCHEMA_VERSION = 1
META = "map.json"


@dataclass(frozen=True)
class TrainingFaces:
    """What a run trains on, mapped, and what judges it, in memory."""

    train: FaceSet
    held_out: FaceSet
    left_out: int  # unknown faces that may show held-out people


def map_faces(
    paths: list[Path], framing: Framing, backbone: Backbone, held_out_share: float = 0.0, blends: int = 0
) -> TrainingFaces:
    """Open the map of these sources and of `blends` made of their training faces, writing what is missing first: once,
    also when several processes ask.

    Raises InputError for sources without faces to train on, or that cannot be read.
    """
    files, split = face_files(paths), Split(held_out_share)
    states, numbers_of = [_state(file) for file in files], own_numbers(paths)
    sources = _key([SCHEMA_VERSION, backbone.sha256, held_out_share, states])
    about = [SCHEMA_VERSION, framing.side_px, backbone.sha256, held_out_share, states]
    if blends:
        about.append([path.name for path in blend_files(blends, sources)])
    if framing.region != WHOLE.region:
        about.append(framing.region)
    if len(paths) > 1:  # maps from before numbers of several sets were told apart are others
        about.append([numbers_of[file] for file in files])
    key = _key(about)
    folder = cache_folder() / "maps" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.chmod(0o700)
    with locked(folder.with_suffix(".lock")):
        if not folder.is_dir():
            for stale in folder.parent.glob(f".{key}.*"):  # of a run that was killed while it wrote
                shutil.rmtree(stale, ignore_errors=True)
            note(f"faces are written once to {folder}")
            with folder_atomically(folder, replace=False) as temporary:
                held_out = held_out_templates(files, backbone, split)
                if blends:
                    write_blends(blends, sources, files, held_out, backbone, split)
                _write(temporary, numbers_of, blend_files(blends, sources), held_out, framing, backbone, split)
    return _open(folder, framing.side_px, backbone.dim)


def sources_key(paths: list[Path]) -> str:
    """Tells these sources, as they are now, from others."""
    return _key([_state(file) for file in face_files(paths)])


def _key(about: list[object]) -> str:
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]


def _state(source: Path) -> list[object]:
    """Tells whether a source is the one that was mapped, without reading all of it."""
    if source.is_file():
        stat = source.stat()
        return [str(source.resolve()), stat.st_size, stat.st_mtime_ns]
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            stat = (Path(folder) / name).stat()
            digest.update(f"{folder}/{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return [str(source.resolve()), digest.hexdigest()]


class _Writer:
    """Appends the faces of one split to its files, which are for their owner alone."""

    def __init__(self, folder: Path, stack: ExitStack):
        self._pixels, self._templates = (
            stack.enter_context(os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), "wb"))
            for name in ("pixels", "templates")
        )
        self._identity: list[np.ndarray] = []
        self._numbers: dict[str, int] = {}

    def add(self, pixels: np.ndarray, templates: np.ndarray, people: list[str]) -> None:
        pixels.tofile(self._pixels)
        np.asarray(templates, np.float32).tofile(self._templates)
        numbers = self._numbers
        rows = [numbers.setdefault(name, len(numbers)) if name else -1 for name in people]
        self._identity.append(np.array(rows, np.int64))

    def identity(self) -> np.ndarray:
        """People numbered in the order of their names, as `load_faces` does."""
        found = np.concatenate([*self._identity, np.zeros(0, np.int64)])
        place = np.empty(len(self._numbers) + 1, np.int64)
        place[[self._numbers[name] for name in sorted(self._numbers)]] = np.arange(len(self._numbers))
        place[-1] = -1  # where -1, the unknown, points
        return np.asarray(place[found])


def _write(
    folder: Path,
    numbers_of: dict[Path, str],
    blended: list[Path],
    judges: np.ndarray,
    framing: Framing,
    backbone: Backbone,
    split: Split,
) -> None:
    left_out = blends = 0
    with ExitStack() as stack:
        writers = {}
        for name in SPLITS:
            (folder / name).mkdir()
            writers[name] = _Writer(folder / name, stack)
        for file in [*numbers_of, *blended]:
            suspects = judges[:0] if file in blended else judges  # a blend shows nobody
            for faces, templates in face_blocks(file, backbone, lambda face: split.of(face) in SPLITS):
                splits = np.array([split.of(face) for face in faces])
                alike = (splits == "train") & unknown_lookalikes(faces, templates, suspects, backbone)
                left_out += int(alike.sum())
                blends += len(faces) if file in blended else 0
                for name, writer in writers.items():
                    rows = np.flatnonzero((splits == name) & ~alike)
                    some = [faces[i] for i in rows]
                    people = [told_apart(face.identity, numbers_of.get(file, "")) for face in some]
                    writer.add(decoded(some, len(some), file, framing), templates[rows], people)
    for name, writer in writers.items():
        write_atomically(folder / name / "identity.npy", partial(np.save, arr=writer.identity()))
    write_atomically(folder / META, json.dumps({"left_out": left_out, "blends": blends}).encode())


def _open(folder: Path, side_px: int, dim: int) -> TrainingFaces:
    train, held_out = (_faces(folder / name, side_px, dim) for name in SPLITS)
    if not len(train):
        shutil.rmtree(folder)
        raise InputError("there is no face to train on", do="name sets with faces of the split `train` or of none")
    held_out = FaceSet(held_out.pixels.copy(), held_out.templates.copy(), held_out.identity, (), ())
    about = json.loads((folder / META).read_text())
    # Maps from before there were blends do not tell.
    return TrainingFaces(replace(train, blends=about.get("blends", 0)), held_out, about["left_out"])


def _faces(folder: Path, side_px: int, dim: int) -> FaceSet:
    identity = np.load(folder / "identity.npy")
    count = len(identity)
    if not count:
        return FaceSet(np.zeros((0, side_px, side_px, 3), np.uint8), np.zeros((0, dim), np.float32), identity, (), ())
    pixels = np.memmap(folder / "pixels", np.uint8, "r", shape=(count, side_px, side_px, 3))
    # Open for writing, though nobody writes: torch takes no array that it may not change.
    templates = np.memmap(folder / "templates", np.float32, "r+", shape=(count, dim))
    return FaceSet(np.asarray(pixels), np.asarray(templates), identity, (), ())
