"""A tiny embedding network: a trunk no larger than a verifier, that tells everybody apart and is nobody's own.

The yardstick for what personalisation buys. Data, teacher and loss are the hypernetwork's; the score of two photos is
the cosine of their embeddings, in the same unit as a verifier's score. `toolkit eval peers` compares both.

Letters: N faces, C channels and H = W side of the last map, F = C·H·W values of an embedding, U enrolled photos.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.losses import Terms, cosine_to_score
from models.spec import VerifierSpec
from models.training import MAX_VALIDATION_USERS, Trainer, Weights
from models.validate import BLOCK, Validation, enrolled_rows, rates, split_scores
from models.verifier import Trunk, to_input


class EmbeddingNetwork(nn.Module):
    """Every layer of the spec but the score."""

    def __init__(self, spec: VerifierSpec):
        super().__init__()
        self.spec = spec
        self.trunk = Trunk(spec)

    def forward(self, x: Tensor) -> Tensor:
        """Faces x [N, 3, H, W] in the spec's value range to unit embeddings [N, F]."""
        return F.normalize(self.trunk(x).flatten(1), dim=1)


class EmbeddingTrainer(Trainer):
    """The shared stage with embeddings of the batch's own faces where templates would be."""

    network: EmbeddingNetwork  # type: ignore[assignment]
    averaged: EmbeddingNetwork  # type: ignore[assignment]

    def build(self) -> EmbeddingNetwork:  # type: ignore[override]
        return EmbeddingNetwork(self.config.verifier)

    def _shared_step(
        self, enrolled: np.ndarray, faces: int, noise: torch.Generator, weights: Weights, target: float
    ) -> Terms:
        """Every face of the batch against every other; a face against itself would teach nothing."""
        rows = enrolled[:faces]
        embeddings = self.network(self._faces(rows, noise))  # [N, F]
        scores = cosine_to_score(embeddings @ embeddings.T, clip=False)
        targets = torch.from_numpy(self.targets.of(rows, target))  # [N, D]
        cosines = targets @ targets.T
        same = self.same_person(rows, rows)
        others = ~torch.eye(len(rows), dtype=torch.bool)
        pairs = (_without_diagonal(matrix, others) for matrix in (scores, cosines, same))  # [N, N - 1] each
        result: Terms = self.loss(*pairs, embeddings.new_zeros(1), weights, every_pair=False)
        return result

    @torch.no_grad()
    def _validated(self) -> Validation:
        network, faces = self.averaged.eval(), self.held_out
        x = to_input(torch.from_numpy(faces.pixels).permute(0, 3, 1, 2))
        embeddings = torch.cat([network(x[i : i + BLOCK]) for i in range(0, len(x), BLOCK)])  # [N, F]
        enrol = enrolled_rows(faces, MAX_VALIDATION_USERS)
        return rates(*split_scores((embeddings[enrol] @ embeddings.T).numpy(), faces, enrol))


def _without_diagonal(matrix: Tensor, others: Tensor) -> Tensor:
    """[N, N] to [N, N - 1]."""
    return matrix[others].reshape(len(matrix), -1)
