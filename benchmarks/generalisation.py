"""Does a network know the people it was trained on better than others, and which part of it does?

    python -m benchmarks.generalisation models/weights/h.onnx --faces DATA/faces --out docs/results/generalisation.json

Held-out people are compared with as many training people, alike in their numbers of photos and in having relatives
among them: every face is enrolled and shown to all others. The backbone's cosines say how hard each of these groups
is by itself. Then the generator's readout, one matrix from what the trunk makes of a face to the backbone's templates,
is learned anew, in closed form, from all training people, and from one half of them, relatives together. The trunk was
trained on both halves. Where the half that is not taught scores as held-out people do, the trunk treats everybody
alike, and what is known of training people better lies in the readout.

Scores of strangers' lookalikes are made alike for every enrolled face (models/lookalikes.py); the verifier's own are so
already. For generators whose people share a trunk (`head`).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch

from benchmarks.metrics import threshold_at_fmr
from benchmarks.summaries import rate_between
from benchmarks.visitors import family
from models.backbone import load_backbone
from models.faceset import FaceSet, load_faces
from models.generator import Generator
from models.lookalikes import scores_of_lookalikes
from models.normalisation import with_one
from models.refine import features
from models.validate import rates
from toolkit.atomic import write_atomically
from toolkit.errors import InputError, UsageError

STRANGERS = 8192  # training faces whose lookalikes' scores are made alike
RIDGE = 1e-3  # of the features' mean square, of the constant too
FMR = 1e-3
SEED = 0


@dataclass(frozen=True)
class Group:
    """Faces [N] that are enrolled and shown to each other."""

    x: np.ndarray  # float32 [N, F], what the trunk makes of them
    templates: np.ndarray  # float32 [N, D]
    identity: np.ndarray  # int64 [N]

    @staticmethod
    def of(x: np.ndarray, faces: FaceSet, rows: np.ndarray, first: int = 0) -> Group:
        return Group(x[rows], faces.templates[rows], faces.identity[rows] + first)


def named(faces: FaceSet) -> FaceSet:
    """Those of people whose name is known."""
    rows = np.flatnonzero(faces.identity >= 0)
    return replace(faces, pixels=faces.pixels[rows], templates=faces.templates[rows], identity=faces.identity[rows],
                   names=tuple(faces.names[row] for row in rows))  # fmt: skip


def matched(wanted: FaceSet, faces: FaceSet, allowed: np.ndarray, seed: int = SEED) -> np.ndarray:
    """Rows [M] of as many people of `faces` as `wanted` has, out of those `allowed` [P]: for each person somebody with
    as many photos, else with a few more, of which so many are taken, else with the most. Who may have relatives there
    stands for who may. Raises InputError when there are too few people.
    """
    photos = _by_person(faces)
    pool = defaultdict(list)
    for person in np.random.default_rng(seed).permutation(sorted(photos)):
        if allowed[person]:
            pool[_related(faces, person)].append(int(person))
    rows: list[int] = []
    for person, own in _by_person(wanted).items():
        left = pool[_related(wanted, person)]
        if not left:
            raise InputError(
                "half of the training people are fewer than the held-out ones, with or without relatives",
                do="name more faces",
            )
        chosen = min(left, key=lambda p: (len(photos[p]) < len(own), abs(len(photos[p]) - len(own))))
        left.remove(chosen)
        rows += photos[chosen][: len(own)]
    return np.array(rows)


def half_of(people: tuple[str, ...]) -> np.ndarray:
    """bool [P]: half of the people, or nearly so: a family is in it whole, or not at all."""
    return np.array([crc32(family(person).encode()) % 2 == 0 for person in people])


def _by_person(faces: FaceSet) -> dict[int, list[int]]:
    rows = defaultdict(list)
    for row, person in enumerate(faces.identity.tolist()):
        rows[person].append(row)
    return rows


def _related(faces: FaceSet, person: int) -> bool:
    return family(faces.people[person]) != faces.people[person]


def readout(x: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """Ridge regression from features [N, F] to templates [N, D]: [F + 1, D], the constant in the last row."""
    a = torch.from_numpy(with_one(x))
    gram = (a.T @ a).double()
    gram += RIDGE * gram.trace() / len(gram) * torch.eye(len(gram), dtype=torch.float64)
    solved = torch.linalg.solve(gram, (a.T @ torch.from_numpy(templates)).double())
    return np.asarray(solved.float())


def judged(users: np.ndarray, shown: np.ndarray, group: Group, strangers: Group, theirs: np.ndarray) -> dict[str, Any]:
    """Rates of scores `users` [N, C] times `shown` [N, C]; `theirs` [S, C] is the same of the strangers."""
    cosines = group.templates @ strangers.templates.T
    same = group.identity[:, None] == strangers.identity[None, :]
    of_lookalikes = scores_of_lookalikes(users, cosines, np.pad(theirs, ((0, 0), (0, 1))), same)
    return _rates(users @ shown.T - of_lookalikes[:, None], group)


def _rates(scores: np.ndarray, group: Group) -> dict[str, Any]:
    same = group.identity[:, None] == group.identity[None, :]
    own = same & ~np.eye(len(same), dtype=bool)
    genuine, impostor = scores[own], scores[~same]
    wrong, who = genuine < threshold_at_fmr(impostor, FMR), group.identity[np.nonzero(own)[0]]
    return {
        "genuine_pairs": len(genuine),
        "impostor_pairs": len(impostor),
        "eer": rates(genuine, impostor).eer,
        "fnmr": rate_between(wrong, who, who),
    }


def measure(h: Generator, held_out: FaceSet, train: FaceSet) -> dict[str, Any]:
    """Rates by system and group. Raises UsageError (a generator of another kind), InputError (too few people)."""
    spec = h.info.spec
    if h.info.generator != "head":
        raise UsageError("people of this generator share no trunk", got=h.info.generator, expected="head")
    digests = {"faces_sha256": held_out.sha256, "training_sha256": train.sha256}
    held_out, train = named(held_out), named(train)
    theta = h.weights(held_out.templates[:1])[0]
    x_held_out, x = (torch.cat(list(features(spec, theta, faces.pixels))).numpy() for faces in (held_out, train))
    taught = half_of(train.people)
    strange = len(train.people)  # people are numbered in each set anew
    groups = {
        "held out": Group.of(x_held_out, held_out, np.arange(len(held_out)), strange),
        "training, taught": Group.of(x, train, matched(held_out, train, taught)),
        "training, not taught": Group.of(x, train, matched(held_out, train, ~taught)),
    }
    chosen = np.random.default_rng(SEED).permutation(len(train))[:STRANGERS]
    pupils = taught[train.identity]
    anew = {
        "readout anew, all": readout(x, train.templates),
        "readout anew, half": readout(x[pupils], train.templates[pupils]),
    }
    return {
        "schema_version": 1,
        "generator": {"version": h.info.version, "sha256": h.sha256},
        "people": len(np.unique(groups["held out"].identity)),
        **digests,
        "seed": SEED,
        "fmr": FMR,
        "rows": _systems(h, groups, Group.of(x, train, chosen), anew),
    }


def _systems(h: Generator, groups: dict[str, Group], strangers: Group, anew: dict[str, np.ndarray]) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, group in groups.items():
        t = group.templates
        heads = h.weights(t)[:, h.info.spec.slots[f"{h.info.spec.head.name}.weight"].offset :]  # [N, F + 1]
        rows["backbone"][name] = judged(t, t, group, strangers, strangers.templates)
        rows["verifier"][name] = _rates(heads @ with_one(group.x).T, group)
        for system, matrix in anew.items():
            shown, theirs = with_one(group.x) @ matrix, with_one(strangers.x) @ matrix
            rows[system][name] = judged(t, shown, group, strangers, theirs)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Does a generator know its training's people better than others?")
    parser.add_argument("h", type=Path, help="the generator, h.onnx beside its h.json")
    parser.add_argument("--faces", type=Path, action="append", required=True, help="the faces it was trained on")
    parser.add_argument("--out", type=Path, help="also write the JSON there")
    options = parser.parse_args()
    h = Generator(options.h)
    how = (h.info.spec.framing, load_backbone(h.info.backbone, threads=2), h.info.held_out_share)
    faces = [load_faces(options.faces, split, *how) for split in ("val", "train")]
    text = json.dumps(measure(h, *faces), indent=2)
    if options.out:
        write_atomically(options.out, (text + "\n").encode(), mode=0o644)
    print(text)


if __name__ == "__main__":
    main()
