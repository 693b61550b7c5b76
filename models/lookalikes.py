"""How high the strangers score who look most like a person, learned from the template alone.

The mean of all strangers' scores follows from the template in closed form (`models/normalisation.py`), but most of them
are told apart with ease. Those who matter are the few whom the backbone itself finds like the person, and how far above
the mean they score differs from person to person. A bank of strangers would say it for each person anew. Here it is
found once for thousands of training people, and a small network learns to say it of anybody's template: in one pass and
with no face at enrolment.

A lookalike here is another person. Faces without a name so like somebody's that they may be that person's own
(`LOOKALIKE_COSINE` of `models/faceset.py`) are another matter, and left out.

This is the project's own step; the paper is not known to have one.

Letters: U people, N strangers' faces, D template dimensions, K lookalikes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.faceset import FaceSet, PersonTargets

SHARE = 0.03  # of strangers who count as lookalikes: about a thousand of the faces that it is measured on
MOVED = 0.5  # share of them whose template is moved, where more photos of the person are known
HIDDEN = 256
SLOPE = 0.1  # of the hidden units' leaky ReLU
EPOCHS, BATCH, RATE = 30, 256, 3e-3
EXTREMES = (0.001, 0.999)  # of what was learned from: the network says nothing beyond them
BLOCK = 512


@dataclass(frozen=True)
class LookalikeNetwork:
    """A network of one hidden layer: weights `first` [D + 1, H] and `last` [H + 1, 1], the biases in the last rows;
    what it says lies within `limits`."""

    first: np.ndarray
    last: np.ndarray
    limits: tuple[float, float]

    def of(self, templates: np.ndarray) -> np.ndarray:
        """How far above all strangers' mean those most like a person score [N], for templates [N, D]."""
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
def scores_of_lookalikes(users: np.ndarray, cosines: np.ndarray, y: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Mean score of the SHARE of strangers most like each user [U], from users' templates [U, D] and their cosines with
    the strangers' [U, N].

    Scores are [users, 1] times y [N, D + 1]; who is the same person, `same` [U, N], is no stranger. NaN for somebody
    who has no stranger.
    """
    t, said = torch.from_numpy(users), torch.from_numpy(y)
    others = torch.from_numpy(cosines).masked_fill(torch.from_numpy(same), -torch.inf)
    count = torch.from_numpy(_how_many((~same).sum(1)))  # [U]
    rows = others.topk(int(count.max()), dim=1).indices  # [U, K]
    scores = (t @ said[:, :-1].T + said[:, -1]).gather(1, rows)
    counted = torch.arange(rows.shape[1]) < count[:, None]
    return np.asarray((scores * counted).sum(1) / count)


def likest(cosines: Tensor) -> Tensor:
    """Row numbers of the SHARE of strangers most like one person, by their templates' cosines with the person's [N]."""
    return cosines.topk(int(_how_many(len(cosines)))).indices


def _how_many(strangers: np.ndarray | int) -> np.ndarray:
    """Of so many strangers count as lookalikes: one at least, if there is a stranger."""
    return np.asarray(np.ceil(SHARE * strangers), np.int64)


def learn_lookalikes(templates: np.ndarray, above: np.ndarray, seed: int) -> LookalikeNetwork:
    """Fit templates [U, D] to how far above the mean their lookalikes score [U]."""
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
    return LookalikeNetwork(read.numpy(), said.numpy(), (float(low), float(high)))


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
