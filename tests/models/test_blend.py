"""Faces made of two people's: what they are made of, and what training does with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.blend import A_FILE, blend, blend_files, write_blends
from models.cohort import Cohort
from models.config import parse_config
from models.facedata import cache_folder
from models.facemap import map_faces
from models.faceset import FaceSet
from models.facestream import Face, Split, stream_faces
from models.spec import Framing
from models.splits import held_out_templates
from models.training import Trainer
from tests.models.test_facemap import Colours, parquet
from tests.models.test_training import config, world
from toolkit.errors import InputError, UsageError

# TensorBoard's own import warns about its own use of NumPy and protobuf.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard", "ignore::DeprecationWarning:google")

DULL, RED = 105, 250  # how red training people are, and held-out ones


def squares(count: int, red: int, split: str, seed: int) -> list[Face]:
    """Lossless pictures of four coloured squares, each of a person of their own."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 2, 2, 3), np.uint8)
    pixels[..., 2] = red  # OpenCV's last colour
    images = [bytes(cv2.imencode(".png", p.repeat(56, 0).repeat(56, 1))[1]) for p in pixels]
    return [Face(image, f"{split}{seed}{i}", f"{i}.png", split) for i, image in enumerate(images)]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Dull people to train on, red ones held out, whose photos are there without names as well."""
    monkeypatch.setenv("HYPERVERIFY_CACHE", str(tmp_path / "cache"))
    held_out = squares(60, RED, "val", 2)
    nameless = [replace(face, identity="", split="train") for face in held_out]  # they may show held-out people
    return parquet(tmp_path / "a.parquet", squares(60, DULL, "train", 1) + held_out + nameless)


def made(source: Path, count: int, key: str) -> list[Path]:
    backbone, split = Colours(), Split(0.0)
    write_blends(count, key, [source], held_out_templates([source], backbone, split), backbone, split)
    return blend_files(count, key)


def test_blends_are_made_of_two_training_faces_each(source: Path) -> None:
    (file,) = made(source, 50, "key")
    assert file.stat().st_mode & 0o777 == 0o600, "faces are for their owner"
    faces = list(stream_faces(file))
    assert {(face.identity, face.split) for face in faces} == {("", "train")}
    assert max(face.crop(file)[..., 0].mean() for face in faces) < DULL + 10, "no held-out face is in any"
    assert len({face.image for face in faces}) == 50
    before = file.stat().st_mtime_ns
    assert made(source, 50, "key") == [file]
    assert file.stat().st_mtime_ns == before, "written once"
    file.unlink()
    stale = file.with_name(f".{file.name}.abc")
    stale.write_bytes(b"of a run that was killed")
    made(source, 50, "key")
    assert [face.image for face in stream_faces(file)] == [face.image for face in faces], "always the same"
    assert not stale.exists()


def test_large_numbers_are_several_files_and_more_of_them_keep_the_first(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert A_FILE >= 1000
    monkeypatch.setattr("models.blend.A_FILE", 20)
    files = made(source, 50, "key")
    first, second, third = ([face.image for face in stream_faces(file)] for file in files)
    assert [len(first), len(second), len(third)] == [20, 20, 10]
    assert len({*first, *second, *third}) == 50
    more = made(source, 60, "key")
    assert more[:2] == files[:2]
    assert [face.image for face in stream_faces(more[2])][:10] == third


def test_a_blend_is_both_faces_everywhere_or_joined_at_a_seam() -> None:
    rng = np.random.default_rng(0)
    noise = np.random.default_rng(1).integers(0, 60, (2, 112, 112, 3))
    a, b = (noise + 100).astype(np.uint8)
    kinds = set()
    for _ in range(40):
        found = blend(a, b, rng).astype(float)
        # How much of the second face, whose colours are nearly the first one's, is in the rows around eyes and mouth.
        shares = [np.polyfit((b.astype(float) - a)[rows].ravel(), (found - a)[rows].ravel(), 1)[0]
                  for rows in (slice(30, 45), slice(100, 110))]  # fmt: skip
        mixed = abs(shares[0] - shares[1]) < 0.1
        kinds.add("mixed" if mixed else "upper" if shares[0] > shares[1] else "lower")
        if mixed:
            assert 0.3 < shares[0] < 0.7
        else:
            assert sorted(np.round(shares, 1)) == pytest.approx([0, 1], abs=0.11)
    assert kinds == {"mixed", "upper", "lower"}


def test_the_second_face_takes_the_colours_of_the_first() -> None:
    pattern = np.random.default_rng(0).integers(0, 40, (112, 112, 3))
    dark, light = (np.asarray(pattern + base, np.uint8) for base in (20, 200))
    assert blend(dark, light, np.random.default_rng(3)).mean() == pytest.approx(dark.mean(), abs=3)


def test_a_map_ends_with_the_blends_and_tells_them_from_photos(source: Path) -> None:
    plain = map_faces([source], Framing(32), Colours())
    found = map_faces([source], Framing(32), Colours(), blends=30)
    assert (len(plain.train), plain.train.blends) == (60, 0)
    assert (len(found.train), found.train.blends) == (90, 30)
    assert (found.train.identity[60:] == -1).all()
    np.testing.assert_array_equal(found.held_out.pixels, plain.held_out.pixels)
    for name in ("pixels", "templates", "identity"):
        np.testing.assert_array_equal(getattr(found.train.photos, name), getattr(plain.train, name))
    assert len(map_faces([source], Framing(32), Colours(), blends=20).train) == 80, "a map of its own"
    backbone = Colours()
    for file in (cache_folder() / "blends").glob("*.parquet"):
        file.unlink()  # a map holds what they showed
    map_faces([source], Framing(32), backbone, blends=30)
    assert backbone.seen == 0, "written once"
    assert not list((cache_folder() / "blends").glob("*.parquet"))


def test_strangers_of_training_are_photos(tmp_path: Path) -> None:
    photos = world(40, 2, 1)
    made = world(10, 1, 5)
    together = (np.concatenate([a, b]) for a, b in zip(arrays(photos), arrays(made), strict=True))
    train = FaceSet(*together, (), (), blends=10)  # type: ignore[arg-type]
    trainer = Trainer(config(cohort_targets=True), train, world(8, 4, 2), tmp_path, lambda *_: None)
    assert trainer.cohort is not None
    np.testing.assert_array_equal(trainer.cohort.mean, Cohort.of(photos.templates).mean)
    assert not np.allclose(trainer.cohort.mean, Cohort.of(train.templates).mean)


def arrays(faces: FaceSet) -> tuple[np.ndarray, ...]:
    return faces.pixels, faces.templates, faces.identity


def test_what_cannot_be_blended_is_refused(tmp_path: Path, source: Path) -> None:
    few = parquet(tmp_path / "b.parquet", squares(9, DULL, "train", 3))
    with pytest.raises(InputError, match="too few faces to blend; got 9"):
        made(few, 5, "few")
    one = parquet(tmp_path / "c.parquet", [replace(face, identity="one") for face in squares(40, DULL, "train", 3)])
    with pytest.raises(InputError, match="too few different people to blend"):
        made(one, 5, "one")
    assert not list((tmp_path / "cache" / "blends").glob("*.parquet"))
    with pytest.raises(UsageError, match="blends"):
        parse_config({"faces": ["a.parquet"], "blends": -1}, Path("c.toml"))
