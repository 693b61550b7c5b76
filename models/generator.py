"""The shipped hypernetwork at work: templates to verifier weights, in ONNX Runtime, without torch.

A generator is two files side by side: `NAME.onnx`, and `NAME.json` with the spec, the backbone it belongs to, how it
was trained and the thresholds of its named operating points.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.files import sha256_of
from models.spec import Framing, VerifierSpec
from toolkit.errors import ArtifactError, MissingError, UsageError

SHIPPED = Path(__file__).parent / "weights" / "h.onnx"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and the held-out trials it was set on."""

    name: str  # "fmr1e-3": accepts one impostor in a thousand
    threshold: float  # accept when score ≥ threshold
    fmr: float
    fnmr: float
    impostor_pairs: int
    genuine_pairs: int
    identities: int


@dataclass(frozen=True)
class GeneratorInfo:
    """What NAME.json says."""

    version: str
    generator: str
    backbone: str
    backbone_sha256: str
    spec: VerifierSpec
    training: dict[str, Any]
    operating_points: dict[int, dict[str, OperatingPoint]]  # by number of enrolment photos
    visits: dict[int, dict[str, Any]] = field(default_factory=dict)  # likewise: what devices take a visit's scores for

    @property
    def held_out_share(self) -> float:
        """Of the people, in sets without splits (`models.facestream.Split`)."""
        return float(self.training.get("held_out_share", 0.0))

    def points_for(self, photos: int) -> tuple[int, dict[str, OperatingPoint]]:
        """The operating points set with the next larger number of enrolment photos, whose thresholds are the stricter.

        Beyond the largest number, those of the largest.
        """
        if not self.operating_points:
            raise ArtifactError("the generator has no operating points", do="let `toolkit train` end, which sets them")
        larger = [n for n in self.operating_points if n >= photos]
        number = min(larger) if larger else max(self.operating_points)
        return number, self.operating_points[number]

    def visits_for(self, photos: int) -> dict[str, Any]:
        """How scores of visits on video are spread, for the number that `points_for` gives; {} when not measured."""
        return self.visits.get(self.points_for(photos)[0], {})

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "version": self.version,
            "generator": self.generator,
            "backbone": self.backbone,
            "backbone_sha256": self.backbone_sha256,
            "spec": self.spec.to_dict(),
            "spec_hash": self.spec.hash,
            "training": self.training,
            "operating_points": {
                str(n): {name: vars(p) for name, p in points.items()} for n, points in self.operating_points.items()
            },
            "visits": {str(n): told for n, told in self.visits.items()},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], origin: str) -> GeneratorInfo:
        """Raises ArtifactError for a newer schema or a damaged file."""
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION:
            raise ArtifactError(
                f"{origin} has another schema", got=version, expected=SCHEMA_VERSION, do="update hyperverify"
            )
        try:
            spec = VerifierSpec.from_dict(data["spec"])
            points = {
                int(n): {name: OperatingPoint(**p) for name, p in by_name.items()}
                for n, by_name in data["operating_points"].items()
            }
            info = cls(
                data["version"], data["generator"], data["backbone"], data["backbone_sha256"], spec,
                data["training"], points, {int(n): dict(told) for n, told in data.get("visits", {}).items()},
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{origin} is damaged", got=f"{type(error).__name__}: {error}") from error
        if spec.hash != data.get("spec_hash"):
            raise ArtifactError(f"{origin} is damaged: its spec does not match its spec hash")
        return info


class Generator:
    """h_gen in ONNX Runtime. `info` describes it, `sha256` is that of its ONNX file."""

    def __init__(self, path: Path = SHIPPED):
        """Raises MissingError, ArtifactError."""
        sidecar = path.with_suffix(".json")
        for file in (path, sidecar):
            if not file.is_file():
                raise MissingError(f"no generator at {file}", do="train one with `toolkit train` or name another")
        try:
            self.info = GeneratorInfo.from_dict(json.loads(sidecar.read_text()), str(sidecar))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{sidecar} is not JSON", got=str(error)) from error
        self.sha256 = sha256_of(path)
        self._session = self._open(path)

    def _open(self, path: Path) -> Any:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingError("enrolment needs onnxruntime", do="run `pip install 'hyperverify[enroll]'`") from error
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
            raise ArtifactError(f"{path} is not a usable ONNX file", got=str(error).splitlines()[0]) from error
        length = session.get_outputs()[0].shape[1]
        if length != self.info.spec.params:
            raise ArtifactError(
                f"{path} does not fit its spec", got=f"{length} weights", expected=self.info.spec.params
            )
        return session

    @property
    def template_dim(self) -> int:
        return int(self._session.get_inputs()[0].shape[1])

    def weights(self, templates: np.ndarray) -> np.ndarray:
        """Unit templates float32 [N, D] to θ float32 [N, P]. Raises UsageError for another shape or a NaN."""
        dim = self.template_dim
        if templates.ndim != 2 or templates.shape[1] != dim or not np.isfinite(templates).all():
            raise UsageError("these templates do not fit the generator", got=templates.shape, expected=f"[N, {dim}]")
        theta: np.ndarray = self._session.run(None, {"templates": templates.astype(np.float32)})[0]
        return theta


def fuse_photos(faces: np.ndarray, templates: np.ndarray, framing: Framing) -> np.ndarray:
    """One unit template [D] from several photos: what `framing` shows of each [N, S, S, 3], and templates [N, D].

    A sharp photo counts for more, by the square root of its sharpness.
    """
    from device.quality import sharpness_of

    return fuse_templates(templates, np.sqrt([max(sharpness_of(face, framing), 1e-6) for face in faces]))


def fuse_templates(templates: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """One unit template [D] from several [N, D]: their mean, weighted [N] if need be, back to unit length."""
    mean = np.average(templates, 0, weights)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)
