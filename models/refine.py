"""Personal refinement: seconds of training of one person's verifier, from the generated weights on.

The generator makes θ in one pass from what it learned of many people. Here that one f is trained further, on the
person's own photos against a bank of strangers, half of them those whose templates are most like the person's. Its
targets are the backbone's own similarities, normalised as in h's training, and who is who. Then its scores are moved,
by the last bias alone, so that strangers pass the generator's loosest threshold as often as that says. Not part of the
paper: this project's addition.

What is trained on never judges. One photo and a part of the bank's people are kept apart; the trained weights are taken
only if they tell that photo from those strangers better than the generated ones did, in the int8 file that ships.

Only the last layers are trained: what the others make of the faces is computed once, which is why it takes seconds.
Everything is seeded, and counted in steps: the same photos and bank give the same weights.

Letters: K photos, N faces, V maps of a face (spec.maps), D template dimensions, P parameters of f.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from export.integer import channel_factors
from export.quantize import quantise
from models.augment import augment
from models.bank import Bank
from models.cohort import Cohort, comparable
from models.generator import Generator, OperatingPoint, fuse_photos, fuse_templates
from models.losses import cosine_to_score
from models.spec import VerifierSpec
from models.strangers import Strangers, choose_strangers
from models.verifier import run_layers, to_input, verify_users
from toolkit.errors import ArtifactError, UsageError

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # θ [P], uint8 faces [N, H, W, 3] → scores [N] of its int8 file
BLOCK = 128  # faces at a time through the layers that are not trained
JUDGED_VIEWS = 32  # of the photo kept apart
MIN_ERRORS = 4  # strangers that an operating point must let pass for it to say where scores belong
LOGIT_GAIN = 8.0  # of the cross-entropy, per unit of score


@dataclass(frozen=True)
class RefineConfig:
    """What each setting is worth: `scripts/refinement_table.py`."""

    layers: int = 9  # how many layers with weights are trained, counted from the last
    steps: int = 300  # 0: nothing is trained
    seconds: float = 0.0  # a limit by the clock, 0: none; a run that it cuts short is not repeatable to the byte
    rate: float = 1e-3
    head_rate: float = 3e-3  # of the last layer
    group: int = 32  # faces a step of each group: own, similar strangers, random strangers
    views: int = 200  # augmented own photos, all together
    distillation: float = 20.0  # weight of the squared error, against 1 for the cross-entropy
    move: bool = True  # the scores, to the generator's loosest threshold
    seed: int = 1

    def __post_init__(self) -> None:
        """Raises UsageError."""
        for name in ("layers", "group", "views"):
            if getattr(self, name) < 1:
                raise UsageError(f"the refinement's {name} cannot be {getattr(self, name)}", expected="at least 1")
        if self.steps < 0:
            raise UsageError("the refinement's steps cannot be negative", got=self.steps)
        if self.seconds < 0:
            raise UsageError("the refinement's time limit is negative", got=self.seconds)


@dataclass(frozen=True)
class Refinement:
    """New weights θ [P], and what the faces that were kept apart said of them.

    `generated` and `trained` are `rarity`, None where there was no photo to spare; `fmr` is at the generator's
    thresholds, of `strangers` faces that neither trained nor moved the scores.
    """

    theta: np.ndarray
    kept: bool  # whether training changed the weights
    steps: int
    generated: float | None
    trained: float | None
    fmr: dict[str, float]
    strangers: int
    bank_faces: int

    def sentence(self) -> str:
        """What came of it, for people."""
        if self.generated is None or self.trained is None:
            return "refined: scores moved to the loosest threshold; nothing trained, which takes two photos or more"
        verdict = "kept" if self.kept else "not kept, the generated weights stay"
        before, after = (f"one in {10**value:.0f}" for value in (self.generated, self.trained))
        return f"refined: strangers as like as the photo kept apart were {before}, after training {after}: {verdict}"

    def to_dict(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if name != "theta"}
        return {n: round(v, 6) if isinstance(v, float) else v for n, v in values.items()}


def refine(
    h: Generator, pixels: np.ndarray, templates: np.ndarray, bank: Bank, score: Score, config: RefineConfig
) -> Refinement:
    """Refine the verifier of one person.

    pixels uint8 [K, H, W, 3], templates float32 [K, D] of the enrolment photos. With a single photo, none is left to
    judge by: the scores are moved, and nothing is trained. Raises InputError when the bank is too small.
    """
    template = fuse_photos(pixels, templates, h.info.spec.framing)
    points = h.info.points_for(len(pixels))[1]
    strangers = choose_strangers(bank, template, h.info.backbone, config.seed)
    theta, done, kept = h.weights(template[None])[0], 0, False
    before = after = None
    if len(pixels) > 1 and config.steps:
        held, rest = held_out_photo(templates)
        cohort = bank.cohort if h.info.training.get("cohort_targets") else None
        with _one_thread():
            faces = training_faces(pixels[rest], templates[rest], template, bank, strangers, cohort, config)
            trained, done = train(h, theta, faces, _boundary(points), config)
            views = augmented(np.repeat(pixels[[held]], JUDGED_VIEWS, 0), config.seed + 1)
        judging = bank.pixels(strangers.judging)
        before, after = (rarity(score(t, views), score(t, judging)) for t in (theta, trained))
        kept = after > before and fits_integers(h.info.spec, trained)
        theta = trained if kept else theta
    if config.move:
        theta = move_scores(h.info.spec, theta, score(theta, bank.pixels(strangers.moving)), points)
    scores = score(theta, bank.pixels(strangers.judging))
    fmr = {name: float((scores >= point.threshold).mean()) for name, point in points.items()}
    return Refinement(theta, kept, done, before, after, fmr, len(scores), len(bank))


def fits_integers(spec: VerifierSpec, theta: np.ndarray) -> bool:
    """Whether every writer can write θ, also those that compute in integers."""
    try:
        for layer in quantise(spec, theta).values():
            channel_factors(layer)
    except ArtifactError:
        return False
    return True


def _boundary(points: dict[str, OperatingPoint]) -> float:
    """The threshold of FMR 1e-3, or the one that is nearest to it."""
    nearest = min(points.values(), key=lambda point: abs(math.log10(max(point.fmr, 1e-9)) + 3), default=None)
    return nearest.threshold if nearest else 0.0


def held_out_photo(templates: np.ndarray) -> tuple[int, np.ndarray]:
    """The photo [K, D] to judge by, neither the most nor the least typical, and the numbers of the others."""
    order = np.argsort(templates @ fuse_templates(templates), kind="stable")
    held = int(order[(len(order) - 1) // 2])
    return held, np.setdiff1d(np.arange(len(templates)), [held])


def rarity(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """How rare strangers are that score as high as the person, as a negative power of ten: 3 is one in a thousand.

    The mean over genuine scores [N] of -log10 of the share of impostor scores [M] at or above it. It needs no
    threshold, and every genuine score counts, also where no error is made any more.
    """
    above = len(impostor) - np.searchsorted(np.sort(impostor), genuine, "left")
    return float(-np.log10((above + 1) / (len(impostor) + 1)).mean())


@dataclass(frozen=True)
class TrainingFaces:
    """Faces uint8 RGB [N, H, W, 3] in three groups of rows, their cosines to the person's template [N], who is who."""

    pixels: np.ndarray
    cosines: Tensor
    genuine: Tensor
    groups: tuple[np.ndarray, ...]  # own, similar strangers, random strangers


