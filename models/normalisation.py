"""Strangers' scores made alike for every user, inside the written generator h: one threshold then fits everybody.

Verifiers differ in how high strangers score: some let in many times the share that the common threshold was set for,
and others, for their sake, refuse their own user. Biometrics takes each model's impostor scores to one mean and one
deviation ("Z-norm": Auckenthaler, Carey and Lloyd-Thomas, "Score normalization for text-independent speaker
verification systems", 2000), which asks for a cohort of faces at every enrolment. Here none is needed. A score is
linear in the template: with t = [e, 1], the head's weights W and the trunk's map φ(x), it is

    score(x) = t · y(x),   y(x) = W [φ(x), 1]

so the mean of strangers' scores is t · mean(y) and their variance tᵀ cov(y) t. Both moments of y are measured once, on
training faces, and kept in the ONNX file, which stretches and shifts the last layer of each new θ by them. Statistics
of thousands of faces, no face. For generators that also change the trunk this is an approximation.

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
from models.spec import VerifierSpec
from models.verifier import run_layers, to_input
from toolkit.errors import ArtifactError
from toolkit.progress import track

FACES = 8192  # deviations to one part in a hundred
STRETCH = (0.5, 2.0)  # no verifier is stretched by more; measured: 0.88 to 1.21
BATCH = 256


@dataclass(frozen=True)
class ImpostorMoments:
    """`mean` [D + 1] and `root` [D + 1, D + 1], rootᵀ root the covariance, of y; what scores are taken to."""

    mean: np.ndarray
    root: np.ndarray
    to_mean: float
    to_deviation: float

    def of(self, templates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of strangers' scores [N] under the verifiers of these templates [N, D]."""
        t = np.hstack([templates, np.ones((len(templates), 1), templates.dtype)])
        return t @ self.mean, np.linalg.norm(t @ self.root.T, axis=1)


def impostor_moments(
    h: bytes, spec: VerifierSpec, faces: FaceSet, count: int = FACES, seed: int = 1
) -> ImpostorMoments:
    """Measure them on `count` faces; the scale of scores stays what it is on average over their templates."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(faces))[:count])
    constants = {c.name: numpy_helper.to_array(c) for c in onnx.load_from_string(h).graph.initializer}
    head = np.vstack([constants["head.weight"], constants["head.bias"]])  # [D + 1, F + 1]
    theta = torch.from_numpy(np.concatenate([constants["base"][0], np.zeros(head.shape[1], np.float32)]))[None]
    parts = []
    for start in track(range(0, len(rows), BATCH), "strangers"):
        x = to_input(torch.from_numpy(faces.pixels[rows[start : start + BATCH]]).permute(0, 3, 1, 2))
        with torch.inference_mode():
            features = run_layers(spec, theta, x, 0, len(spec.layers) - 1).flatten(1).numpy()  # [N, F]
        parts.append(features @ head[:, :-1].T + head[:, -1])
    y = np.concatenate(parts).astype(np.float64)  # [N, D + 1]
    values, vectors = np.linalg.eigh(np.cov(y.T))
    root = np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T
    moments = ImpostorMoments(y.mean(0), root, 0.0, 1.0)
    means, deviations = moments.of(faces.templates[rows])
    return ImpostorMoments(y.mean(0), root, float(means.mean()), float(deviations.mean()))


def is_normalised(h: bytes) -> bool:
    return "impostor_mean" in {constant.name for constant in onnx.load_from_string(h).graph.initializer}


def normalised(h: bytes, moments: ImpostorMoments) -> bytes:
    """The generator's ONNX file with the last layer of every θ stretched and shifted. Raises ArtifactError."""
    model = onnx.load_from_string(h)
    graph = model.graph
    concat = graph.node[-1]
    if is_normalised(h):
        raise ArtifactError("this generator is normalised already", do="write it anew with `toolkit train`")
    trunk, head = concat.input
    size = next(c.dims[0] for c in graph.initializer if c.name == "head.bias")
    constants = {
        "impostor_mean": moments.mean[:-1, None],
        "impostor_mean_bias": moments.mean[-1:],
        "impostor_root": moments.root[:, :-1].T,
        "impostor_root_bias": moments.root[:, -1],
        "to_mean": np.array([moments.to_mean]),
        "to_deviation": np.array([moments.to_deviation]),
        "least_deviation": np.array(1e-6),  # of verifiers that say the same of everybody
        "least_stretch": np.array(STRETCH[0]),
        "most_stretch": np.array(STRETCH[1]),
        "is_score_bias": np.eye(1, size, size - 1),
    }
    steps: tuple[tuple[str, tuple[str, ...], str, dict[str, Any]], ...] = (
        ("Gemm", ("templates", "impostor_mean", "impostor_mean_bias"), "mean", {}),  # [N, 1]
        ("Gemm", ("templates", "impostor_root", "impostor_root_bias"), "deviations", {}),  # [N, D + 1]
        ("ReduceL2", ("deviations",), "any_deviation", {"axes": [1]}),  # [N, 1]
        ("Max", ("any_deviation", "least_deviation"), "deviation", {}),
        ("Div", ("to_deviation", "deviation"), "wanted_stretch", {}),
        ("Clip", ("wanted_stretch", "least_stretch", "most_stretch"), "stretch", {}),
        ("Mul", ("mean", "stretch"), "stretched_mean", {}),
        ("Sub", ("to_mean", "stretched_mean"), "shift", {}),
        ("Mul", (head, "stretch"), "stretched_head", {}),  # [N, F + 1]
        ("Mul", ("shift", "is_score_bias"), "shift_of_bias", {}),
        ("Add", ("stretched_head", "shift_of_bias"), "normalised_head", {}),
        ("Concat", (trunk, "normalised_head"), "theta", {"axis": 1}),
    )
    graph.node.remove(concat)
    graph.node.extend(helper.make_node(kind, inputs, [out], name=out, **extra) for kind, inputs, out, extra in steps)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items())
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
