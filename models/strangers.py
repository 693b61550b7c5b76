"""Which faces of a bank meet one person: to learn people from, and to judge by.

A person of the bank is in one of the two parts only. Faces so like the enrolled person's that they may be that
person's are in neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.bank import Bank
from models.faceset import LOOKALIKE_COSINE
from toolkit.errors import InputError

APART = 0.2  # share of the bank's people that judges
MAX_APART = 8192  # faces of them; FMR 1e-3 then stands on eight of them
MIN_APART = 400  # faces; FMR 1e-2 then stands on four of them
KNOWN, PER_PERSON = 12_000, 10  # faces to learn from: at most so many, and of one person
MIN_KNOWN = 300  # people among them: fewer say too little of people
ENOUGH_KNOWN = round(MIN_KNOWN / (1 - APART))  # people of a bank, part of whom judges


@dataclass(frozen=True)
class Strangers:
    """Row numbers of the bank. Everyone in `known` has two faces or more there; it is empty if such people are few."""

    known: np.ndarray
    judging: np.ndarray


def choose_strangers(bank: Bank, template: np.ndarray, backbone: str, seed: int) -> Strangers:
    """`template` [D] of unit length. Raises InputError when the bank is too small."""
    cosine = bank.templates @ template
    # An unknown face counts as a person of its own.
    people = np.where(bank.identity >= 0, bank.identity, bank.identity.max(initial=0) + 1 + np.arange(len(bank)))
    usable = ~np.isin(people, np.unique(people[cosine > LOOKALIKE_COSINE[backbone]]))
    rng = np.random.default_rng(seed)
    part = rng.permutation(people.max(initial=0) + 1)[people] / (people.max(initial=0) + 1)  # [N] in 0..1
    judging = _some(usable & (part < APART), MAX_APART, rng)
    if len(judging) < MIN_APART:
        enough = round(MIN_APART / APART * 1.2)
        raise InputError("the bank is too small to refine with", got=f"{len(bank)} faces",
                         expected=f"about {enough} or more, of many people")  # fmt: skip
    known = _several_of_each(np.flatnonzero(usable & (part >= APART) & (bank.identity >= 0)), people, rng)
    return Strangers(known, judging)


def _several_of_each(rows: np.ndarray, people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Those of `rows` whose person has another among them, within KNOWN and PER_PERSON; none if people are few."""
    rows = rng.permutation(rows)
    rows = rows[np.argsort(people[rows], kind="stable")]
    _, first, counts = np.unique(people[rows], return_index=True, return_counts=True)
    several = rng.permutation(np.flatnonzero(counts > 1))
    several = several[np.cumsum(np.minimum(counts[several], PER_PERSON)) <= KNOWN]
    if len(several) < MIN_KNOWN:
        return rows[:0]
    return np.sort(np.concatenate([rows[first[p] : first[p] + min(counts[p], PER_PERSON)] for p in several]))


def _some(chosen: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Row numbers of at most `most` of the faces marked in `chosen` [N]."""
    return np.sort(rng.permutation(np.flatnonzero(chosen))[:most])
