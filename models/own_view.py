"""What a verifier sees of a person beside what the template tells.

f sees everybody a little otherwise than their template makes one expect, and alike in all of their photos. The features
that its last layer reads are taken for expected(t) + r + n: what faces of template t look like to f, r that is the
person's own, and n that is the photo's, both normal (the two-covariance model of speaker recognition: Brümmer and
de Villiers, "The speaker partitioning problem", 2010). K photos say of r that it is Σr (Σr + Σn / K)^-1 of how far
their mean is from what was expected, and linear discriminant analysis what the last layer makes of it.

All of that in the directions of features that last layers read at all, a few hundred of thousands.

Letters: N faces, F features, C directions, D template dimensions, K photos.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 0.1  # of the mean variance within people: the weakest directions are not trusted
LEAST_VARIANCE = 1e-9  # where a person's photos are all one
TEMPLATE_RIDGE = 0.01  # of the mean square of templates and the constant beside them
SMALLEST = 1e-3  # singular value of a direction, against the largest


def directions(heads: Tensor) -> Tensor:
    """Last layers [N, F] to an orthonormal basis [F, C] of what they read."""
    _, sizes, rows = torch.linalg.svd(heads, full_matrices=False)
    basis: Tensor = rows[sizes > SMALLEST * sizes[0]].T
    return basis


class OwnView:
    """Learned of faces z [N, C] with templates [N, D]; people [N] are numbered from 0 and have two faces or more."""

    def __init__(self, z: Tensor, templates: Tensor, people: Tensor):
        z, templates = z.double(), templates.double()
        count = people.bincount().double()  # faces of each person
        t = _with_one(templates)
        gram = t.T @ t
        ridge = TEMPLATE_RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        self._expected = torch.linalg.solve(gram + ridge, t.T @ z)  # [D + 1, C]
        self._typical = self.expected(templates).mean(0)
        means = _means(z, people, count)
        away = z - means[people]
        self._within = away.T @ away / (count - 1).sum()
        mean_templates = torch.nn.functional.normalize(_means(templates, people, count), dim=1)
        differ = means - self.expected(mean_templates)
        # What is left of a photo's own in the means of few is no person's.
        between = differ.T @ differ / len(differ) - self._within * (1 / count).mean()
        sizes, axes = torch.linalg.eigh(between)
        self._between = axes * sizes.clamp(min=0) @ axes.T
        least = RIDGE * self._within.diagonal().mean().clamp(min=LEAST_VARIANCE)
        self._within += least * torch.eye(len(between), dtype=between.dtype)
        self._discriminant = torch.linalg.inv(self._within)

    def expected(self, templates: Tensor) -> Tensor:
        """What faces of templates [N, D] look like, [N, C]."""
        return torch.matmul(_with_one(templates.double()), self._expected)

    def addition(self, z: Tensor, template: Tensor, head: Tensor) -> Tensor:
        """What photos z [K, C] of the person of a template [D] add to a last layer [C], on that layer's scale: [C]."""
        z, head = z.double(), head.double()
        expected = self.expected(template[None])[0]
        sure = torch.linalg.solve(self._between + self._within / len(z), z.mean(0) - expected)
        by_template = self._discriminant @ (expected - self._typical)
        # How much of the layer is what the template makes of it; where the two disagree, photos add nothing.
        scale = (head @ by_template / by_template.square().sum().clamp(min=LEAST_VARIANCE)).clamp(min=0)
        return torch.mul(scale, self._discriminant @ (self._between @ sure))


def _with_one(templates: Tensor) -> Tensor:
    return torch.cat([templates, torch.ones(len(templates), 1, dtype=templates.dtype)], 1)


def _means(values: Tensor, people: Tensor, count: Tensor) -> Tensor:
    """Of each person's rows: [people, ...]."""
    sums = torch.zeros(len(count), values.shape[1], dtype=values.dtype)
    return sums.index_add_(0, people, values) / count[:, None]
