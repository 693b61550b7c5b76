"""What the verifier is trained for.

Weighted binary cross-entropy and a norm penalty on the generated weights are the paper's. Distillation from the
backbone's own similarities, of their values and of their ranking, is this project's addition: it gives a target to
every pair, also of unknown people. So is the penalty on faces that strangers' verifiers treat apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.margin import margin_softmax

# A score is the backbone's cosine, shifted and stretched so that the range where decisions fall, cosines of -0.25 to
# 0.75, fills the int8 output range [-1, 1].
COSINE_CENTRE = 0.25
COSINE_GAIN = 2.0
HIGHEST = 0.1  # share of strangers' scores whose mean is to be alike for all faces, beside their deviation
RANKING_SHARPNESS = 6.0  # of the softmax: a cosine 0.1 higher weighs 3.3 times as much


def cosine_to_score(cosine: Tensor, clip: bool = True) -> Tensor:
    """Into the int8 output's range, [-1, 1], or beyond it."""
    score = (cosine - COSINE_CENTRE) * COSINE_GAIN
    return score.clamp(-1.0, 1.0) if clip else score


@dataclass(frozen=True)
class Terms:
    """The loss, and its parts for the log."""

    total: Tensor
    distillation: Tensor
    ranking: Tensor
    cross_entropy: Tensor
    norm: Tensor
    cohort: Tensor

    def __add__(self, other: Terms) -> Terms:
        return Terms(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


class VerificationLoss(nn.Module):
    """Sum of five terms over (template, face) pairs. Holds the learned score-to-logit line."""

    def __init__(self, positive_weight: float, margin: float = 0.0):
        super().__init__()
        self.positive_weight, self.margin = positive_weight, margin
        self.gain = nn.Parameter(torch.tensor(8.0))
        self.shift = nn.Parameter(torch.tensor(-1.0))

    def forward(
        self,
        scores: Tensor,
        cosines: Tensor,
        same: Tensor,
        personal: Tensor,
        weights: tuple[float, float, float, float, float],
        every_pair: bool,
    ) -> Terms:
        """scores, cosines [U, N]; same [U, N] = 1 genuine, 0 impostor, -1 unknown; personal: the generated part of θ.

        `every_pair`: column n is one face under every template, and row n < N is that face's own; else each row has
        faces of its own, and there is no cohort. `weights` are those of the terms at this point of the schedule.
        """
        distillation = F.mse_loss(scores, cosine_to_score(cosines))
        entropy = self._entropy(scores, same)
        if self.margin:
            entropy = margin_softmax(scores, same, self.gain, self.margin, dim=0 if every_pair else 1)
        if every_pair:
            faces = scores.shape[1]
            ranked = (ranking(scores[:faces], cosines[:faces]) + ranking(scores.T, cosines.T)) / 2
        else:
            ranked = ranking(scores, cosines)
        norm = personal.square().mean()
        cohort = unlike_faces(scores[scores.shape[1] :]) if every_pair and weights[-1] else norm.new_zeros(())
        parts = (distillation, ranked, entropy, norm, cohort)
        total = torch.stack([w * part for w, part in zip(weights, parts, strict=True)]).sum()
        return Terms(total, *parts)

    def _entropy(self, scores: Tensor, same: Tensor) -> Tensor:
        """Weighted binary cross-entropy; unknown pairs weigh nothing."""
        weight = torch.where(same > 0, self.positive_weight, 1.0) * (same >= 0)
        logits = scores * self.gain + self.shift
        total = F.binary_cross_entropy_with_logits(logits, (same > 0).float(), weight, reduction="sum")
        return total / weight.sum().clamp(min=1)


def ranking(scores: Tensor, cosines: Tensor) -> Tensor:
    """Kullback-Leibler divergence between the backbone's and the verifier's softmax over each row's faces.

    Squared error spends the small network on the many unlike pairs; this spends it on who comes first.
    """
    wanted = F.log_softmax(cosine_to_score(cosines, clip=False) * RANKING_SHARPNESS, dim=1)
    found = F.log_softmax(scores * RANKING_SHARPNESS, dim=1)
    return F.kl_div(found, wanted, log_target=True, reduction="batchmean")


def unlike_faces(scores: Tensor) -> Tensor:
    """How differently strangers' verifiers treat faces: scores [U, N] of every face under every template, to a number.

    The variance over faces of the strangers' deviation, and of the mean of their highest scores.
    """
    highest = scores.topk(max(1, round(len(scores) * HIGHEST)), dim=0).values.mean(0)  # [N]
    return highest.var() + scores.std(0).var()


def same_person(a: Tensor, b: Tensor, a_row: Tensor, b_row: Tensor) -> Tensor:
    """1 genuine, 0 impostor, -1 unknown [U, N], from identity numbers (-1 = unknown) and row numbers of the faces.

    An unknown face may be anyone, also somebody who is known from other photos; a face and itself are one person.
    """
    equal = a[:, None] == b[None, :]
    unknown = (a[:, None] < 0) | (b[None, :] < 0)
    label = torch.where(unknown, -1.0, equal.float())
    return torch.where(a_row[:, None] == b_row[None, :], 1.0, label)
