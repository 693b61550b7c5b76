"""Model files of one spec differ between people in their weights only, and always at the same bytes.

A stencil is a file written once for made-up weights, and the place of each tensor in it. Filling it for a person gives
what the writer would give, without building the graph again.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from export.bundle import write_model
from export.quantize import layer_tensors, quantise
from models.spec import VerifierSpec
from toolkit.errors import ArtifactError

Tensors = dict[str, np.ndarray]


def file_tensors(spec: VerifierSpec, theta: np.ndarray, precision: str) -> Tensors:
    """Everything in a file that depends on θ float32 [P], by name. Raises ArtifactError (unusable θ)."""
    if precision == "fp32":
        return layer_tensors(spec, theta)
    tensors: Tensors = {}
    for name, q in quantise(spec, theta).items():
        tensors |= {f"{name}.weight": q.weight, f"{name}.bias": q.bias, f"{name}.weight_scale": q.weight_scale,
                    f"{name}.bias_scale": q.bias_scale}  # fmt: skip
    return tensors


class Stencil:
    """`write_model(spec, θ, kind, precision)` for many θ. Two tensors of one person must not be equal, as they never
    are in trained weights: the TFLite writer stores equal ones once."""

    def __init__(self, spec: VerifierSpec, kind: str, precision: str):
        self.spec, self.kind, self.precision = spec, kind, precision
        first, second = (np.random.default_rng(seed).normal(0, 0.05, spec.params).astype(np.float32) for seed in (1, 2))
        self._file = bytearray(write_model(spec, first, kind, precision))
        self._written = file_tensors(spec, first, precision)
        self._places = {name: _place(bytes(self._file), name, tensor) for name, tensor in self._written.items()}
        if self.fill(file_tensors(spec, second, precision)) != write_model(spec, second, kind, precision):
            raise ArtifactError(f"{precision} {kind} files of this spec cannot be written in bulk")

    def fill(self, tensors: Tensors) -> bytes:
        """The file of the person whose `file_tensors` these are."""
        for name, (offset, order) in self._places.items():
            if tensors[name] is not self._written[name]:  # the last person's own, where verifiers share a layer
                data = tensors[name].transpose(order).tobytes()
                self._file[offset : offset + len(data)] = data
        self._written = dict(tensors)
        return bytes(self._file)


def _place(file: bytes, name: str, tensor: np.ndarray) -> tuple[int, tuple[int, ...]]:
    """Offset and order of axes: each format has its own order, which shows by itself."""
    for order in permutations(range(tensor.ndim)):
        data = tensor.transpose(order).tobytes()
        if file.count(data) == 1:
            return file.index(data), order
    raise ArtifactError(f"layer tensor {name} has no one place in the file")
