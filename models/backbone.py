"""The frozen face-recognition backbone h_bb: aligned crops in, unit-length templates out.

Which backbone the paper uses is not known here; SFace (Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss
for Robust Face Recognition", 2021) and dlib's ResNet-29 are this project's choices, and so is using both at once: SFace
knows people better, dlib's similarities of strangers are easier for a small network to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np

from device.onnx_session import onnx_session
from models.files import MODEL_FILES, find_model
from models.spec import CROP_PX
from toolkit.errors import MissingError, UsageError


class Backbone(Protocol):
    """Crops, uint8 RGB [N, 112, 112, 3], to unit-length float32 templates [N, dim]."""

    name: str
    dim: int
    sha256: str

    def embed(self, crops: np.ndarray) -> np.ndarray:
        """All crops; spread over threads, never batched."""

    def embed_one(self, crop: np.ndarray) -> np.ndarray:
        """One crop [112, 112, 3] to the raw, unscaled vector [1, dim]."""


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Unit templates [N, D] of several backbones side by side: unit templates whose cosine is the mean of theirs."""
    return np.asarray(np.concatenate(parts, axis=1) / np.sqrt(len(parts)), np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale the last axis to length one; a zero vector stays zero."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, 1e-12), np.float32)


class OnnxBackbone:
    """A backbone run by ONNX Runtime on the CPU, opened when it is first asked: templates are often cached.

    `prepare` maps uint8 NHWC RGB to the network's own input.
    """

    def __init__(
        self,
        name: str,
        dim: int,
        graph: Callable[[], bytes],
        prepare: Callable[[np.ndarray], np.ndarray],
        threads: int,
    ):
        import onnxruntime  # noqa: F401  (its absence is told at once)

        self.name, self.dim, self.sha256 = name, dim, MODEL_FILES[name].sha256
        self._graph, self._prepare, self._threads = graph, prepare, threads
        self._opening = Lock()

    @cached_property
    def _session(self) -> Any:
        return onnx_session(self._graph())

    def embed(self, crops: np.ndarray) -> np.ndarray:
        """Raises UsageError for anything but uint8 [N, 112, 112, 3]."""
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (CROP_PX, CROP_PX, 3):
            raise UsageError(
                "the backbone cannot embed these crops",
                got=f"{crops.dtype} {list(crops.shape)}",
                expected=f"uint8 [N, {CROP_PX}, {CROP_PX}, 3]",
            )
        with ThreadPoolExecutor(self._threads) as pool:
            rows = list(pool.map(self.embed_one, crops))
        return unit(np.concatenate(rows)) if rows else np.zeros((0, self.dim), np.float32)

    def embed_one(self, crop: np.ndarray) -> np.ndarray:
        """One crop a call: on a CPU that is faster than a batch, whose activations leave the cache."""
        with self._opening:
            session = self._session
        output: np.ndarray = session.run(None, {session.get_inputs()[0].name: self._prepare(crop[None])})[0]
        return output.reshape(1, -1)


class JoinedBackbone:
    """Several backbones as one; its name and its SHA-256 are theirs with a + between."""

    def __init__(self, members: Sequence[Backbone]):
        self.members = tuple(members)
        self.name = "+".join(member.name for member in members)
        self.dim = sum(member.dim for member in members)
        self.sha256 = "+".join(member.sha256 for member in members)

    def embed(self, crops: np.ndarray) -> np.ndarray:
        return joined([member.embed(crops) for member in self.members])

    def embed_one(self, crop: np.ndarray) -> np.ndarray:
        return joined([unit(member.embed_one(crop)) for member in self.members])


def _sface_input(crops: np.ndarray) -> np.ndarray:
    """NCHW float32 RGB 0..255; the graph subtracts 127.5 and scales itself."""
    return np.ascontiguousarray(crops.transpose(0, 3, 1, 2), dtype=np.float32)


def sface_graph(path: Path | None = None) -> bytes:
    """SFace as ONNX with float weights, free batch. Raises MissingError, ArtifactError."""
    from models.fold import fold_block_quantised

    return bytes(fold_block_quantised(find_model("sface", path), batch=True).SerializeToString())


def dlib_graph(path: Path | None = None) -> bytes:
    """dlib's ResNet-29 as ONNX. Raises MissingError, ArtifactError."""
    from models.dlib_resnet import dlib_onnx

    return bytes(dlib_onnx(find_model("dlib", path)).SerializeToString())


def _sface(path: Path | None, threads: int) -> Backbone:
    import models.fold  # noqa: F401  (its absence is told at once)

    file = find_model("sface", path)
    return OnnxBackbone("sface", 128, lambda: sface_graph(file), _sface_input, threads)


def _dlib(path: Path | None, threads: int) -> Backbone:
    from models.dlib_resnet import dlib_input

    file = find_model("dlib", path)
    return OnnxBackbone("dlib", 128, lambda: dlib_graph(file), dlib_input, threads)


_BACKBONES = {"sface": _sface, "dlib": _dlib}
BACKBONES = (*_BACKBONES, "+".join(_BACKBONES))


def load_backbone(name: str = "sface", path: Path | None = None, threads: int = 1) -> Backbone:
    """Load a backbone by name, one of BACKBONES, from `path` (its file, or a folder) or wherever its file is found.

    Raises UsageError (unknown name, or one file for two), MissingError (file or package absent), ArtifactError (hash).
    """
    if name not in BACKBONES:
        raise UsageError("unknown backbone", got=name, expected=" or ".join(BACKBONES))
    names = name.split("+")
    if len(names) > 1 and path is not None and not path.is_dir():
        files = " and ".join(MODEL_FILES[member].file for member in names)
        raise UsageError(f"{name} takes more than one file", got=path, expected=f"a folder with {files}")
    try:
        members = [_BACKBONES[member](path, threads) for member in names]
    except ImportError as error:
        raise MissingError(
            f"the backbone needs the package {error.name}", do="run `pip install 'hyperverify[enroll]'`"
        ) from error
    return members[0] if len(members) == 1 else JoinedBackbone(members)
