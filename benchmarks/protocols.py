"""Pair lists: which two photos are compared, and whether they show one person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.errors import InputError


@dataclass(frozen=True)
class Pairs:
    """Indices into a list of photos, the truth, and the fold of each pair."""

    first: np.ndarray  # int64 [N]
    second: np.ndarray
    same: np.ndarray  # bool [N]
    fold: np.ndarray  # int64 [N]


def read_lfw_pairs(path: Path, photos: tuple[str, ...]) -> Pairs:
    """LFW's format: a header `folds pairs` or `pairs`, then per fold the genuine `name i j` and impostor
    `name i name j` lines. Photos are named `name_000i.jpg`. Raises InputError naming the line.
    """
    index = {Path(photo).stem: i for i, photo in enumerate(photos)}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable pair list", got=error) from error
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
