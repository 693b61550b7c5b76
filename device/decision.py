"""Evidence about one face, frame by frame, until it is enough: a sequential test for each enrolled user.

After Wald, "Sequential Tests of Statistical Hypotheses", 1945, with bounds fitted to frames that depend on each other
(device/score_model.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from device.score_model import ScoreModel

ACCEPTED, REJECTED, UNKNOWN = "accepted", "rejected", "unknown"


@dataclass(frozen=True)
class Rates:
    """What a visit may go wrong with. Among several users, `false_accept` is shared out: it is that of the device."""

    false_accept: float = 1e-3
    false_reject: float = 0.1
    frames: int = 30  # at most so many usable frames a visit: two seconds


@dataclass(frozen=True)
class Decision:
    """Accepted as one user, rejected by all, or unknown: enough frames, not enough evidence.

    `evidence`: the log-likelihood ratio of that user, of the likeliest one when nobody was accepted.
    """

    outcome: str
    user: str
    evidence: float
    bound: float
    score: float
    frames: int


class SequentialTest:
    """The bounds for a set of users; `begin()` gives the evidence of a new face."""

    def __init__(self, models: Mapping[str, ScoreModel], rates: Rates):
        self.models, self.rates = dict(models), rates
        share = rates.false_accept / max(1, len(models))
        self.accept = {user: model.bound(share, rates.frames) for user, model in models.items()}
        self.reject = {user: model.floor(rates.false_reject, rates.frames) for user, model in models.items()}

    def begin(self) -> Evidence:
        return Evidence(self)


class Evidence:
    """Scores of one face. Never handed from one face to another."""

    def __init__(self, test: SequentialTest):
        self._test, self.frames, self.decided = test, 0, False
        self._sums = dict.fromkeys(test.models, 0.0)

    def ratio(self, user: str) -> float:
        """The log-likelihood ratio so far: positive speaks for the user."""
        if not self.frames:
            return 0.0
        return float(self._test.models[user].log_likelihood_ratio(self._sums[user] / self.frames, self.frames))

    def share(self, user: str) -> float:
        """How far the evidence has come to its bound, 1 at acceptance."""
        return self.ratio(user) / self._test.accept[user]

    @property
    def likeliest(self) -> str:
        return max(self._sums, key=self.share)

    def add(self, scores: Mapping[str, float]) -> Decision | None:
        """Take one frame's score of every user; a decision when there is one."""
        self.frames += 1
        for user in self._sums:
            self._sums[user] += scores[user]
        user = self.likeliest
        if self.share(user) >= 1:
            return self.decision(ACCEPTED)
        if all(self.ratio(other) <= self._test.reject[other] for other in self._sums):
            return self.decision(REJECTED)
        return self.decision(UNKNOWN) if self.frames >= self._test.rates.frames else None

    def decision(self, outcome: str) -> Decision:
        user, self.decided = self.likeliest, True
        mean = self._sums[user] / max(1, self.frames)
        return Decision(outcome, user, self.ratio(user), self._test.accept[user], mean, self.frames)
