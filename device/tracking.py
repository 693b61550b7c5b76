"""Faces followed from frame to frame, so that whole pictures are searched only now and then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from device.detector import Face, FaceDetector, overlap

SAME_FACE_OVERLAP = 0.3  # intersection over union from which two boxes are one face
FORGET_FRAMES = 3  # frames a face may be missing; a blink of the detector is no change of person


@dataclass
class Track:
    """One face and its number, which no other face ever gets. `missing`: frames since it was last seen."""

    number: int
    face: Face
    missing: int = 0


class Tracker:
    """Searches a whole picture every `detect_every` frames, or when it knows no face; else looks where faces were.

    With `largest_only`, one face is followed: the largest of the last search. Who was followed keeps their number only
    as long as their box overlaps the one before: evidence about one person never passes to another.
    """

    def __init__(self, detector: FaceDetector, detect_every: int = 10, *, largest_only: bool = True):
        self._detector, self._every, self._largest_only = detector, detect_every, largest_only
        self._tracks: list[Track] = []
        self._numbers = self._since = 0
        self.searches = 0

    def update(self, rgb: np.ndarray, small: np.ndarray | None = None) -> list[Track]:
        """Faces seen in this frame, uint8 RGB [H, W, 3], largest first."""
        self._since += 1
        visible = [track for track in self._tracks if not track.missing]
        if not visible or self._since >= self._every:
            self._search(rgb, small)
        else:
            for track in self._tracks:
                self._renew(track, self._detector.follow(rgb, track.face))
        self._tracks = [track for track in self._tracks if track.missing <= FORGET_FRAMES]
        return sorted((track for track in self._tracks if not track.missing), key=lambda track: -track.face.area)

    def _search(self, rgb: np.ndarray, small: np.ndarray | None) -> None:
        """Look at the whole picture, and give each face the number of the track it overlaps most, or a new one."""
        self.searches += 1
        self._since = 0
        faces = self._detector.detect(rgb) if small is None else self._detector.detect_scaled(small, rgb.shape)
        if self._largest_only:
            faces = faces[:1]
        known, self._tracks = self._tracks, []
        for face in faces:
            old = max(known, key=lambda track: overlap(track.face, face), default=None)
            if old is not None and overlap(old.face, face) >= SAME_FACE_OVERLAP:
                known.remove(old)
                self._tracks.append(Track(old.number, face))
            else:
                self._numbers += 1
                self._tracks.append(Track(self._numbers, face))
        if not faces or not self._largest_only:
            self._tracks += [Track(old.number, old.face, old.missing + 1) for old in known]

    def _renew(self, track: Track, face: Face | None) -> None:
        twin = face is not None and any(
            other is not track and not other.missing and overlap(other.face, face) >= SAME_FACE_OVERLAP
            for other in self._tracks
        )
        if face is None or twin or overlap(track.face, face) < SAME_FACE_OVERLAP:
            track.missing += 1
        else:
            track.face, track.missing = face, 0
