"""Strangers' scores made alike for every user, inside the written generator h: one threshold then fits everybody.

Verifiers differ in how high strangers score: some let in many times the share that the common threshold was set for,
and others, for their sake, refuse their own user. Biometrics takes each model's impostor scores to one mean and one
deviation ("Z-norm": Auckenthaler, Carey and Lloyd-Thomas, "Score normalization for text-independent speaker
verification systems", 2000), which asks for a cohort of faces at every enrolment. Here none is needed. A score is
linear in the template: with t = [e, 1], the head's weights W and the trunk's map φ(x), it is

    score(x) = t · y(x),   y(x) = W [φ(x), 1]

so the mean of strangers' scores is t · mean(y) and their variance tᵀ cov(y) t. Both moments of y are measured once, on
training faces, and kept in the ONNX file. Thresholds stand further out, where the highest strangers are, and how many
deviations out that is follows from no moment: a small network says it of the template (`models/tail.py`). The ONNX file
stretches the last layer of each new θ to one deviation, and shifts it so that those highest strangers reach the same
score for everybody. Statistics of thousands of faces, no face. For generators that also change the trunk this is an
approximation.

This is the project's own step; the paper is not known to have one.

Letters: N people or faces, D template dimensions, F values of the trunk's map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from models.faceset import FaceSet
from models.losses import same_person
from models.spec import VerifierSpec
from models.tail import BLOCK, SLOPE, USERS, Tail, enrolled_templates, highest_strangers, learn_tail
from models.verifier import run_layers, to_input
from toolkit.errors import InputError
from toolkit.progress import track

FACES = 32_768  # so that the highest hundredth are hundreds
STRETCH = (0.5, 2.0)  # no verifier is stretched by more
BATCH = 256
LEAST_DEVIATION = 1e-6  # of verifiers that say the same of everybody
FIRST_STEP, FIRST_CONSTANT = "mean", "impostor_mean"  # what `normalised` appends begins with these
Step = tuple[str, tuple[str, ...], str, dict[str, Any]]  # kind of node, inputs, output, attributes


@dataclass(frozen=True)
class ImpostorStatistics:
    """What a template says of strangers' scores: `mean` [D + 1] and `root` [D + 1, D + 1] of y, rootᵀ root its
    covariance, and the tail. `to_level`, `to_deviation`: what scores are taken to."""

    mean: np.ndarray
    root: np.ndarray
    tail: Tail
    to_level: float
    to_deviation: float


def moments(templates: np.ndarray, mean: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of strangers' scores [N] under the verifiers of these templates [N, D]."""
    t = with_one(templates)
    return t @ mean, np.linalg.norm(t @ root.T, axis=1)


def with_one(templates: np.ndarray) -> np.ndarray:
    return np.hstack([templates, np.ones((len(templates), 1), templates.dtype)])


def impostor_statistics(
    h: bytes, spec: VerifierSpec, faces: FaceSet, count: int = FACES, seed: int = 1
) -> ImpostorStatistics:
    """Measure `count` faces as strangers of as many people; scores stay on average what they are.

    Raises InputError when there are not two people.
    """
    rng = np.random.default_rng(seed)
    shown, users = (np.sort(rng.permutation(len(faces))[:n]) for n in (count, min(count, USERS)))
    if len(shown) < 2:
        raise InputError("strangers' scores cannot be measured on so few training faces", got=len(shown))
    y = said_of_faces(h, spec, faces.pixels, shown)
    mean = y.mean(0, dtype=np.float64)
    values, vectors = np.linalg.eigh(np.cov(y.T.astype(np.float64)))
    root = np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T
    templates = enrolled_templates(faces, users, seed)
    means, deviations = moments(templates, mean, root)
    levels = np.concatenate([
        highest_strangers(with_one(templates[i : i + BLOCK]), y, _same_person(faces, users[i : i + BLOCK], shown))
        for i in track(range(0, len(users), BLOCK), "the highest strangers")
    ])  # fmt: skip
    if not np.isfinite(levels).all():
        raise InputError("the training faces show a single person", expected="strangers, to say how high they score")
    tail = learn_tail(templates, (levels - means) / np.maximum(deviations, LEAST_DEVIATION), seed)
    level = means + deviations * tail.of(templates)
    return ImpostorStatistics(mean, root, tail, float(level.mean()), float(deviations.mean()))


