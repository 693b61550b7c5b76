"""Lookalikes score alike for every user, by what the written generator h does last: one threshold then fits everybody.

Verifiers differ in how high strangers score: some let in many times the share that the common threshold was set for,
and others, for their sake, refuse their own user. Biometrics moves and scales each model's scores by those of a cohort
of faces ("Z-norm": Auckenthaler, Carey and Lloyd-Thomas, "Score normalization for text-independent speaker verification
systems", 2000), which asks for such faces at every enrolment. Here scores are only moved, and no face is needed. A
score is linear in the template: with t = [e, 1], the head's weights W and the trunk's map φ(x), it is

    score(x) = t · y(x),   y(x) = W [φ(x), 1]

so the mean of strangers' scores is t · mean(y), which is measured once, on training faces, and kept in the ONNX file.
Thresholds stand further out, among those who look like the person; how far these score above the mean, a small network
says of the template (`models/lookalikes.py`). The ONNX file shifts the bias of each new θ so that a person's lookalikes
score the same for everybody. Statistics of thousands of faces, no face. For generators that also change the trunk this
is an approximation.

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

from models.faceset import LOOKALIKE_COSINE, FaceSet
from models.lookalikes import (
    BLOCK,
    SLOPE,
    LookalikeNetwork,
    enrolled_templates,
    learn_lookalikes,
    scores_of_lookalikes,
)
from models.losses import same_person
from models.spec import VerifierSpec
from models.verifier import run_layers, to_input
from toolkit.errors import InputError
from toolkit.progress import track

FACES = 32_768  # so that lookalikes are hundreds; twice as many are users
BATCH = 256
FIRST_STEP, FIRST_CONSTANT = "mean", "impostor_mean"  # what `normalised` appends begins with these
SHIFT_STEP = "normalised_head"  # and ends with this one, whose first input is the last layer as learned
Step = tuple[str, tuple[str, ...], str, dict[str, Any]]  # kind of node, inputs, output, attributes


@dataclass(frozen=True)
class ImpostorStatistics:
    """What a template says of strangers' scores: `mean` [D + 1] of y, and how far `above` that lookalikes score.

    Lookalikes' scores are taken to `to_level`.
    """

    mean: np.ndarray
    above: LookalikeNetwork
    to_level: float


def with_one(templates: np.ndarray) -> np.ndarray:
    return np.hstack([templates, np.ones((len(templates), 1), templates.dtype)])


def impostor_statistics(
    h: bytes, spec: VerifierSpec, faces: FaceSet, backbone: str, count: int = FACES, seed: int = 1
) -> ImpostorStatistics:
    """Measure `count` faces, whose templates are those of `backbone`, as strangers of twice as many people; scores stay
    on average what they are.

    Raises InputError when there are not two people.
    """
    rng = np.random.default_rng(seed)
    shown, users = (np.sort(rng.permutation(len(faces))[:n]) for n in (count, 2 * count))
    if len(shown) < 2:
        raise InputError("strangers' scores cannot be measured on so few training faces", got=len(shown))
    y = said_of_faces(h, spec, faces.pixels, shown)
    mean = y.mean(0, dtype=np.float64)
    templates = enrolled_templates(faces, users, seed)
    means = with_one(templates) @ mean
    strangers = faces.templates[shown]

    def levels_of(some: slice) -> np.ndarray:
        cosines = templates[some] @ strangers.T
        same = _one_person(faces, users[some], shown, cosines > LOOKALIKE_COSINE[backbone])
        return scores_of_lookalikes(templates[some], cosines, y, same)

    blocks = [slice(start, start + BLOCK) for start in range(0, len(users), BLOCK)]
    levels = np.concatenate([levels_of(block) for block in track(blocks, "lookalikes")])
    if not np.isfinite(levels).all():
        raise InputError("the training faces show a single person", expected="strangers, to say how high they score")
    network = learn_lookalikes(templates, levels - means, seed)
    return ImpostorStatistics(mean, network, float((means + network.of(templates)).mean()))


def said_of_faces(h: bytes, spec: VerifierSpec, pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """y of the faces in `rows` [N] of pixels [M, H, W, 3]: float32 [N, D + 1]."""
    constants = {c.name: numpy_helper.to_array(c) for c in onnx.load_from_string(h).graph.initializer}
    head = np.vstack([constants["head.weight"], constants["head.bias"]])  # [D + 1, F + 1]
    theta = torch.from_numpy(np.concatenate([constants["base"][0], np.zeros(head.shape[1], np.float32)]))[None]
    parts = []
    for start in track(range(0, len(rows), BATCH), "strangers"):
        x = to_input(torch.from_numpy(pixels[rows[start : start + BATCH]]).permute(0, 3, 1, 2))
        with torch.inference_mode():
            features = run_layers(spec, theta, x).flatten(1).numpy()  # [N, F]
        parts.append(features @ head[:, :-1].T + head[:, -1])
    return np.concatenate(parts)


def _one_person(faces: FaceSet, users: np.ndarray, shown: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Which faces in rows `users` [U] and `shown` [N] are one person's, bool [U, N]: by name, and where a name is
    missing, all those that are so `alike` [U, N] that they may be."""
    a, b = (torch.from_numpy(faces.identity[rows]) for rows in (users, shown))
    same = same_person(a, b, torch.from_numpy(users), torch.from_numpy(shown)).numpy()
    return np.asarray((same > 0) | ((same < 0) & alike))


