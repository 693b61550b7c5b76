"""Model files of one spec differ between people in their weights only, and always at the same bytes.

A stencil is a file written once for made-up weights, and the place of each tensor in it. Filling it for a person gives
what the writer would give, without building the graph again.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        files = [write_model(spec, theta, kind, precision) for theta in (first, second)]
        tensors = [file_tensors(spec, theta, precision) for theta in (first, second)]
        self._places = {name: _place(files, name, [some[name] for some in tensors]) for name in tensors[0]}
        self._file, self._written = bytearray(files[0]), tensors[0]
        if self.fill(tensors[1]) != files[1]:
            raise ArtifactError(f"{precision} {kind} files of this spec cannot be written in bulk")

    def fill(self, tensors: Tensors) -> bytes:
        """The file of the person whose `file_tensors` these are."""
        for name, (offset, order) in self._places.items():
            if tensors[name] is not self._written[name]:  # the last person's own, where verifiers share a layer
                data = tensors[name].transpose(order).tobytes()
                self._file[offset : offset + len(data)] = data
        self._written = dict(tensors)
        return bytes(self._file)


def _place(files: list[bytes], name: str, tensors: list[np.ndarray]) -> tuple[int, tuple[int, ...]]:
    """Offset and order of axes: each format has its own order, which shows by itself.

    Of two people's files and tensors: the few bytes of a small tensor may stand elsewhere in one file by chance.
    """
    for order in permutations(range(tensors[0].ndim)):
        one, other = (tensor.transpose(order).tobytes() for tensor in tensors)
        places = [place for place in _occurrences(files[0], one) if files[1].startswith(other, place)]
        if len(places) == 1:
            return places[0], order
    raise ArtifactError(f"layer tensor {name} has no one place in the file")


def _occurrences(file: bytes, data: bytes) -> Iterator[int]:
    place = file.find(data)
    while place >= 0:
        yield place
        place = file.find(data, place + 1)
