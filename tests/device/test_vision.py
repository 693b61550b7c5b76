"""Reading, detecting, aligning and judging pictures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.alignment import CROP_PX, TEMPLATE, align, shrink, similarity
from device.detector import Face, FaceDetector, _opencv, overlap
from device.image import MAX_PIXELS, decode_image, read_image
from device.open import open_pipeline
from device.quality import QualityLimits, assess, choose_face
from models.spec import DEFAULT_SPEC, WHOLE, Framing, mobile_spec
from toolkit.errors import InputError, UsageError


def encoded(picture: np.ndarray, suffix: str = ".jpg") -> bytes:
    return bytes(cv2.imencode(suffix, picture)[1])


def test_colours_are_rgb_and_exif_turns_the_picture_upright() -> None:
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 2] = 255
    picture = decode_image(encoded(red, ".png"), "red")
    assert picture.shape == (20, 30, 3)
    assert picture[0, 0].tolist() == [255, 0, 0]
    jpeg = encoded(red)
    # An EXIF block of one entry: orientation 6, "turn right to see it upright".
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    exif = b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff
    assert decode_image(jpeg[:2] + exif + jpeg[2:], "turned").shape == (30, 20, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"hello", "not a readable image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 30, "not a readable image"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode_image(data, "photo")


@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_a_truncated_jpeg_is_refused_not_filled_with_grey(share: float, photos: Path) -> None:
    data = (photos / "obama.jpg").read_bytes()
    assert decode_image(data, "whole").shape[2] == 3
    with pytest.raises(InputError, match="cut short"):
        decode_image(data[: int(len(data) * share)], "part")


def test_a_huge_picture_is_refused() -> None:
    data = encoded(np.zeros((6000, 8400, 3), np.uint8))  # 50 megapixels
    with pytest.raises(InputError, match=f"at most {MAX_PIXELS // 1_000_000} megapixels"):
        decode_image(data, "huge")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*nothing\.jpg"):
        read_image(tmp_path / "nothing.jpg")


def test_the_face_is_found_where_it_is(detector_bytes: bytes, photos: Path) -> None:
    picture = read_image(photos / "obama.jpg")
    (face,) = FaceDetector(detector_bytes).detect(picture)
    left, right, nose, mouth_left, mouth_right = face.landmarks
    assert left[0] < nose[0] < right[0]
    assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
    assert face.x < left[0] < face.x + face.width


def test_opencv_and_onnxruntime_find_the_same_landmarks(detector_bytes: bytes, photos: Path) -> None:
    picture = read_image(photos / "biden.jpg")
    detector = FaceDetector(detector_bytes)
    (here,) = detector.detect(picture)
    detector._forward = _opencv(detector_bytes)
    (there,) = detector.detect(picture)
    np.testing.assert_allclose(here.landmarks, there.landmarks, atol=0.01)


def test_two_people_are_two_faces_largest_first(detector_bytes: bytes, photos: Path) -> None:
    a, b = (cv2.resize(read_image(photos / f"{n}.jpg"), (450, 600)) for n in ("obama", "biden"))
    faces = FaceDetector(detector_bytes, (640,)).detect(np.hstack([a, b]))
    assert len(faces) == 2
    assert faces[0].area >= faces[1].area
    assert overlap(*faces) == 0


@given(angle=st.floats(-3, 3), scale=st.floats(0.05, 20), x=st.floats(-500, 500), y=st.floats(-500, 500))
def test_similarity_recovers_any_rotation_scale_and_shift(angle: float, scale: float, x: float, y: float) -> None:
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    truth = np.array([[c, -s, x], [s, c, y]])
    target = TEMPLATE @ truth[:, :2].T + truth[:, 2]
    np.testing.assert_allclose(similarity(TEMPLATE, target), truth, atol=1e-6 * max(1, scale, abs(x), abs(y)))


@pytest.mark.parametrize("zoom", [0.5, 1.0, 3.0, 7.3])
def test_alignment_brings_landmarks_to_the_template(zoom: float) -> None:
    """A picture with coloured dots at the landmarks has them at the template's places afterwards, at any size."""
    landmarks = TEMPLATE * zoom + [60.0, 40.0]
    side = int(220 * zoom + 120)
    yy, xx = np.mgrid[:side, :side]
    picture = np.zeros((side, side, 3), np.uint8)
    for x, y in landmarks:
        dot = 255 * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * (1.5 * zoom) ** 2))
        picture = np.maximum(picture, dot[..., None].astype(np.uint8))
    crop = align(picture, landmarks)
    assert crop.shape == (CROP_PX, CROP_PX, 3)
    for x, y in TEMPLATE:
        yy, xx = np.mgrid[int(y) - 5 : int(y) + 7, int(x) - 5 : int(x) + 7]
        weight = crop[yy, xx, 0].astype(float)
        centre = (weight * xx).sum() / weight.sum(), (weight * yy).sum() / weight.sum()
        assert np.hypot(centre[0] - x, centre[1] - y) < 0.25


def test_shrinking_keeps_the_mean() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    assert abs(shrink(crop, Framing(64)).mean() - crop.mean()) < 0.5
    assert shrink(crop, WHOLE) is crop