def as_learned(h: bytes) -> bytes:
    """The generator's ONNX file as training wrote it, without what `normalised` put behind it."""
    model = onnx.load_from_string(h)
    nodes, constants = model.graph.node, model.graph.initializer
    names = [node.name for node in nodes]
    if FIRST_STEP not in names:
        return h
    concat = nodes.pop()
    # Files from before decision 14, 0.1.0+e60856d6 among them, stretch the last layer before they shift it.
    last = "stretched_head" if "stretched_head" in names else SHIFT_STEP
    concat.input[1] = nodes[names.index(last)].input[0]
    del nodes[names.index(FIRST_STEP) :]
    nodes.append(concat)
    del constants[[constant.name for constant in constants].index(FIRST_CONSTANT) :]
    return bytes(model.SerializeToString(deterministic=True))


def normalised(h: bytes, impostors: ImpostorStatistics) -> bytes:
    """The generator's ONNX file with the bias of every θ shifted, anew if it was before."""
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
    network = impostors.above
    return {
        FIRST_CONSTANT: impostors.mean[:-1, None],
        "impostor_mean_bias": impostors.mean[-1:],
        "above_first": network.first[:-1],
        "above_first_bias": network.first[-1],
        "above_last": network.last[:-1],
        "above_last_bias": network.last[-1],
        "least_above": np.array(network.limits[0]),
        "most_above": np.array(network.limits[1]),
        "to_level": np.array([impostors.to_level]),
        "is_score_bias": np.eye(1, size, size - 1),
    }


def _steps(trunk: str, head: str) -> tuple[Step, ...]:
    """From the two parts of a θ as learned to the normalised whole."""
    return (
        ("Gemm", ("templates", FIRST_CONSTANT, "impostor_mean_bias"), FIRST_STEP, {}),  # [N, 1]
        ("Gemm", ("templates", "above_first", "above_first_bias"), "above_sum", {}),  # [N, H]
        ("LeakyRelu", ("above_sum",), "above_hidden", {"alpha": SLOPE}),
        ("Gemm", ("above_hidden", "above_last", "above_last_bias"), "any_above", {}),  # [N, 1]
        ("Clip", ("any_above", "least_above", "most_above"), "above", {}),
        ("Add", (FIRST_STEP, "above"), "level", {}),
        ("Sub", ("to_level", "level"), "shift", {}),
        ("Mul", ("shift", "is_score_bias"), "shift_of_bias", {}),  # [N, F + 1]
        ("Add", (head, "shift_of_bias"), SHIFT_STEP, {}),
        ("Concat", (trunk, SHIFT_STEP), "theta", {"axis": 1}),
    )
