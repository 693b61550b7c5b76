"""What a bank is made of: Parquet files of aligned crops, and folders of ordinary photos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from device.alignment import align, shrink
from device.detector import PHOTO_SIDES_PX, FaceDetector
from device.image import IMAGE_SUFFIXES, read_image
from device.quality import QualityLimits, choose_face
from models.backbone import Backbone, load_backbone
from models.bank import BankFaces
from models.facedata import decoded, face_blocks
from models.facestream import Face, face_files, own_numbers, packed_files, told_apart
from models.spec import Framing
from toolkit.errors import InputError
from toolkit.progress import track

Found = tuple[np.ndarray, np.ndarray] | str  # crop and template, or why there are none


@dataclass
class Sources:
    """Reads sources one after the other. `unused` counts, by reason, the photos that gave no face."""

    backbone: Backbone
    backbone_path: Path | None
    detector: bytes
    framing: Framing
    split: str  # of Parquet files that have splits; empty: every face
    processes: int
    unused: Counter[str] = field(default_factory=Counter)

    def faces(self, sources: list[Path]) -> Iterator[BankFaces]:
        """Raises InputError for a source that is neither a Parquet file nor a folder with photos or Parquet files."""
        numbers_of = own_numbers(sources)
        for source in sources:
            if source.is_file() or packed_files(source):
                for file in face_files([source]):
                    yield from self._crops(file, numbers_of[file])
            else:
                yield from self._photos(source, numbers_of[source])

    def _crops(self, path: Path, number_prefix: str) -> Iterator[BankFaces]:
        for faces, templates in face_blocks(path, self.backbone, self._wanted):
            crops = decoded(faces, len(faces), path, self.framing)
            yield BankFaces(crops, templates, [told_apart(face.identity, number_prefix) for face in faces])

    def _wanted(self, face: Face) -> bool:
        return not self.split or (face.split or "train") == self.split

    def _photos(self, folder: Path, number_prefix: str) -> Iterator[BankFaces]:
        """The largest face of every photo; those in one sub-folder, however deep, are of one person."""
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise InputError(f"{folder} holds no photos and no Parquet files", expected=", ".join(IMAGE_SUFFIXES))
        start = (self.detector, self.backbone.name, self.backbone_path, self.framing)
        # Spawned, because a fork of a process with a running ONNX Runtime may hang.
        with ProcessPoolExecutor(self.processes, get_context("spawn"), _start_worker, start) as pool:
            results = pool.map(_face_of, files, chunksize=8)
            for file, found in zip(files, track(results, f"photos of {folder.name}", len(files)), strict=True):
                if isinstance(found, str):
                    self.unused[found] += 1
                    continue
                person = str(file.parent.relative_to(folder)) if file.parent != folder else ""
                yield BankFaces(found[0][None], found[1][None], [told_apart(person, number_prefix)])


class _Worker:
    """What one process needs, loaded once."""

    def __init__(self, detector: bytes, backbone: str, path: Path | None, framing: Framing):
        self.detector, self.framing = FaceDetector(detector, PHOTO_SIDES_PX), framing
        self.backbone = load_backbone(backbone, path)

    def face(self, file: Path) -> Found:
        try:
            rgb = read_image(file)
        except InputError:
            return "unreadable"
        # Strangers at a door are seldom well lit or alone: only size counts here.
        face, reason = choose_face(self.detector.detect(rgb), limits := QualityLimits(), alone=False)
        if face is None:
            return reason
        if face.eye_distance_px < limits.min_eye_distance_px:
            return "too_small"
        crop = align(rgb, face.landmarks)
        return shrink(crop, self.framing), self.backbone.embed(crop[None])[0]


_worker: _Worker


def _start_worker(detector: bytes, backbone: str, path: Path | None, framing: Framing) -> None:
    global _worker
    _worker = _Worker(detector, backbone, path, framing)


def _face_of(file: Path) -> Found:
    return _worker.face(file)
