"""How high a person's strangers score, learned from the template alone.

The mean of strangers' scores follows from the template in closed form (`models/normalisation.py`), but a threshold
stands far above it, where a hundredth of them or fewer score, and how far differs from person to person: people whom
many resemble have more strangers there. Refinement finds that place with a bank of strangers for each person anew. Here
it is found once for thousands of training people, and a small network learns to say it of anybody's template: what one
person's refinement finds, in one pass and with no face at enrolment.

This is the project's own step; the paper is not known to have one.

Letters: U people, N strangers' faces, D template dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.faceset import FaceSet, PersonTargets

SHARE = 0.01  # of strangers who score higher: far out, and still hundreds of the faces that it is measured on
USERS = 24_576  # people and photos that the network learns from
MOVED = 0.5  # share of them whose template is moved, where more photos of the person are known
HIDDEN = 64
SLOPE = 0.1  # of the hidden units' leaky ReLU
EPOCHS, BATCH, RATE = 60, 256, 3e-3
EXTREMES = (0.001, 0.999)  # of what was learned from: the network says nothing beyond them
BLOCK = 512


@dataclass(frozen=True)
class Tail:
    """A network of one hidden layer: weights `first` [D + 1, H] and `last` [H + 1, 1], the biases in the last rows;
    what it says lies within `limits`."""

    first: np.ndarray
    last: np.ndarray
    limits: tuple[float, float]

    def of(self, templates: np.ndarray) -> np.ndarray:
        """How far above the mean SHARE of strangers reach [N], for templates [N, D]."""
        hidden = templates @ self.first[:-1] + self.first[-1]
        hidden = np.where(hidden > 0, hidden, SLOPE * hidden)
        return np.asarray(np.clip(hidden @ self.last[:-1] + self.last[-1], *self.limits)[:, 0], np.float64)


def enrolled_templates(faces: FaceSet, rows: np.ndarray, seed: int) -> np.ndarray:
    """Templates [U, D] of `rows`. MOVED of them lie between the photo's and the mean of the person's, as one of several
    photos does."""
    rng = np.random.default_rng(seed)
    share = rng.random(len(rows)) * (rng.random(len(rows)) < MOVED)
    return PersonTargets(faces).of(rows, share)


@torch.no_grad()
def highest_strangers(t: np.ndarray, y: np.ndarray, same: np.ndarray) -> np.ndarray:
    """The score that SHARE of the strangers reach [U]: scores are t [U, K] times y [N, K], but for `same` [U, N].

    Minus infinity for somebody who has no stranger.
    """
    scores = torch.from_numpy(t) @ torch.from_numpy(y).T
    scores[torch.from_numpy(same)] = -torch.inf
    strangers = (~same).sum(1)
    ranked = scores.topk(max(1, round(SHARE * scores.shape[1])), dim=1).values  # [U, highest]
    place = np.clip(np.rint(SHARE * strangers).astype(np.int64) - 1, 0, ranked.shape[1] - 1)
    return np.asarray(ranked[torch.arange(len(t)), torch.from_numpy(place)])


def learn_tail(templates: np.ndarray, above: np.ndarray, seed: int) -> Tail:
    """Fit templates [U, D] to the places of their strangers' tails, in score above the mean [U]."""
    x = torch.from_numpy(templates)
    wanted = torch.from_numpy(above.astype(np.float32))
    centre, unit = wanted.mean(), wanted.std(unbiased=False).clamp(min=1e-6)
    # Templates have length one; the factor brings each coordinate to about one.
    gain = templates.shape[1] ** 0.5
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        first, last = nn.Linear(templates.shape[1], HIDDEN), nn.Linear(HIDDEN, 1)
        order = torch.Generator().manual_seed(seed)
    _fit(first, last, x * gain, (wanted - centre) / unit, order)
    low, high = np.quantile(above, EXTREMES)
    with torch.no_grad():
        read = torch.cat([first.weight.T * gain, first.bias[None]])
        said = torch.cat([last.weight.T * unit, last.bias[None] * unit + centre])
    return Tail(read.numpy(), said.numpy(), (float(low), float(high)))


def _fit(first: nn.Linear, last: nn.Linear, x: Tensor, wanted: Tensor, order: torch.Generator) -> None:
    batch = min(BATCH, len(x))
    steps = EPOCHS * (len(x) // batch)
    optimiser = torch.optim.AdamW([*first.parameters(), *last.parameters()], RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=order)[: len(x) // batch * batch].view(-1, batch):
            said = last(F.leaky_relu(first(x[rows]), SLOPE))[:, 0]
            optimiser.zero_grad(set_to_none=True)
            F.mse_loss(said, wanted[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
