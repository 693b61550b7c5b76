"""From photos to one template: detect, check, align, embed, agree that it is one person, fuse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device.alignment import align, shrink
from device.detector import PHOTO_SIDES_PX, FaceDetector
from device.image import IMAGE_SUFFIXES, read_image
from device.quality import ADVICE, QualityLimits, assess, choose_face
from models.backbone import Backbone
from models.generator import fuse_photos
from models.spec import WHOLE, Framing
from toolkit.errors import FaceError, InputError, UsageError

# The cosine, by backbone, from which two photos count as one person; chosen on the pairs of held-out people. Only the
# most typical photo is asked, because photos of one person may be years apart.
SAME_PERSON_COSINE = {"sface": 0.30, "dlib": 0.40, "sface+dlib": 0.35}


@dataclass(frozen=True)
class PhotoReport:
    """What became of one photo. `reason` is empty when it was used."""

    file: str
    reason: str
    message: str
    template: np.ndarray | None = None
    shown: np.ndarray | None = None  # what the verifier sees of it, uint8 RGB [S, S, 3]


@dataclass(frozen=True)
class Enrolment:
    """The fused unit template [D], and a report for every photo."""

    template: np.ndarray
    photos: tuple[PhotoReport, ...]

    @property
    def accepted(self) -> int:
        return sum(not photo.reason for photo in self.photos)

    def used(self) -> tuple[np.ndarray, np.ndarray]:
        """What the verifier sees, uint8 RGB [K, S, S, 3], and templates [K, D] of the photos that were used."""
        return used_photos(self.photos)


def used_photos(photos: Iterable[PhotoReport]) -> tuple[np.ndarray, np.ndarray]:
    """What the verifier sees, uint8 RGB [K, S, S, 3], and templates [K, D] of the used photos, at least one."""
    used = [photo for photo in photos if not photo.reason]
    faces = [photo.shown for photo in used if photo.shown is not None]
    return np.stack(faces), np.stack([photo.template for photo in used if photo.template is not None])


def find_photos(arguments: list[str]) -> list[Path]:
    """Files, folders and glob patterns to photo files, each once, in order. Raises InputError when there are none."""
    files: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise InputError(f"the folder {path} holds no photos", expected=", ".join(IMAGE_SUFFIXES))
            files += inside
        elif any(c in argument for c in "*?[") and not path.exists():
            base = Path(path.anchor) if path.is_absolute() else Path()
            pattern = str(path.relative_to(path.anchor) if path.is_absolute() else path)
            try:
                matches = sorted(base.glob(pattern))
            except ValueError as error:
                raise UsageError(f"{argument} is not a pattern", got=error) from error
            if not matches:
                raise InputError(f"no file matches {argument}")
            files += [p for p in matches if p.suffix.lower() in IMAGE_SUFFIXES]
        else:
            files.append(path)
    if not files:
        raise UsageError("no photos given", do="name photo files, folders or patterns")
    return list(dict.fromkeys(files))


class Enroller:
    """Holds detector and backbone for any number of enrolments."""

    def __init__(self, detector: bytes, backbone: Backbone, framing: Framing, limits: QualityLimits | None = None):
        """`framing` is the verifier's: what it sees of the photos is kept, and says which of them are sharp."""
        self._detector = FaceDetector(detector, PHOTO_SIDES_PX)
        self._backbone, self._framing, self._limits = backbone, framing, limits or QualityLimits()

    def enrol(self, files: Iterable[Path]) -> Enrolment:
        """Raises FaceError when no photo can be used or no majority shows one person."""
        cosine = SAME_PERSON_COSINE[self._backbone.name]
        reports = reject_strangers([self._report(file) for file in files], cosine)
        if all(photo.reason for photo in reports):
            reasons = "; ".join(f"{Path(p.file).name}: {p.message}" for p in reports[:5])
            raise FaceError("no_usable_photo", f"none of {len(reports)} photos can be used", got=reasons)
        return Enrolment(fuse_photos(*used_photos(reports), self._framing), tuple(reports))

    def _report(self, file: Path) -> PhotoReport:
        try:
            crop = self._crop(read_image(file))
        except FaceError as error:
            return PhotoReport(str(file), error.reason, str(error))
        except InputError as error:
            return PhotoReport(str(file), "unreadable", str(error))
        return PhotoReport(str(file), "", "used", self._backbone.embed(crop[None])[0], shrink(crop, self._framing))

    def _crop(self, rgb: np.ndarray) -> np.ndarray:
        """The aligned crop of the only face, or FaceError."""
        face, reason = choose_face(self._detector.detect(rgb), self._limits, alone=True)
        if face is None:
            raise FaceError(reason, ADVICE[reason])
        crop = align(rgb, face.landmarks)
        if reason := assess(crop, face, self._limits, WHOLE).reason:
            raise FaceError(reason, ADVICE[reason])
        return crop


def reject_strangers(reports: list[PhotoReport], cosine: float) -> list[PhotoReport]:
    """Mark photos that do not show the same person, by their templates' `cosine`, as most of the others.

    The most typical photo is the one that agrees with most others. Raises FaceError when it has no majority.
    """
    rows = [i for i, photo in enumerate(reports) if photo.template is not None]
    if len(rows) < 2:
        return reports
    templates = np.stack([reports[i].template for i in rows])  # type: ignore[misc]
    agrees = templates @ templates.T >= cosine
    typical = int(np.argmax(agrees.sum(1)))
    if agrees[typical].sum() * 2 <= len(rows):
        raise FaceError(
            "mixed_people",
            f"the {len(rows)} usable photos show different people",
            expected="photos of one person",
            do="enrol each person on their own",
        )
    marked = list(reports)
    for row, same in zip(rows, agrees[typical], strict=True):
        if not same:
            file = reports[row].file
            message = "not the same person as the others; leave it out or enrol that person on their own"
            marked[row] = PhotoReport(file, "another_person", message, reports[row].template)
    return marked
