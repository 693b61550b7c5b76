"""Personal refinement: a generated verifier learns from the person's own photos, against a bank of strangers.

The generator makes θ of the template alone. Here f looks at the enrolment photos itself: what it sees of the person
beyond the template (`models/own_view.py`, learned of the bank's people) is added to its last layer, whose bias takes
back what that gives the person's lookalikes. Not part of the paper: this project's addition.

What is learned of never judges. Each photo in turn is scored with what the others gave, against strangers that nothing
was learned of; if the photos lose by it for certain, the generated weights stay. The template is of all photos, before
and after: that flatters both numbers, and their difference, which decides, hardly.

Nothing is drawn at random that is not seeded: the same photos and bank give the same weights.

Letters: K photos, N and M faces, F features, C directions, D template dimensions, P parameters of f.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.integer import channel_factors
from export.quantize import quantise
from models.bank import Bank
from models.generator import Generator, fuse_photos
from models.lookalikes import likest
from models.own_view import OwnView, directions
from models.spec import VerifierSpec
from models.strangers import ENOUGH_KNOWN, choose_strangers
from models.verifier import run_layers, to_input
from toolkit.errors import ArtifactError, UsageError

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # θ [P], uint8 faces [N, H, W, 3] → scores [N] of its int8 file
BLOCK = 128  # faces at a time through the layers before the last
HEADS = 512  # last layers of the bank's people that say which features matter


@dataclass(frozen=True)
class RefineConfig:
    """What each setting is worth: `scripts/refinement_table.py`."""

    share: float = 0.175  # of what the photos add to the last layer
    seed: int = 1

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not 0 < self.share <= 1:
            raise UsageError("the refinement's share is out of range", got=self.share, expected="above 0, up to 1")


@dataclass(frozen=True)
class Refinement:
    """New weights θ [P], and what the faces that were kept apart said of them.

    `generated` and `refined` are mean `rarity`, None where nothing was learned; `fmr` is at the generator's
    thresholds, of `strangers` faces that taught nothing.
    """

    theta: np.ndarray
    photos: int
    kept: bool  # whether they changed the weights
    generated: float | None
    refined: float | None
    fmr: dict[str, float]
    strangers: int
    bank_faces: int

    def sentence(self) -> str:
        """What came of it, for people."""
        if self.generated is None or self.refined is None:
            bank = f"a bank that names some {ENOUGH_KNOWN} people, each with several photos"
            takes = bank if self.photos > 1 else "two photos"
            return f"refined: nothing learned, the generated weights stay: this takes {takes}"
        verdict = "kept" if self.kept else "not kept, the generated weights stay"
        before, after = (f"one in {10**value:.0f}" for value in (self.generated, self.refined))
        return f"refined: strangers as like as a photo kept apart were {before}, and are {after}: {verdict}"

    def to_dict(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if name != "theta"}
        return {n: round(v, 6) if isinstance(v, float) else v for n, v in values.items()}


def refine(
    h: Generator, pixels: np.ndarray, templates: np.ndarray, bank: Bank, score: Score, config: RefineConfig
) -> Refinement:
    """Refine the verifier of one person.

    pixels uint8 [K, H, W, 3], templates float32 [K, D] of the enrolment photos. With a single photo, none is left to
    judge by, and a bank of few known people teaches nothing: the generated weights stay. Raises InputError when the
    bank is too small to judge by.
    """
    spec, points = h.info.spec, h.info.points_for(len(pixels))[1]
    template = fuse_photos(pixels, templates, spec.framing)
    strangers = choose_strangers(bank, template, h.info.backbone, config.seed)
    theta, kept = h.weights(template[None])[0], False
    before = after = None
    if len(pixels) > 1 and len(strangers.known):
        with _one_thread():
            photos = Photos(h, theta, template, pixels, bank, strangers.known)
            refined = photos.added_to(theta, config.share)
            generated_rarity, refined_rarity = photos.judged(bank.pixels(strangers.judging), config.share)
        before, after = float(generated_rarity.mean()), float(refined_rarity.mean())
        kept = not lose(generated_rarity, refined_rarity) and fits_integers(spec, refined)
        theta = refined if kept else theta
    scores = score(theta, bank.pixels(strangers.judging))
    fmr = {name: float((scores >= point.threshold).mean()) for name, point in points.items()}
    return Refinement(theta, len(pixels), kept, before, after, fmr, len(scores), len(bank))


class Photos:
    """One person's photos as their generated verifier θ [P] sees them, and the bank's people as it sees those."""

    def __init__(
        self, h: Generator, theta: np.ndarray, template: np.ndarray, pixels: np.ndarray, bank: Bank, known: np.ndarray
    ):
        self._spec, self._theta, self._template = h.info.spec, theta, torch.from_numpy(template)
        head = _head(h.info.spec)
        some = bank.templates[known[:: math.ceil(len(known) / HEADS)]]
        self._basis = directions(torch.from_numpy(h.weights(some)[:, head]))  # [F, C]
        people = torch.from_numpy(np.unique(bank.identity[known], return_inverse=True)[1])
        z = torch.cat([block @ self._basis for block in features(self._spec, theta, bank.pixels(known))])
        templates = torch.from_numpy(bank.templates[known])
        self._lookalikes_mean = z[likest(templates @ self._template)].mean(0)  # [C]
        self._view = OwnView(z, templates, people)
        self._head = torch.from_numpy(theta[head].copy())  # [F]
        self._features = torch.cat(list(features(self._spec, theta, pixels)))  # [K, F]

    def _addition(self, rows: list[int]) -> Tensor:
        """What the photos of these numbers add to the last layer, in the directions that layers read: [C]."""
        z, head = self._features[rows] @ self._basis, self._head @ self._basis
        return self._view.addition(z, self._template, head).float()

    def added_to(self, theta: np.ndarray, share: float) -> np.ndarray:
        """θ [P] with that share of what all photos add."""
        theta = theta.copy()
        added = share * self._addition(list(range(len(self._features))))
        theta[_head(self._spec)] += (self._basis @ added).numpy()
        theta[self._spec.slots[f"{self._spec.head.name}.bias"].offset] -= float(added @ self._lookalikes_mean)
        return theta

    def judged(self, strangers: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        """`rarity` of each photo [K] among strangers [M, H, W, 3]: as generated, and refined by the other photos."""
        count = len(self._features)
        apart = [[i for i in range(count) if i != j] for j in range(count)]
        added = [self._basis @ (share * self._addition(rows)) for rows in apart]
        heads = torch.stack([self._head, *(self._head + one for one in added)])  # [1 + K, F]
        seen = torch.cat([block @ heads.T for block in features(self._spec, self._theta, strangers)]).numpy()
        own = (self._features @ heads.T).numpy()  # [K, 1 + K]
        refined = [rarity(own[j, 1 + j : 2 + j], seen[:, 1 + j]) for j in range(count)]
        return rarity(own[:, 0], seen[:, 0]), np.concatenate(refined)


def _head(spec: VerifierSpec) -> slice:
    slot = spec.slots[f"{spec.head.name}.weight"]
    return slice(slot.offset, slot.end)


@torch.no_grad()
def features(spec: VerifierSpec, theta: np.ndarray, pixels: np.ndarray) -> Iterator[Tensor]:
    """What the last layer of f reads of faces [N, H, W, 3], in blocks [n, F]."""
    weights = torch.from_numpy(theta)[None]
    for start in range(0, len(pixels), BLOCK):
        x = to_input(torch.from_numpy(pixels[start : start + BLOCK]).permute(0, 3, 1, 2))
        yield run_layers(spec, weights, x.contiguous(memory_format=torch.channels_last)).flatten(1)


def fits_integers(spec: VerifierSpec, theta: np.ndarray) -> bool:
    """Whether every writer can write θ, also those that compute in integers."""
    try:
        for layer in quantise(spec, theta).values():
            channel_factors(layer)
    except ArtifactError:
        return False
    return True


def rarity(genuine: np.ndarray, impostor: np.ndarray) -> np.ndarray:
    """How rare strangers are that score as high as the person, as a negative power of ten: 3 is one in a thousand.

    For each genuine score [N], -log10 of the share of impostor scores [M] at or above it. It needs no threshold, and
    every genuine score counts, also where no error is made any more.
    """
    above = len(impostor) - np.searchsorted(np.sort(impostor), genuine, "left")
    return np.asarray(-np.log10((above + 1) / (len(impostor) + 1)))


def lose(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether photos [K] are worse off than before by more than doubt: one standard error of their mean.

    A few photos cannot prove a gain that many people have had on average; harm to this person they can. Two photos
    say nothing of their own doubt, so their mean decides.
    """
    change = after - before
    doubt = change.std(ddof=1) / math.sqrt(len(change)) if len(change) > 2 else 0.0
    return bool(change.mean() < -doubt)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in another order end in other bits: one thread gives the same bytes on every machine of a kind."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
