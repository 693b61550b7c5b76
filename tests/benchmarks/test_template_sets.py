"""Template sets in the layout of IJB, written here: what is read, averaged and refused; real photos through it all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.template_sets import by_medium, read_template_set
from device.detector import PHOTO_SIDES_PX, FaceDetector
from device.image import read_image
from toolkit.errors import InputError

TEMPLATES = {"obama2.jpg": 7, "obama3.jpg": 7, "obama.jpg": 9, "biden.jpg": 12}
PAIRS = ["7 9 1", "7 12 0", "9 12 0"]


def write_set(folder: Path, landmarks: dict[str, np.ndarray], pairs: list[str] = PAIRS) -> Path:
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "loose_crop").mkdir(exist_ok=True)
    points = [f"{name} {' '.join(map(str, where.ravel()))} 0.99" for name, where in landmarks.items()]
    media = [f"{name} {TEMPLATES[name]} {medium}" for medium, name in enumerate(landmarks)]
    for file, lines in (("name_5pts_score", points), ("face_tid_mid", media), ("template_pair_label", pairs)):
        (folder / "meta" / f"ijbx_{file}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path / "IJBX", dict.fromkeys(TEMPLATES, np.arange(10.0).reshape(5, 2)))


def test_templates_are_numbered_and_keep_their_photos(folder: Path) -> None:
    found = read_template_set(folder)
    assert [rows.tolist() for rows in found.rows()] == [[0, 1], [2], [3]]
    assert (found.pairs.first.tolist(), found.pairs.second.tolist()) == ([0, 0, 1], [1, 2, 2])
    assert found.pairs.same.tolist() == [True, False, False]
    assert found.landmarks.shape == (4, 5, 2)


def test_a_long_video_counts_as_much_as_a_photo() -> None:
    values, medium = np.array([0.0, 0.0, 0.0, 1.0]), np.array([5, 5, 5, 8])
    assert by_medium(values, medium) == 0.5


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("face_tid_mid", "obama.jpg 9", "line 1 is not `name template medium`"),
        ("face_tid_mid", "obama.jpg nine 1", "line 1 is not `name template medium`"),
        ("face_tid_mid", "nobody.jpg 9 1", "no landmarks of nobody.jpg"),
        ("name_5pts_score", "obama.jpg 1 2 3", "line 1 is not `name and 11 numbers`"),
        ("template_pair_label", "7 8 1", "line 1 is not a pair of templates"),
        ("template_pair_label", "7 9 2", "line 1 is not a pair of templates"),
        ("template_pair_label", "", "is empty"),
    ],
)
def test_wrong_lines_are_named(file: str, line: str, message: str, folder: Path) -> None:
    (folder / "meta" / f"ijbx_{file}.txt").write_text(f"{line}\n" if line else "")
    with pytest.raises(InputError, match=message):
        read_template_set(folder)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60), file=st.sampled_from(["face_tid_mid", "name_5pts_score", "template_pair_label"]))
def test_junk_never_crashes(data: bytes, file: str, folder: Path) -> None:
    path = folder / "meta" / f"ijbx_{file}.txt"
    kept = path.read_bytes()
    try:
        path.write_bytes(data)
        with pytest.raises(InputError):
            read_template_set(folder)
    finally:
        path.write_bytes(kept)


def test_no_set_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a template set"):
        read_template_set(tmp_path)


def test_real_photos_from_the_command_line_to_the_report(
    photos: Path, detector_bytes: bytes, toolkit: Callable[..., Any], tmp_path: Path
) -> None:
    detector = FaceDetector(detector_bytes, PHOTO_SIDES_PX)
    landmarks = {name: detector.detect(read_image(photos / name))[0].landmarks for name in TEMPLATES}
    folder = write_set(tmp_path / "IJBX", landmarks)
    for name in TEMPLATES:
        shutil.copy(photos / name, folder / "loose_crop" / name)
    done = toolkit("eval", "templates", folder, "--json")
    assert done.code == 0, done.err
    assert (done.json["photos"], done.json["templates"]) == (4, 3)
    for side in ("one_sided", "both_sides"):
        assert (done.json[side]["genuine_pairs"], done.json[side]["impostor_pairs"]) == (1, 2)
        assert done.json[side]["auc"] == 1, "obama is nearer to himself than biden is"
    (result := tmp_path / "ijbx.json").write_text(done.out)
    assert toolkit("report", result, "-o", tmp_path / "report.md").code == 0
    (folder / "loose_crop" / "biden.jpg").unlink()
    assert toolkit("eval", "templates", folder).code == 4
