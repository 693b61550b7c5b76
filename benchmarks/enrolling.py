"""From one person's enrolment photos to the weights of a verifier: the seam between protocols and ways to enrol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.generator import Generator, fuse_photos, fuse_templates

if TYPE_CHECKING:
    from models.faceset import FaceSet
    from models.refine import Refinement

BLOCK = 64  # people whose weights are generated at once


class Enrol(Protocol):
    """A way to enrol; `method` names it in results."""

    @property
    def method(self) -> str: ...

    def __call__(self, pixels: np.ndarray, templates: np.ndarray) -> np.ndarray:
        """Photos uint8 RGB [K, H, W, 3] at the verifier's size and their unit templates [K, D] to θ float32 [P]."""


@dataclass(frozen=True)
class Generated:
    """θ straight from the hypernetwork, of the photos' template: fused as `toolkit enroll` does, or their mean."""

    h: Generator
    weighted: bool = True

    @property
    def method(self) -> str:
        return "generated" if self.weighted else "generated, plain mean"

    def __call__(self, pixels: np.ndarray, templates: np.ndarray) -> np.ndarray:
        fused = fuse_photos(pixels, templates, self.h.info.spec.framing) if self.weighted else fuse_templates(templates)
        theta: np.ndarray = self.h.weights(fused[None])[0]
        return theta


def each_alone(enrol: Enrol, faces: FaceSet, rows: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Each of these faces enrolled from that one photo: (row, θ). A generator takes a block at a time: far quicker."""
    if not isinstance(enrol, Generated):
        yield from ((row, enrol(faces.pixels[[row]], faces.templates[[row]])) for row in rows)
        return
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        yield from zip(block, enrol.h.weights(faces.templates[list(block)]), strict=True)


@dataclass(frozen=True)
class Refined:
    """θ refined against a bank of strangers, as `toolkit enroll --refine` does."""

    refiner: Callable[[np.ndarray, np.ndarray], Refinement]
    method: str = "refined"

    def __call__(self, pixels: np.ndarray, templates: np.ndarray) -> np.ndarray:
        return self.refiner(pixels, templates).theta
