"""Make a bundle, faces and the integer reference's scores for `check.py`: run with the workstation's Python.

prepare.py FOLDER [PERSON]     another number is another person's verifier
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from export.bundle import BundleContent, write_bundle
from export.integer import IntegerVerifier
from export.tolerances import INT8_STEPS
from models.files import find_model
from models.fold import detector_file
from models.generator import Generator

folder, person = Path(sys.argv[1]), int((sys.argv[2:] or ["7"])[0])
h = Generator()
template = np.random.default_rng(person).standard_normal((1, h.template_dim)).astype(np.float32)
theta = h.weights(template / np.linalg.norm(template))[0]
rng = np.random.default_rng(3)
faces = np.stack([cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (64, 64)) for _ in range(32)])
points = {name: vars(point) for name, point in h.info.points_for(1)[1].items()}
detector = detector_file(find_model("yunet"))
content = BundleContent("test", h.info.spec, theta, {"version": h.info.version}, 1, points, 1, detector, {})
write_bundle(content, folder / "test.hvb", replace=True)
np.save(folder / "faces.npy", faces)
expected = {
    "scores": IntegerVerifier(h.info.spec, theta).scores(faces).tolist(),
    "tolerances": INT8_STEPS,
}
(folder / "expected.json").write_text(json.dumps(expected))