def test_a_region_is_the_same_part_of_a_photo_and_of_a_crop(photos: Path, detector_bytes: bytes) -> None:
    picture = read_image(photos / "obama.jpg")
    (face,) = FaceDetector(detector_bytes).detect(picture)
    whole = align(picture, face.landmarks)
    part = Framing(64, 8, 14, 96)
    from_photo, from_crop = align(picture, face.landmarks, part), shrink(whole, part)
    assert from_photo.shape == from_crop.shape == (64, 64, 3)
    apart = np.abs(from_photo.astype(int) - from_crop).mean()
    elsewhere = np.abs(from_photo.astype(int) - shrink(whole, Framing(64, 8, 8, 96))).mean()
    assert apart < 0.6 * elsewhere, "six pixels higher is another part"
    np.testing.assert_array_equal(shrink(whole, Framing(96, 8, 14, 96)), whole[14:110, 8:104])


def test_quality_is_the_same_whatever_part_is_shown(photos: Path, detector_bytes: bytes) -> None:
    picture = read_image(photos / "obama.jpg")
    (face,) = FaceDetector(detector_bytes).detect(picture)
    limits = QualityLimits()
    part = Framing(64, 8, 14, 96)
    found = []
    for framing in (Framing(64), part):
        shown = align(picture, face.landmarks, framing)
        found.append(assess(shown, face, limits, framing))
        blurred = cv2.GaussianBlur(shown, (0, 0), 3 * framing.scale)
        assert assess(blurred, face, limits, framing).reason == "too_blurred"
    assert [quality.reason for quality in found] == ["", ""]
    assert found[1].brightness == pytest.approx(found[0].brightness, rel=0.01)
    covered = align(picture, face.landmarks, part)
    left, right, top, bottom = 23, 42, 45, 61  # the mouth and its surroundings, where a mask is
    covered[top:bottom, left:right] = (240, 240, 250)
    assert assess(covered, face, limits, part).reason == "covered"
    elsewhere = align(picture, face.landmarks, part)
    elsewhere[:12] = 240  # the forehead
    assert assess(elsewhere, face, limits, part).reason == ""


def seen(photos: Path, detector_bytes: bytes, change: object = None) -> str:
    picture = read_image(photos / "obama.jpg")
    (face,) = FaceDetector(detector_bytes).detect(picture)
    crop = align(picture, face.landmarks)
    return assess(change(crop) if callable(change) else crop, face, QualityLimits(), WHOLE).reason


def test_a_good_photo_passes_and_each_fault_has_its_reason(photos: Path, detector_bytes: bytes) -> None:
    assert seen(photos, detector_bytes) == ""
    assert seen(photos, detector_bytes, lambda c: (c * 0.15).astype(np.uint8)) == "too_dark"
    assert seen(photos, detector_bytes, lambda c: np.clip(c * 1.0 + 160, 0, 255).astype(np.uint8)) == "too_bright"
    assert seen(photos, detector_bytes, lambda c: cv2.GaussianBlur(c, (0, 0), 3)) == "too_blurred"


def face_with(landmarks: np.ndarray, width: float = 100.0) -> Face:
    return Face(0, 0, width, width, 0.9, landmarks)


def test_pose_and_size_are_judged_by_the_landmarks(photos: Path, detector_bytes: bytes) -> None:
    crop = align(*((p := read_image(photos / "obama.jpg")), FaceDetector(detector_bytes).detect(p)[0].landmarks))
    limits = QualityLimits()
    turned, nodding = TEMPLATE.copy(), TEMPLATE.copy()
    turned[2, 0] += 20
    nodding[2, 1] = 92
    assert assess(crop, face_with(TEMPLATE), limits, WHOLE).reason == ""
    assert assess(crop, face_with(TEMPLATE * 0.5), limits, WHOLE).reason == "too_small"
    assert assess(crop, face_with(turned), limits, WHOLE).reason == "turned_away"
    assert assess(crop, face_with(nodding), limits, WHOLE).reason == "turned_away"


def test_choosing_a_face() -> None:
    big, small, rival = face_with(TEMPLATE), face_with(TEMPLATE, 30), face_with(TEMPLATE, 80)
    limits = QualityLimits()
    assert choose_face([], limits, alone=True) == (None, "no_face")
    assert choose_face([big, small], limits, alone=True) == (big, "")
    assert choose_face([big, rival], limits, alone=True) == (None, "several_faces")
    assert choose_face([big, rival], limits, alone=False) == (big, "")


def test_users_whose_verifiers_see_other_parts_of_a_face_are_refused_together() -> None:
    bundles = [SimpleNamespace(name=name, spec=spec) for name, spec in
               (("anna", DEFAULT_SPEC), ("ben", mobile_spec(region=(0, 0, 112))))]  # fmt: skip
    with pytest.raises(UsageError, match=r"differently cut faces.*64 px of 112 from 0, 0; 64 px of 96 from 8, 14"), \
            open_pipeline(bundles, "litert", "int8"):  # fmt: skip
        pass
