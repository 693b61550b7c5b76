"""Who is trained on and who judges a run: no held-out person may be among the faces that teach."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.backbone import Backbone
from models.facedata import face_blocks
from models.faceset import lookalikes
from models.facestream import Face, Split


def held_out_templates(files: list[Path], backbone: Backbone, split: Split) -> np.ndarray:
    """Templates [M, D] of the faces that judge."""
    found = [rows for file in files for _, rows in face_blocks(file, backbone, lambda face: split.of(face) == "val")]
    return np.concatenate(found) if found else np.zeros((0, backbone.dim), np.float32)


def unknown_lookalikes(
    faces: list[Face], templates: np.ndarray, held_out: np.ndarray, backbone: Backbone
) -> np.ndarray:
    """Faces without a name, of N with templates [N, D], that may show somebody of the held-out [M, D]: bool [N]."""
    unknown = np.array([not face.identity for face in faces])
    return np.asarray(unknown & lookalikes(templates, held_out, backbone.name))