def training_faces(
    own: np.ndarray,
    own_templates: np.ndarray,
    template: np.ndarray,
    bank: Bank,
    strangers: Strangers,
    cohort: Cohort | None,
    c: RefineConfig,
) -> TrainingFaces:
    """Own photos [K, H, W, 3] in `views` views, and strangers in one each, all augmented alike: a stranger must not be
    known by the lack of noise."""
    views = np.arange(c.views) % len(own)
    rows = np.concatenate([strangers.similar, strangers.random])
    pixels = augmented(np.concatenate([own[views], bank.pixels(rows)]), c.seed)
    shown = np.concatenate([own_templates[views], bank.templates[rows]])
    wanted, shown = comparable(template, shown, cohort)
    cosines = (shown @ wanted).astype(np.float32)
    ends = np.cumsum([len(views), len(strangers.similar)])
    groups = tuple(np.split(np.arange(len(pixels)), ends))
    return TrainingFaces(pixels, torch.from_numpy(cosines), (torch.arange(len(pixels)) < len(views)).float(), groups)


def augmented(pixels: np.ndarray, seed: int) -> np.ndarray:
    """uint8 [N, H, W, 3] to the same, each changed as `models.augment` does."""
    noise, blocks = torch.Generator().manual_seed(seed), []
    for start in range(0, len(pixels), BLOCK):
        x = torch.from_numpy(pixels[start : start + BLOCK]).permute(0, 3, 1, 2).float()  # [n, 3, H, W]
        blocks.append(augment(x, noise).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(blocks)


def train(
    h: Generator, theta: np.ndarray, faces: TrainingFaces, boundary: float, c: RefineConfig
) -> tuple[np.ndarray, int]:
    """Trained θ and the steps done. `boundary` is the score at which the cross-entropy sees an even chance."""
    spec = h.info.spec
    first = first_trained(spec, c.layers)
    started = time.monotonic()
    x = _through_frozen(spec, theta, faces.pixels, first)  # [V, N, C, H', W']
    parts, optimiser = _optimiser(spec, theta, first, c)
    rates = [group["lr"] for group in optimiser.param_groups]
    told = h.info.training  # what became of scores since its training
    factor, shift = float(told.get("score_factor", 1.0)), float(told.get("score_shift", 0.0))
    rng = np.random.default_rng(c.seed)
    for step in range(c.steps):
        progress = step / c.steps
        if c.seconds:
            progress = max(progress, (time.monotonic() - started) / c.seconds)
            if progress >= 1:
                return _flat(parts), step
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * (1 + math.cos(math.pi * progress)) / 2
        rows = torch.from_numpy(np.concatenate([rng.choice(group, c.group) for group in faces.groups]))
        scores = verify_users(spec, torch.cat(parts)[None], x[:, rows].flatten(0, 1)[None], first)[0]  # [n]
        distillation = F.mse_loss((scores - shift) / factor, cosine_to_score(faces.cosines[rows]))
        logits = (scores - boundary) / factor * LOGIT_GAIN
        loss = c.distillation * distillation + F.binary_cross_entropy_with_logits(logits, faces.genuine[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return _flat(parts), c.steps


def first_trained(spec: VerifierSpec, count: int) -> int:
    """Number of the layer from which on `count` layers with weights are trained, or a few more: never inside a residual
    block, whose `add` would reach back behind it."""
    weighted = [i for i, layer in enumerate(spec.layers) if layer.weighted]
    numbers = {layer.name: i for i, layer in enumerate(spec.layers)}
    first = weighted[-min(count, len(weighted))]
    if first == weighted[0]:
        return 0
    while any(numbers[layer.skip] < first - 1 for layer in spec.layers[first:] if layer.kind == "add"):
        first -= 1
    return first


@torch.no_grad()
def _through_frozen(spec: VerifierSpec, theta: np.ndarray, pixels: np.ndarray, first: int) -> Tensor:
    """What the layers before `first` make of faces [N, H, W, 3], [V, N, C, H', W']."""
    weights, blocks = torch.from_numpy(theta)[None], []
    for start in range(0, len(pixels), BLOCK):
        x = to_input(torch.from_numpy(pixels[start : start + BLOCK]).permute(0, 3, 1, 2))
        count = len(x)
        x = run_layers(spec, weights, x.contiguous(memory_format=torch.channels_last), 0, first)
        blocks.append(x.reshape(-1, count, *x.shape[1:]))
    return torch.cat(blocks, 1)


def _optimiser(
    spec: VerifierSpec, theta: np.ndarray, first: int, c: RefineConfig
) -> tuple[list[Tensor], torch.optim.Optimizer]:
    """θ cut into its slots, and an optimiser of those of the trained layers."""
    trained = {layer.name for layer in spec.layers[first:]}
    parts: list[Tensor] = []
    body: list[Tensor] = []
    head: list[Tensor] = []
    for slot in spec.slots.values():
        part = torch.from_numpy(theta[slot.offset : slot.end].copy())
        layer = slot.name.rpartition(".")[0]
        if layer in trained:
            (head if layer == spec.head.name else body).append(part.requires_grad_())
        parts.append(part)
    groups = [{"params": p, "lr": rate} for p, rate in ((body, c.rate), (head, c.head_rate)) if p]
    return parts, torch.optim.AdamW(groups, weight_decay=0.0)


def _flat(parts: list[Tensor]) -> np.ndarray:
    return torch.cat(parts).detach().numpy()


def move_scores(
    spec: VerifierSpec, theta: np.ndarray, scores: np.ndarray, points: dict[str, OperatingPoint]
) -> np.ndarray:
    """θ with another bias of the last layer: strangers with these `scores` [N] pass the threshold of the highest rate
    among `points` as often as people did when it was set. Unchanged where the strangers are too few to say.
    """
    theta = theta.copy()
    point = max(points.values(), key=lambda p: p.fmr, default=None)
    if point is not None and point.fmr * len(scores) >= MIN_ERRORS:
        reached = np.sort(scores.astype(np.float64))[len(scores) - math.ceil(point.fmr * len(scores))]
        theta[spec.slots[f"{spec.head.name}.bias"].offset] += point.threshold - reached
    return theta


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in another order end in other bits: one thread gives the same bytes on every machine of a kind."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
