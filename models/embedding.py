"""A tiny embedding network: a trunk no larger than a verifier, that tells everybody apart and is nobody's own.

The yardstick for what personalisation buys. Data, teacher and loss are the hypernetwork's; the score of two photos is
the cosine of their embeddings, in the same unit as a verifier's score. `toolkit eval peers` compares both.

Faces compared with faces alone teach so small a network badly: both ends of every comparison are wrong at first. So it
learns as a verifier does, from scores under templates, and in the same step from its own cosines; what makes weights of
templates is dropped at the end.

Letters: N faces, C channels, H height and W width of the last map, F = C·H·W values of an embedding, U enrolled
photos.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.hypernetwork import HyperNetwork
from models.losses import Terms, cosine_to_score
from models.training import MAX_VALIDATION_USERS, Now, Trainer
from models.validate import BLOCK, Validation, enrolled_rows, rates, split_scores
from models.verifier import to_input


def embed(network: HyperNetwork, x: Tensor) -> Tensor:
    """Faces x [N, 3, H, W] in the spec's value range to unit embeddings [N, F]: every layer but the score."""
    return F.normalize(network.trunk(x).flatten(1), dim=1)


class EmbeddingTrainer(Trainer):
    """The shared stage of a head generator, and each face of the batch against every other one."""

    def build(self) -> HyperNetwork:
        return HyperNetwork(self.config.verifier, self.train.templates.shape[1], branches=self.config.branches)

    def _shared_step(self, enrolled: np.ndarray, faces: int, noise: torch.Generator, now: Now) -> Terms:
        rows = enrolled[:faces]
        noisy = self._noisy(self.templates[enrolled], noise)  # [U, D]
        features = self.network.trunk(self._faces(rows, noise, now.augmentation)).flatten(1)  # [N, F]
        scores = self.network.scores_of_features(noisy, features)  # [U, N]
        targets = torch.from_numpy(self.targets.of(enrolled, now.target))  # [U, D]
        cosines, same = targets @ targets[:faces].T, self.same_person(enrolled, rows)  # [U, N]
        penalised = self.network.head.weight
        by_template: Terms = self.loss(scores, cosines, same, penalised, now.weights, every_pair=True)
        embeddings = F.normalize(features, dim=1)
        scores = cosine_to_score(embeddings @ embeddings.T, clip=False)  # [N, N]
        others = ~torch.eye(faces, dtype=torch.bool)  # a face against itself would teach nothing
        pairs = (_without_diagonal(matrix[:faces], others) for matrix in (scores, cosines, same))  # [N, N - 1] each
        by_face: Terms = self.loss(*pairs, embeddings.new_zeros(1), now.weights, every_pair=False)
        return by_template + by_face

    @torch.no_grad()
    def _validated(self) -> Validation:
        network, faces = self.averaged.eval(), self.held_out
        x = to_input(torch.from_numpy(faces.pixels).permute(0, 3, 1, 2))
        embeddings = torch.cat([embed(network, x[i : i + BLOCK]) for i in range(0, len(x), BLOCK)])  # [N, F]
        enrol = enrolled_rows(faces, MAX_VALIDATION_USERS)
        return rates(*split_scores((embeddings[enrol] @ embeddings.T).numpy(), faces, enrol))


def _without_diagonal(matrix: Tensor, others: Tensor) -> Tensor:
    """[N, N] to [N, N - 1]."""
    return matrix[others].reshape(len(matrix), -1)
