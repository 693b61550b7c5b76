"""K-means Centered Sampling (KCS): batches whose impostors look alike.

The paper names the method; k, the share of hard faces and its schedule are this project's choices. Templates of all
training faces are clustered once; part of each batch is drawn from one cluster, so that its pairs are hard.
"""

from __future__ import annotations

import numpy as np


def spherical_kmeans(templates: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Cluster number of each unit template [N]."""
    import faiss

    kmeans = faiss.Kmeans(templates.shape[1], clusters, niter=20, seed=seed, spherical=True, min_points_per_centroid=1)
    kmeans.train(np.ascontiguousarray(templates))
    return np.asarray(kmeans.index.search(np.ascontiguousarray(templates), 1)[1][:, 0])


class KcsSampler:
    """Draws rows of the training set. Every draw depends on (seed, step) alone, so a resumed run repeats nothing."""

    def __init__(self, templates: np.ndarray, identities: np.ndarray, clusters: int, seed: int):
        """`templates` [N, D] of unit length; `identities` [N], -1 = unknown."""
        self._identities, self._seed = identities, seed
        labels = spherical_kmeans(templates, min(clusters, len(templates)), seed)
        self._members = _groups(labels)
        self._photos = {k: v for k, v in _groups(identities).items() if k >= 0 and len(v) > 1}
        self._cluster_of = labels
        self._with_mates = np.flatnonzero(np.isin(identities, list(self._photos)))

    def rng(self, step: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, step])

    def batch(self, size: int, hard_share: float, rng: np.random.Generator) -> np.ndarray:
        """Rows [size]: half are anchors, `hard_share` of them of one cluster; the other half are photos of the same
        people where there are any, else more faces from anywhere."""
        anchors = np.concatenate(
            [
                self._from_cluster(rng, round(size // 2 * hard_share)),
                rng.integers(0, len(self._identities), size // 2 - round(size // 2 * hard_share)),
            ]
        )
        mates = [self._mate(row, rng) for row in anchors]
        rest = rng.integers(0, len(self._identities), size - 2 * len(anchors))
        return np.concatenate([anchors, np.array(mates, np.int64), rest]).astype(np.int64)

    def users(
        self, count: int, genuine: int, impostors: int, hard_share: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Enrolment rows [count] and query rows [count, genuine + impostors]: own photos, then others', of which
        `hard_share` from the cluster of the enrolment photo."""
        enrol = rng.choice(self._with_mates, count, replace=False)
        hard = round(impostors * hard_share)
        queries = [
            np.concatenate(
                [
                    [self._mate(row, rng) for _ in range(genuine)],
                    rng.choice(self._members[self._cluster_of[row]], hard),
                    rng.integers(0, len(self._identities), impostors - hard),
                ]
            )
            for row in enrol
        ]
        return enrol, np.stack(queries).astype(np.int64)

    def _from_cluster(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """`count` faces around one centroid, chosen as the cluster of a random face."""
        cluster = self._cluster_of[rng.integers(0, len(self._cluster_of))]
        return rng.choice(self._members[cluster], count)

    def _mate(self, row: int, rng: np.random.Generator) -> int:
        """Another photo of the same person, or any face when there is none."""
        photos = self._photos.get(int(self._identities[row]))
        if photos is None:
            return int(rng.integers(0, len(self._identities)))
        other = int(rng.choice(photos))
        while other == row:
            other = int(rng.choice(photos))
        return other


def _groups(labels: np.ndarray) -> dict[int, np.ndarray]:
    order = np.argsort(labels, kind="stable")
    values, starts = np.unique(labels[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))
