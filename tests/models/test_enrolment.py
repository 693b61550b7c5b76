"""Photos in, one template out: which photos are used, and why others are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from device.alignment import align
from device.detector import FaceDetector
from device.image import read_image
from models.backbone import BACKBONES, Backbone, load_backbone
from models.enrolment import Enroller, PhotoReport, find_photos, reject_strangers
from models.facedata import read_faces, templates_of
from models.generator import fuse_photos, fuse_templates
from models.spec import DEFAULT_SPEC
from toolkit.errors import FaceError, InputError, MissingError, UsageError

SEEN = DEFAULT_SPEC.framing


@pytest.fixture(scope="module")
def sface() -> Backbone:
    return load_backbone("sface")


@pytest.fixture(scope="module")
def enroller(detector_bytes: bytes, sface: Backbone) -> Enroller:
    return Enroller(detector_bytes, sface, SEEN)


def save(folder: Path, name: str, picture: np.ndarray) -> Path:
    cv2.imwrite(str(folder / name), picture[:, :, ::-1])
    return folder / name


def reason(enroller: Enroller, file: Path) -> str:
    return enroller._report(file).reason


def test_each_unusable_photo_has_its_reason(enroller: Enroller, photos: Path, tmp_path: Path) -> None:
    good = read_image(photos / "obama.jpg")
    biden = read_image(photos / "biden.jpg")
    small = cv2.resize(good, (110, 137), interpolation=cv2.INTER_AREA)
    pair = np.hstack([cv2.resize(p, (450, 600)) for p in (good, biden)])
    crowd = np.vstack([np.hstack([cv2.resize(good, (200, 250))] * 5)] * 2)
    blurred = cv2.GaussianBlur(good, (0, 0), 14)
    cases = {
        "no_face": save(tmp_path, "grey.png", np.full((300, 300, 3), 90, np.uint8)),
        "several_faces": save(tmp_path, "pair.png", pair),
        "too_small": save(tmp_path, "small.png", small),
        "too_blurred": save(tmp_path, "blurred.png", blurred),
        "too_dark": save(tmp_path, "dark.png", (good * 0.12).astype(np.uint8)),
        "too_bright": save(tmp_path, "bright.png", np.clip(good * 0.5 + 170, 0, 255).astype(np.uint8)),
    }
    assert {name: reason(enroller, file) for name, file in cases.items()} == {name: name for name in cases}
    assert reason(enroller, save(tmp_path, "crowd.png", crowd)) == "several_faces"
    (tmp_path / "cut.jpg").write_bytes((photos / "obama.jpg").read_bytes()[:20_000])
    assert reason(enroller, tmp_path / "cut.jpg") == "unreadable"
    assert reason(enroller, photos / "obama.jpg") == ""


def test_good_photos_are_fused(enroller: Enroller, sface: Backbone, photos: Path) -> None:
    files = [photos / "obama.jpg", photos / "obama2.jpg"]
    enrolment = enroller.enrol(files)
    assert enrolment.accepted == 2
    assert np.linalg.norm(enrolment.template) == pytest.approx(1)
    alone = np.stack([enroller.enrol([f]).template for f in files])
    np.testing.assert_allclose(enrolment.template, fuse_photos(enrolment.used()[0], alone, SEEN), atol=1e-6)


def test_a_sharp_photo_counts_for_more(enroller: Enroller, photos: Path) -> None:
    crops, templates = enroller.enrol([photos / "obama.jpg", photos / "obama2.jpg"]).used()
    np.testing.assert_allclose(fuse_photos(crops[[0, 0]], templates, SEEN), fuse_templates(templates), atol=1e-6)
    blurred = np.stack([cv2.GaussianBlur(crops[0], (0, 0), 3), crops[0]])
    assert templates[1] @ fuse_photos(blurred, templates, SEEN) > templates[1] @ fuse_templates(templates) + 0.01
    flat = np.full_like(crops[[0, 0]], 90)
    np.testing.assert_allclose(fuse_photos(flat, templates, SEEN), fuse_templates(templates), atol=1e-6)


def test_a_stranger_among_the_photos_is_left_out(enroller: Enroller, photos: Path) -> None:
    files = [photos / f"{n}.jpg" for n in ("obama", "biden", "obama2", "obama3")]
    enrolment = enroller.enrol(files)
    assert [p.reason for p in enrolment.photos] == ["", "another_person", "", ""]


def test_two_people_without_a_majority_are_refused(enroller: Enroller, photos: Path) -> None:
    with pytest.raises(FaceError, match="show different people"):
        enroller.enrol([photos / "obama.jpg", photos / "biden.jpg"])


def test_nothing_usable_says_why_for_each(enroller: Enroller, tmp_path: Path) -> None:
    grey = save(tmp_path, "grey.png", np.full((300, 300, 3), 90, np.uint8))
    with pytest.raises(FaceError, match=r"none of 1 photos.*grey\.png: no face found"):
        enroller.enrol([grey])


def report(vector: list[float] | None) -> PhotoReport:
    template = None if vector is None else np.array(vector, np.float32) / np.linalg.norm(vector)
    return PhotoReport("f", "" if vector else "no_face", "", template)


def test_the_majority_decides() -> None:
    same, other = [1.0, 0.0], [0.0, 1.0]
    marked = reject_strangers([report(same), report(other), report(None), report(same)], 0.3)
    assert [p.reason for p in marked] == ["", "another_person", "no_face", ""]
    assert [p.reason for p in reject_strangers([report(same)], 0.3)] == [""]


def test_files_folders_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / "set" / name).touch()
    assert [p.name for p in find_photos(["set"])] == ["a.png", "b.JPG"]
    assert [p.name for p in find_photos(["set/*.png", "set"])] == ["a.png", "b.JPG"]
    assert [p.name for p in find_photos([str(tmp_path / "set" / "*")])] == ["a.png", "b.JPG"]
    (tmp_path / "empty").mkdir()
    for arguments, error in (([], UsageError), (["empty"], InputError), (["x*"], InputError)):
        with pytest.raises(error):
            find_photos(arguments)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_tell_the_two_people_apart(name: str, detector_bytes: bytes, photos: Path) -> None:
    backbone, detector = load_backbone(name, threads=2), FaceDetector(detector_bytes)
    crops = []
    for file in ("obama", "obama3", "biden"):
        picture = read_image(photos / f"{file}.jpg")
        crops.append(align(picture, detector.detect(picture)[0].landmarks))
    templates = backbone.embed(np.stack(crops))
    assert templates.shape == (3, backbone.dim)
    np.testing.assert_allclose(np.linalg.norm(templates, axis=1), 1, atol=1e-5)
    cosines = templates @ templates.T
    assert cosines[0, 1] > 0.5
    assert cosines[0, 2] < 0.3


def test_joined_backbone_is_its_members_side_by_side(tmp_path: Path) -> None:
    both, crops = load_backbone("sface+dlib"), np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    assert (both.name, both.dim, len(both.sha256)) == ("sface+dlib", 256, 2 * 64 + 1)
    parts = [load_backbone(name).embed(crops) for name in ("sface", "dlib")]
    templates = both.embed(crops)
    np.testing.assert_allclose(templates @ templates.T, sum(p @ p.T for p in parts) / 2, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([both.embed_one(crop) for crop in crops]), templates, atol=1e-6)
    (person := tmp_path / "faces" / "ann").mkdir(parents=True)
    files = [save(person, f"{i}.png", crop) for i, crop in enumerate(crops)]
    np.testing.assert_allclose(templates_of(read_faces(tmp_path / "faces"), both, tmp_path), templates, atol=1e-6)
    assert len(list(tmp_path.glob("*.npy"))) == 2  # each member's are cached apart
    with pytest.raises(UsageError, match="more than one file"):
        load_backbone("sface+dlib", files[0])
    with pytest.raises(MissingError, match="not found"):
        load_backbone("sface+dlib", tmp_path)


def test_backbones_refuse_what_is_no_crop(sface: Backbone) -> None:
    for bad in (np.zeros((1, 112, 112, 3), np.float32), np.zeros((1, 64, 64, 3), np.uint8)):
        with pytest.raises(UsageError, match="cannot embed"):
            sface.embed(bad)
    assert sface.embed(np.zeros((0, 112, 112, 3), np.uint8)).shape == (0, 128)
    with pytest.raises(UsageError, match="unknown backbone"):
        load_backbone("arcface")
