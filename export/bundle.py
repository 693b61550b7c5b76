"""Write a bundle: everything a device needs to verify one person, in one folder, all of it 0600.

A verifier's weights are the biometric template, so nobody but their owner may read them. Nothing in a bundle depends
on the clock, the host or a path: the same photos give the same bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export.manifest import DETECTOR, MANIFEST, MODELS, manifest_bytes
from models.spec import VerifierSpec
from toolkit.atomic import folder_atomically, write_atomically
from toolkit.errors import MissingError


@dataclass(frozen=True)
class BundleContent:
    """What goes into a bundle beside the model files."""

    name: str
    spec: VerifierSpec
    theta: np.ndarray  # float32 [P]
    generator: dict[str, Any]  # version, sha256, backbone, backbone_sha256
    templates: int  # photos that were fused
    operating_points: dict[str, dict[str, Any]]
    operating_points_photos: int  # enrolment photos these operating points were set with
    detector: bytes
    detector_origin: dict[str, str]  # name, sha256 of the official file, licence
    visits: dict[str, Any] = field(default_factory=dict)  # spread of visits' scores; {}: not measured


def write_model(spec: VerifierSpec, theta: np.ndarray, kind: str, precision: str) -> bytes:
    """One model file; kind "onnx", "tflite" or "c". Raises ArtifactError (unusable θ), MissingError (package)."""
    try:
        if kind == "onnx":
            from export.onnx_writer import write_onnx

            return write_onnx(spec, theta, precision)
        if kind == "c":
            from export.c_writer import write_c_single

            return write_c_single(spec, theta, precision)
        from export.tflite_writer import write_tflite

        return write_tflite(spec, theta, precision)
    except ImportError as error:
        raise MissingError(
            f"writing {kind} files needs {error.name}", do="run `pip install 'hyperverify[enroll]'`"
        ) from error


def bundle_manifest(content: BundleContent, files: dict[str, bytes]) -> dict[str, Any]:
    """The manifest of a bundle of these files."""
    return {
        "name": content.name,
        "spec": content.spec.to_dict(),
        "spec_hash": content.spec.hash,
        "params": content.spec.params,
        "flops": content.spec.flops,
        "generator": content.generator,
        "templates": content.templates,
        "operating_points": content.operating_points,
        "operating_points_photos": content.operating_points_photos,
        "visits": content.visits,
        "detector": content.detector_origin,
        "files": {
            file: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for file, data in files.items()
        },
    }


def write_bundle(content: BundleContent, path: Path, *, replace: bool) -> None:
    """Write the bundle folder atomically. Raises UsageError (exists, not writable), MissingError (disk full)."""
    files = {
        file: write_model(content.spec, content.theta, kind, precision) for (kind, precision), file in MODELS.items()
    }
    files[DETECTOR] = content.detector
    manifest = bundle_manifest(content, files)
    with folder_atomically(path, replace=replace) as folder:
        for file, data in files.items():
            write_atomically(folder / file, data)
        write_atomically(folder / MANIFEST, manifest_bytes(manifest))
