"""Intervals that know that comparisons share people: the bootstrap over people instead of over pairs.

Pairs of one person err together, so an interval over independent pairs is too narrow. Here people are drawn with
replacement and bring all their comparisons: one of person a with person b counts as often as a was drawn times b was
drawn (Bolle, Ratha and Pankanti, "Error analysis of pattern recognition systems: the subsets bootstrap", 2004, for
genuine pairs; Snijders and Borgatti's vertex bootstrap, 1999, for pairs of people).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

ROUNDS = 1000
SEED = 0
_BLOCK = 50  # draws at a time: bounds the memory


def interval_over_people(
    wrong: np.ndarray, a: np.ndarray, b: np.ndarray, confidence: float = 0.95, rounds: int = ROUNDS, seed: int = SEED
) -> tuple[float, float] | tuple[None, None]:
    """Percentile interval of the share of `wrong` [N] bool, for comparisons of people `a` [N] with people `b` [N].

    (None, None) when there is no error or fewer than two people: resampling cannot tell anything then.
    """
    people, index = np.unique(np.concatenate([a, b]), return_inverse=True)
    first, second = index[: len(a)], index[len(a) :]
    if not wrong.any() or len(np.unique(first)) < 2:
        return None, None
    if np.array_equal(a, b):
        shares = _one_way(wrong, first, len(people), rounds, seed)
    else:
        shares = _two_way(wrong, first, second, len(people), rounds, seed)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(shares, [tail, 1 - tail])
    return float(low), float(high)


def _one_way(wrong: np.ndarray, person: np.ndarray, people: int, rounds: int, seed: int) -> np.ndarray:
    errors, trials = np.bincount(person, wrong, people), np.bincount(person, minlength=people)
    shares = [w @ errors / (w @ trials) for w in _draws(people, rounds, seed)]
    return np.concatenate(shares)


def _two_way(wrong: np.ndarray, a: np.ndarray, b: np.ndarray, people: int, rounds: int, seed: int) -> np.ndarray:
    """Counts of errors and trials between every two people that meet, as sparse matrices."""
    from scipy.sparse import coo_matrix

    # Only people who enrolled make rows, so that a million strangers cost a vector and no matrix.
    rows, row = np.unique(a, return_inverse=True)
    shape = (len(rows), people)
    trials = coo_matrix((np.ones(len(a)), (row, b)), shape).tocsr()
    errors = coo_matrix((np.ones(int(wrong.sum())), (row[wrong], b[wrong])), shape).tocsr()
    shares = []
    for w in _draws(people, rounds, seed):
        chosen = w[:, rows]
        with np.errstate(invalid="ignore"):  # a draw without any pair says nothing, and is left out as a NaN
            shares.append(((errors.T @ chosen.T).T * w).sum(1) / ((trials.T @ chosen.T).T * w).sum(1))
    return np.concatenate(shares)


def _draws(people: int, rounds: int, seed: int) -> Iterator[np.ndarray]:
    """How often each person was drawn, [_BLOCK, people] at a time."""
    rng = np.random.default_rng(seed)
    share = np.full(people, 1 / people)
    for start in range(0, rounds, _BLOCK):
        yield rng.multinomial(people, share, min(_BLOCK, rounds - start)).astype(np.float64)
