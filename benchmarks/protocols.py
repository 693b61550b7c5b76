"""Pair lists: which two photos are compared, and whether they show one person."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.faceset import FaceSet
from models.packs import read_bin
from toolkit.errors import InputError


@dataclass(frozen=True)
class Pairs:
    """Indices into a list of photos, the truth, and the fold of each pair."""

    first: np.ndarray  # int64 [N]
    second: np.ndarray
    same: np.ndarray  # bool [N]
    fold: np.ndarray  # int64 [N]


FOLDS = 10  # of a pack or a path list, as InsightFace counts its accuracy: in the order of the pairs


def pairs_of_pack(path: Path) -> Pairs:
    """A `.bin` pack's pairs: its images two by two. Raises InputError."""
    same = np.array(read_bin(path)[1])
    first = 2 * np.arange(len(same))
    return Pairs(first, first + 1, same, _folds(len(same)))


def _folds(count: int) -> np.ndarray:
    return np.arange(count) * min(FOLDS, count) // count


def read_pairs(path: Path, faces: FaceSet) -> Pairs:
    """LFW's format, or a line `photo photo 0|1` a pair. Raises InputError naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable pair list", got=error) from error
    words = re.split(r"[\s,]+", lines[0].strip()) if lines else []
    if len(words) == 3 and words[2] in ("0", "1"):
        return _path_pairs(path, lines, faces)
    return _lfw_pairs(path, lines, {Path(name).stem: i for i, name in enumerate(faces.names)})


def _path_pairs(path: Path, lines: list[str], faces: FaceSet) -> Pairs:
    """Photos are named as they lie, PERSON/FILE, or by FILE alone where that is unique."""
    index: dict[str, int] = {}
    for i, name in enumerate(faces.names):
        index[name] = -1 if name in index else i
    for i, (name, person) in enumerate(zip(faces.names, faces.identity, strict=True)):
        if person >= 0:
            index[f"{faces.people[person]}/{name}"] = i
    rows = []
    for number, line in enumerate(lines, 1):
        words = re.split(r"[\s,]+", line.strip())
        if len(words) != 3 or words[2] not in ("0", "1"):
            raise InputError(f"{path}: line {number} is not a pair", got=line[:80], expected="`photo photo 0` or `… 1`")
        for photo in words[:2]:
            if index.get(photo, -1) < 0:
                which = "more than one photo" if photo in index else "no photo"
                raise InputError(f"{path}: line {number}: {which} {photo} among the faces", do="write PERSON/FILE")
        rows.append((index[words[0]], index[words[1]], int(words[2])))
    table = np.array(rows, np.int64)
    return Pairs(table[:, 0], table[:, 1], table[:, 2].astype(bool), _folds(len(rows)))


def _lfw_pairs(path: Path, lines: list[str], index: dict[str, int]) -> Pairs:
    """A header `folds pairs` or `pairs`, then per fold the genuine `name i j` and impostor `name i name j` lines.

    Photos are named `name_000i.jpg`.
    """
    header = lines[0].split() if lines else []
    if not header or len(header) > 2 or not all(word.isdecimal() and int(word) > 0 for word in header):
        raise InputError(f"{path}: line 1 is not a header", expected="`folds pairs` or `pairs`")
    per_fold = 2 * int(header[-1])
    folds = int(header[0]) if len(header) == 2 else 1
    body = [(number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]
    if len(body) != folds * per_fold:
        raise InputError(f"{path} has another length than its header", got=len(body), expected=folds * per_fold)
    rows = [_pair(path, number, line, index) for number, line in body]
    table = np.array(rows, np.int64)
    return Pairs(table[:, 0], table[:, 1], table[:, 2].astype(bool), np.arange(len(rows)) // max(per_fold, 1))


def _pair(path: Path, number: int, line: str, index: dict[str, int]) -> tuple[int, int, int]:
    words = line.split("\t") if "\t" in line else line.split()
    if len(words) not in (3, 4):
        raise InputError(
            f"{path}: line {number} is not a pair", got=line.strip(), expected="`name i j` or `name i name j`"
        )
    names = [(words[0], words[1]), (words[0] if len(words) == 3 else words[2], words[-1])]
    found = []
    for name, photo in names:
        key = f"{name}_{int(photo):04d}" if photo.strip().isdecimal() else ""
        if key not in index:
            raise InputError(f"{path}: line {number}: no photo {name} {photo} among the faces")
        found.append(index[key])
    return found[0], found[1], int(len(words) == 3)
