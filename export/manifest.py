"""The bundle's manifest: what a device needs to know, and the SHA-256 of every file beside it. No dependencies.

NAME.hvb/  manifest.json  model.onnx  model.int8.onnx  model.tflite  model.int8.tflite  model.c  detector.onnx
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.spec import VerifierSpec
from toolkit.errors import ArtifactError, InputError, UsageError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
DETECTOR = "detector.onnx"
MODELS = {
    ("onnx", "fp32"): "model.onnx",
    ("onnx", "int8"): "model.int8.onnx",
    ("tflite", "fp32"): "model.tflite",
    ("tflite", "int8"): "model.int8.tflite",
    ("c", "int8"): "model.c",
}
FILES = (*MODELS.values(), DETECTOR)


NAME = re.compile(r"[\w][\w .-]{0,63}")


def check_name(name: str) -> str:
    """A name that is a safe file name everywhere. Raises UsageError."""
    if not NAME.fullmatch(name) or name.strip(" .") != name:
        raise UsageError(
            "this name cannot be used", got=repr(name), expected="letters, digits, space, dot, dash, at most 64"
        )
    return name


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its manifest is checked, and each file is checked when it is read."""

    path: Path
    manifest: dict[str, Any]
    spec: VerifierSpec

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    def threshold(self, operating_point: str) -> float:
        """Accept scores at or above this. Raises UsageError for a name the bundle does not have."""
        points = self.manifest["operating_points"]
        if operating_point not in points:
            raise UsageError("unknown operating point", got=operating_point, expected=" or ".join(points))
        return float(points[operating_point]["threshold"])

    def read(self, file: str) -> bytes:
        """The bytes of one file; exactly these bytes were hashed. Raises ArtifactError."""
        entry = self.manifest["files"].get(file)
        if entry is None:
            batch = ", or name this form in export-batch's --formats" if file in MODELS.values() else ""
            raise ArtifactError(f"{self.path} has no {file} in its manifest", do=f"enrol the person again{batch}")
        try:
            data = (self.path / file).read_bytes()
        except OSError as error:
            raise ArtifactError(
                f"{self.path / file} cannot be read", got=error.strerror, do="copy the bundle again"
            ) from error
        found = hashlib.sha256(data).hexdigest()
        if found != entry["sha256"]:
            raise ArtifactError(
                f"{self.path / file} was changed since it was enrolled",
                got=f"SHA-256 {found[:16]}…",
                expected=f"{entry['sha256'][:16]}…",
                do="copy the bundle again or enrol the person again",
            )
        return data


def open_bundle(path: Path) -> Bundle:
    """Read and check a bundle's manifest. Raises InputError (no such bundle) or ArtifactError (anything wrong)."""
    file = path / MANIFEST
    if not file.is_file():
        raise InputError(f"{path} is not a bundle: it has no {MANIFEST}", do="make one with `toolkit enroll`")
    try:
        manifest = json.loads(file.read_bytes())
        version = manifest["schema_version"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise ArtifactError(f"{file} is damaged", got=type(error).__name__, do="copy the bundle again") from error
    if version != SCHEMA_VERSION:
        raise ArtifactError(f"{file} has another schema", got=version, expected=SCHEMA_VERSION, do="update hyperverify")
    return Bundle(path, manifest, _check(manifest, file))


def _check(manifest: dict[str, Any], file: Path) -> VerifierSpec:
    """Everything the device will rely on. Raises ArtifactError."""
    try:
        spec = VerifierSpec.from_dict(manifest["spec"])
        points, files = manifest["operating_points"], manifest["files"]
        sound = (
            check_name(manifest["name"]) == manifest["name"]
            and isinstance(files, dict)
            and bool(points)
            and all(isinstance(float(p["threshold"]), float) for p in points.values())
            and all(name in FILES and isinstance(entry["sha256"], str) for name, entry in files.items())
            and manifest["spec_hash"] == spec.hash
        )
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise ArtifactError(
            f"{file} is damaged", got=f"{type(error).__name__}: {error}", do="copy the bundle again"
        ) from error
    if not sound:
        raise ArtifactError(f"{file} is damaged: its parts do not fit together", do="copy the bundle again")
    return spec


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """Canonical form: sorted keys, two spaces, one newline at the end."""
    return (json.dumps({"schema_version": SCHEMA_VERSION, **manifest}, indent=2, sort_keys=True) + "\n").encode()
