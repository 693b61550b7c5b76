"""Shared fixtures. Real photos come from `make demo/photos`, research data from the folder HYPERVERIFY_DATA."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "demo" / "photos"

settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def _separate_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or leaves anything in the user's folders."""
    monkeypatch.setenv("HYPERVERIFY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HYPERVERIFY_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HYPERVERIFY_CONFIG", str(tmp_path / "config"))


@pytest.fixture(scope="session")
def data() -> Path:
    folder = os.environ.get("HYPERVERIFY_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("HYPERVERIFY_DATA does not name the research data folder")
    return Path(folder)


@pytest.fixture(scope="session")
def photos() -> Path:
    if not PHOTOS.is_dir():
        pytest.skip("no sample photos: run `make demo/photos`")
    return PHOTOS


@dataclass(frozen=True)
class Result:
    """How one run of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def toolkit(tmp_path: Path) -> Callable[..., Result]:
    """Run the real command line in a process of its own, in an empty folder."""

    def run(*arguments: object, **environment: str) -> Result:
        command = [sys.executable, "-m", "toolkit", *map(str, arguments)]
        env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=900)
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def theta() -> np.ndarray:
    """Weights of a verifier that uses its whole range: the shipped generator's, for a made-up template."""
    from models.generator import Generator

    h = Generator()
    template = np.random.default_rng(7).standard_normal((1, h.template_dim)).astype(np.float32)
    return h.weights(template / np.linalg.norm(template))[0]


@pytest.fixture(scope="session")
def noise_faces() -> np.ndarray:
    """uint8 [8, 64, 64, 3]: smooth random pictures, for tests that need numbers and not faces."""
    import cv2

    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (8, 9, 9, 3), np.uint8)
    return np.stack([cv2.resize(c, (64, 64), interpolation=cv2.INTER_CUBIC) for c in coarse])


@pytest.fixture(scope="session")
def detector_bytes() -> bytes:
    from models.files import find_model
    from models.fold import detector_file

    return detector_file(find_model("yunet"))


@pytest.fixture(scope="session")
def bundle(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the person in the sample photos, enrolled by the command line."""
    folder = tmp_path_factory.mktemp("bundle")
    command = [
        sys.executable,
        "-m",
        "toolkit",
        "enroll",
        "obama",
        str(photos / "obama2.jpg"),
        str(photos / "obama3.jpg"),
    ]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "obama.hvb"
