"""Pair lists, face files and the household protocol."""

from __future__ import annotations

import contextlib
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.comparisons import Comparisons
from benchmarks.enrolling import Generated, each_alone
from benchmarks.household import enrolment_sets, household_trials, operating_points, summarise
from benchmarks.protocols import Pairs, read_pairs
from benchmarks.scoring import FileScorer
from export.bundle import write_model
from export.stencil import Stencil, file_tensors
from models.facedata import read_faces, templates_of
from models.faceset import FaceSet, load_faces
from models.generator import Generator
from models.spec import Framing
from toolkit.errors import HyperverifyError, InputError

PHOTOS = tuple(f"{name}_{i:04d}.jpg" for name in ("Ann_Lee", "Bo") for i in (1, 2, 3))


def lfw_pairs(path: Path) -> Pairs:
    count = len(PHOTOS)
    return read_pairs(path, FaceSet(np.empty(count), np.empty((count, 1)), np.full(count, -1), PHOTOS, ()))


def pair_file(folder: Path, text: str) -> Path:
    (folder / "pairs.txt").write_text(text)
    return folder / "pairs.txt"


def test_lfw_lists_with_and_without_folds(tmp_path: Path) -> None:
    text = "2\t1\nAnn_Lee\t1\t2\nAnn_Lee\t1\tBo\t3\nBo\t1\t3\nBo\t2\tAnn_Lee\t3\n"
    pairs = lfw_pairs(pair_file(tmp_path, text))
    assert pairs.first.tolist() == [0, 0, 3, 4]
    assert pairs.second.tolist() == [1, 5, 5, 2]
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.fold.tolist() == [0, 0, 1, 1]
    assert lfw_pairs(pair_file(tmp_path, "1\nBo 1 2\nBo 1 Ann_Lee 3\n")).fold.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 is not a header"),
        ("x y\n", "line 1 is not a header"),
        ("1\nBo 1 2\n", "another length"),
        ("1\nBo 1\nBo 1 Ann_Lee 3\n", "line 2 is not a pair"),
        ("1\nBo 1 9\nBo 1 Ann_Lee 3\n", "line 2: no photo Bo 9"),
        ("1\nBo 1 2\nBo x Ann_Lee 3\n", "line 3: no photo Bo x"),
    ],
)
def test_wrong_pair_lists_name_the_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        lfw_pairs(pair_file(tmp_path, text))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=80))
def test_junk_pair_lists_never_crash(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "junk.txt").write_bytes(data)
    with pytest.raises(InputError):
        lfw_pairs(tmp_path / "junk.txt")


def webp(level: int, side: int = 112) -> bytes:
    return bytes(cv2.imencode(".webp", np.full((side, side, 3), level, np.uint8))[1])


def parquet(folder: Path, **columns: list[object]) -> Path:
    path = folder / "faces.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_and_folders_give_the_same_faces(tmp_path: Path) -> None:
    images, people = [webp(30), webp(90), webp(200)], ["a", "a", "b"]
    path = parquet(tmp_path, image=images, identity=people, file=["0", "1", "0"])
    for person, number, data in zip(people, "010", images, strict=True):
        (tmp_path / "set" / person).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / person / f"{number}.webp").write_bytes(data)
    a, b = read_faces(path), read_faces(tmp_path / "set")
    assert a.identities == b.identities
    assert np.array_equal(a.crops(), b.crops())
    assert a.crops(Framing(64)).shape == (3, 64, 64, 3)


