"""The score of a hypernetwork on held-out identities, during training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.faceset import FaceSet
from models.hypernetwork import HyperNetwork
from models.verifier import to_input, verify_users

BLOCK = 256
# An int8 score is one of 256 values; these quantiles of strangers' and of genuine scores become the first and the last.
# No threshold lies beyond them, and what lies between is told apart more finely.
LOWEST, HIGHEST = 0.05, 0.99


@dataclass(frozen=True)
class Validation:
    """Rates over pairs (template of an enrolled face, other face) of the validation set."""

    eer: float
    tmr_1e2: float  # true match rate at the threshold where one impostor in 100 is accepted
    tmr_1e3: float


def validate(network: HyperNetwork, faces: FaceSet, max_users: int = 0) -> Validation:
    """Rates of `held_out_scores`."""
    return rates(*held_out_scores(network, faces, max_users))


@torch.no_grad()
def fit_score_range(network: HyperNetwork, faces: FaceSet, max_users: int = 0) -> tuple[float, float]:
    """Let the scores among which decisions fall fill the int8 output: factor and shift, the same for all scores.

    Training leaves the scores' unit open.
    """
    genuine, impostor = held_out_scores(network, faces, max_users)
    low, high = float(np.quantile(impostor, LOWEST)), float(np.quantile(genuine, HIGHEST))
    if high <= low:
        return 1.0, 0.0  # a network that has learned nothing is left alone
    factor = 2 / (high - low)
    shift = 1 - factor * high
    for parameter in network.head.parameters():
        parameter.mul_(factor)
    network.head.bias[-1] += shift
    return factor, shift


@torch.no_grad()
def held_out_scores(network: HyperNetwork, faces: FaceSet, max_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Enrol every known face, or evenly spread `max_users` of them, from its one template; score all the others.

    Returns genuine and impostor scores.
    """
    network.eval()
    x = to_input(torch.from_numpy(faces.pixels).permute(0, 3, 1, 2))
    enrol = enrolled_rows(faces, max_users)
    templates = torch.from_numpy(faces.templates[enrol])
    if network.generator == "head":
        scores = torch.cat([network.shared_scores(templates, x[i : i + BLOCK]) for i in range(0, len(x), BLOCK)], 1)
    else:
        scores = torch.cat([_personal_scores(network, template[None], x) for template in templates])
    return split_scores(scores.numpy(), faces, enrol)


def enrolled_rows(faces: FaceSet, max_users: int) -> np.ndarray:
    """Rows of the known faces, or evenly spread `max_users` of them."""
    known = np.flatnonzero(faces.identity >= 0)
    return known if not max_users else known[np.linspace(0, len(known) - 1, min(max_users, len(known))).astype(int)]


def split_scores(scores: np.ndarray, faces: FaceSet, enrol: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Genuine and impostor scores of [U, N], a face against itself and unknown people left out."""
    same = faces.identity[enrol][:, None] == faces.identity[None, :]
    usable = (np.arange(len(faces))[None, :] != enrol[:, None]) & (faces.identity >= 0)[None, :]
    return scores[same & usable], scores[~same & usable]


def _personal_scores(network: HyperNetwork, template: Tensor, x: Tensor) -> Tensor:
    theta = network(template)  # [1, P]
    blocks = [verify_users(network.spec, theta, x[None, i : i + BLOCK]) for i in range(0, len(x), BLOCK)]
    return torch.cat(blocks, 1)  # [1, N]


def rates(genuine: np.ndarray, impostor: np.ndarray) -> Validation:
    genuine, impostor = np.sort(genuine), np.sort(impostor)
    thresholds = np.quantile(impostor, [0.99, 0.999])
    tmr = 1 - np.searchsorted(genuine, thresholds, "left") / len(genuine)
    miss = np.arange(len(genuine)) / len(genuine)
    false = 1 - np.searchsorted(impostor, genuine, "left") / len(impostor)
    crossing = int(np.argmin(np.abs(miss - false)))
    return Validation(float((miss[crossing] + false[crossing]) / 2), float(tmr[0]), float(tmr[1]))
