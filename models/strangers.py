"""Which faces of a bank meet one person: to train on, to move the scores by, and to judge by.

A person of the bank is in one of the three parts only. Faces so like the enrolled person's that they may be that
person's are in none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.bank import Bank
from models.faceset import lookalike_cosine
from toolkit.errors import InputError

APART = 0.2  # share of the bank's people that judges, and as many move the scores
MAX_APART = 8192  # faces of them each; FMR 1e-3 then stands on eight of them
MIN_APART = 400  # faces; FMR 1e-2 then stands on four of them
SIMILAR, RANDOM = 800, 2000  # faces to train on


@dataclass(frozen=True)
class Strangers:
    """Row numbers of the bank, and every row's cosine [N] to the enrolled person's template."""

    similar: np.ndarray
    random: np.ndarray
    moving: np.ndarray
    judging: np.ndarray
    cosine: np.ndarray


def choose_strangers(bank: Bank, template: np.ndarray, backbone: str, seed: int) -> Strangers:
    """`template` [D] of unit length. Raises InputError when the bank is too small."""
    cosine = bank.templates @ template
    # An unknown face counts as a person of its own.
    people = np.where(bank.identity >= 0, bank.identity, bank.identity.max(initial=0) + 1 + np.arange(len(bank)))
    usable = ~np.isin(people, np.unique(people[cosine > lookalike_cosine(backbone)]))
    rng = np.random.default_rng(seed)
    part = rng.permutation(people.max(initial=0) + 1)[people] / (people.max(initial=0) + 1)  # [N] in 0..1
    moving = _some(usable & (part < APART), MAX_APART, rng)
    judging = _some(usable & (part >= APART) & (part < 2 * APART), MAX_APART, rng)
    if min(len(moving), len(judging)) < MIN_APART:
        enough = round(MIN_APART / APART * 1.2)
        raise InputError("the bank is too small to refine with", got=f"{len(bank)} faces",
                         expected=f"about {enough} or more, of many people")  # fmt: skip
    training = np.flatnonzero(usable & (part >= 2 * APART))
    similar = training[np.argsort(-cosine[training], kind="stable")[:SIMILAR]]
    random = rng.choice(training, min(RANDOM, len(training)), replace=False)
    return Strangers(similar, random, moving, judging, cosine)


def _some(chosen: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Row numbers of at most `most` of the faces marked in `chosen` [N]."""
    return np.sort(rng.permutation(np.flatnonzero(chosen))[:most])