def test_face_files_that_cannot_be_used_say_so(tmp_path: Path) -> None:
    (tmp_path / "junk.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(InputError, match="not a readable Parquet"):
        read_faces(tmp_path / "junk.parquet")
    with pytest.raises(InputError, match="lacks the column identity"):
        read_faces(parquet(tmp_path, image=[b""]))
    with pytest.raises(InputError, match="not an aligned crop"):
        read_faces(parquet(tmp_path, image=[webp(3, side=80)], identity=["a"])).crops()
    with pytest.raises(InputError, match="row 0 is not a readable image"):
        read_faces(parquet(tmp_path, image=[b"junk"], identity=["a"])).crops()
    with pytest.raises(InputError, match="no such file"):
        read_faces(tmp_path / "nowhere.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no identity/photo files"):
        read_faces(tmp_path / "empty")


WHOLE = {
    "parquet": lambda path: pq.write_table(pa.table({"image": [webp(30)], "identity": ["a"]}), path),
    "jpg": lambda path: path.write_bytes(bytes(cv2.imencode(".jpg", np.full((112, 112, 3), 9, np.uint8))[1])),
    "webp": lambda path: path.write_bytes(webp(9)),
    "png": lambda path: path.write_bytes(bytes(cv2.imencode(".png", np.full((112, 112, 3), 9, np.uint8))[1])),
}


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_read_or_refused_and_nothing_else(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    """Bytes changed, and the end cut off, anywhere."""
    (folder := tmp_path / "set" / "person").mkdir(parents=True, exist_ok=True)
    path = tmp_path / "faces.parquet" if kind == "parquet" else folder / f"photo.{kind}"
    WHOLE[kind](path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(InputError):
        assert read_faces(path if kind == "parquet" else tmp_path / "set").crops().shape[1:] == (112, 112, 3)


class CountingBackbone:
    """Embeds a crop as its mean colour; counts how often it is asked."""

    name, dim, sha256 = "counting", 3, "0" * 64

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, crops: np.ndarray) -> np.ndarray:
        self.calls += 1
        return crops.mean((1, 2)).astype(np.float32)

    def embed_one(self, crop: np.ndarray) -> np.ndarray:
        return self.embed(crop[None])


def test_templates_are_computed_once_and_kept_private(tmp_path: Path) -> None:
    faces = read_faces(parquet(tmp_path, image=[webp(30), webp(90)], identity=["a", "b"]))
    backbone, cache = CountingBackbone(), tmp_path / "kept"
    first = templates_of(faces, backbone, cache)
    assert np.array_equal(first, templates_of(faces, backbone, cache))
    assert backbone.calls == 1
    assert {p.stat().st_mode & 0o777 for p in cache.iterdir()} == {0o600}


def test_splits_are_told_apart(tmp_path: Path) -> None:
    path = parquet(
        tmp_path, image=[webp(i) for i in (10, 90, 200)], identity=["a", "b", ""], split=["val", "train", ""]
    )
    backbone = CountingBackbone()
    assert load_faces([path], "train", Framing(64), backbone).identity.tolist() == [0, -1]
    assert load_faces([path], "val", Framing(64), backbone).people == ("a",)
    assert len(load_faces([path], "", Framing(64), backbone)) == 3
    with pytest.raises(InputError, match="no face of split test"):
        load_faces([path], "test", Framing(64), backbone)


def test_enrolment_sets_are_disjoint_and_leave_a_probe() -> None:
    identity = np.array([0, 0, 0, 1, 1, -1, 2])
    sets = [(person, rows.tolist()) for person, rows in enrolment_sets(identity, 1, repeats=2)]
    assert sets == [(0, [0]), (0, [1]), (1, [3]), (1, [4])]
    assert [(p, r.tolist()) for p, r in enrolment_sets(identity, 2, repeats=5)] == [(0, [0, 1])]


def test_household_counts_every_pair_once(noise_faces: np.ndarray) -> None:
    templates = np.random.default_rng(0).standard_normal((8, Generator().template_dim)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    identity = np.array([0, 0, 0, 1, 1, 2, -1, 1])
    faces = FaceSet(noise_faces, templates, identity, tuple("abcdefgh"), ("x", "y", "z"))
    h = Generator()
    trials = household_trials(faces, Generated(h), FileScorer(h.info.spec, "int8"), photos=1)
    assert trials.verifiers == 2
    assert len(trials.genuine) == 2 + 2
    assert len(trials.impostor) == 4 + 4
    summary = summarise(trials, h.info.points_for(1)[1])
    assert summary["people"] == 2
    assert set(summary["at_shipped_threshold"]) == {"fmr1e-2", "fmr1e-3", "fmr1e-4"}
    assert operating_points(trials) == {}, "eight impostor pairs can state no rate of one in a hundred"
    with pytest.raises(HyperverifyError, match="two people with more than 3"):
        household_trials(faces, Generated(h), FileScorer(h.info.spec, "int8"), photos=3)


def test_people_enrolled_in_blocks_get_the_weights_and_files_of_their_own(noise_faces: np.ndarray) -> None:
    h = Generator()
    templates = np.random.default_rng(1).standard_normal((8, h.template_dim)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    faces = FaceSet(noise_faces, templates, np.arange(8), tuple("abcdefgh"), tuple("abcdefgh"))
    alone = list(each_alone(Generated(h), faces, [5, 0, 7]))
    assert [row for row, _ in alone] == [5, 0, 7]
    stencil = Stencil(h.info.spec, "tflite", "int8")
    for row, theta in [*alone, *alone]:
        np.testing.assert_allclose(theta, Generated(h)(noise_faces[[row]], templates[[row]]), atol=1e-5)
        written = write_model(h.info.spec, theta, "tflite", "int8")
        assert stencil.fill(file_tensors(h.info.spec, theta, "int8")) == written


def test_operating_points_say_what_they_were_set_on() -> None:
    impostor = np.arange(200) / 200
    enrolled = np.r_[0, 1, np.repeat([0, 1], 100)]
    shown = np.r_[0, 1, np.repeat([1, 0], 100)]
    trials = Comparisons(np.r_[0.2, 0.999, impostor], enrolled, enrolled, shown, np.arange(202))
    points = operating_points(trials)
    assert list(points) == ["fmr1e-2"]
    point = points["fmr1e-2"]
    assert impostor[-3] < point.threshold <= impostor[-2]
    assert (point.fmr, point.fnmr, point.impostor_pairs, point.genuine_pairs, point.identities) == (
        0.01,
        0.5,
        200,
        2,
        2,
    )