def said_of_faces(h: bytes, spec: VerifierSpec, pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """y of the faces in `rows` [N] of pixels [M, H, W, 3]: float32 [N, D + 1]."""
    constants = {c.name: numpy_helper.to_array(c) for c in onnx.load_from_string(h).graph.initializer}
    head = np.vstack([constants["head.weight"], constants["head.bias"]])  # [D + 1, F + 1]
    theta = torch.from_numpy(np.concatenate([constants["base"][0], np.zeros(head.shape[1], np.float32)]))[None]
    parts = []
    for start in track(range(0, len(rows), BATCH), "strangers"):
        x = to_input(torch.from_numpy(pixels[rows[start : start + BATCH]]).permute(0, 3, 1, 2))
        with torch.inference_mode():
            features = run_layers(spec, theta, x, 0, len(spec.layers) - 1).flatten(1).numpy()  # [N, F]
        parts.append(features @ head[:, :-1].T + head[:, -1])
    return np.concatenate(parts)


def _same_person(faces: FaceSet, users: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Whether the faces in rows `users` [U] and `shown` [N] are known to be one person's: bool [U, N]."""
    a, b = (torch.from_numpy(faces.identity[rows]) for rows in (users, shown))
    return (same_person(a, b, torch.from_numpy(users), torch.from_numpy(shown)) > 0).numpy()


def as_learned(h: bytes) -> bytes:
    """The generator's ONNX file as training wrote it, without what `normalised` put behind it."""
    model = onnx.load_from_string(h)
    nodes, constants = model.graph.node, model.graph.initializer
    names = [node.name for node in nodes]
    if FIRST_STEP not in names:
        return h
    concat = nodes.pop()
    concat.input[1] = nodes[names.index("stretched_head")].input[0]
    del nodes[names.index(FIRST_STEP) :]
    nodes.append(concat)
    del constants[[constant.name for constant in constants].index(FIRST_CONSTANT) :]
    return bytes(model.SerializeToString(deterministic=True))


def normalised(h: bytes, impostors: ImpostorStatistics) -> bytes:
    """The generator's ONNX file with the last layer of every θ stretched and shifted, anew if it was before."""
    model = onnx.load_from_string(as_learned(h))
    graph = model.graph
    size = next(c.dims[0] for c in graph.initializer if c.name == "head.bias")
    steps = _steps(*graph.node.pop().input)
    constants = _constants(impostors, size)
    graph.node.extend(helper.make_node(kind, inputs, [out], name=out, **extra) for kind, inputs, out, extra in steps)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items())
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _constants(impostors: ImpostorStatistics, size: int) -> dict[str, np.ndarray]:
    """What the steps compute with; `size` numbers are the last layer's."""
    tail = impostors.tail
    return {
        FIRST_CONSTANT: impostors.mean[:-1, None],
        "impostor_mean_bias": impostors.mean[-1:],
        "impostor_root": impostors.root[:, :-1].T,
        "impostor_root_bias": impostors.root[:, -1],
        "tail_first": tail.first[:-1],
        "tail_first_bias": tail.first[-1],
        "tail_last": tail.last[:-1],
        "tail_last_bias": tail.last[-1],
        "least_tail": np.array(tail.limits[0]),
        "most_tail": np.array(tail.limits[1]),
        "to_level": np.array([impostors.to_level]),
        "to_deviation": np.array([impostors.to_deviation]),
        "least_deviation": np.array(LEAST_DEVIATION),
        "least_stretch": np.array(STRETCH[0]),
        "most_stretch": np.array(STRETCH[1]),
        "is_score_bias": np.eye(1, size, size - 1),
    }


def _steps(trunk: str, head: str) -> tuple[Step, ...]:
    """From the two parts of a θ as learned to the normalised whole."""
    return (
        ("Gemm", ("templates", FIRST_CONSTANT, "impostor_mean_bias"), FIRST_STEP, {}),  # [N, 1]
        ("Gemm", ("templates", "impostor_root", "impostor_root_bias"), "deviations", {}),  # [N, D + 1]
        ("ReduceL2", ("deviations",), "any_deviation", {"axes": [1]}),  # [N, 1]
        ("Max", ("any_deviation", "least_deviation"), "deviation", {}),
        ("Div", ("to_deviation", "deviation"), "wanted_stretch", {}),
        ("Clip", ("wanted_stretch", "least_stretch", "most_stretch"), "stretch", {}),
        ("Gemm", ("templates", "tail_first", "tail_first_bias"), "tail_sum", {}),  # [N, H]
        ("LeakyRelu", ("tail_sum",), "tail_hidden", {"alpha": SLOPE}),
        ("Gemm", ("tail_hidden", "tail_last", "tail_last_bias"), "any_tail", {}),  # [N, 1]
        ("Clip", ("any_tail", "least_tail", "most_tail"), "tail", {}),
        ("Mul", ("any_deviation", "tail"), "beyond_mean", {}),
        ("Add", (FIRST_STEP, "beyond_mean"), "level", {}),
        ("Mul", ("level", "stretch"), "stretched_level", {}),
        ("Sub", ("to_level", "stretched_level"), "shift", {}),
        ("Mul", (head, "stretch"), "stretched_head", {}),  # [N, F + 1]
        ("Mul", ("shift", "is_score_bias"), "shift_of_bias", {}),
        ("Add", ("stretched_head", "shift_of_bias"), "normalised_head", {}),
        ("Concat", (trunk, "normalised_head"), "theta", {"axis": 1}),
    )
