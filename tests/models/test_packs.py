"""InsightFace's packs, written here in their own formats, and everything that must be refused."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests_support import labelled, record

from benchmarks.protocols import pairs_of_pack, read_pairs
from models.facedata import read_faces
from models.faceset import FaceSet
from models.packs import RECORD_MAGIC, read_bin, read_rec
from models.spec import Framing
from toolkit.errors import InputError


def jpeg(level: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((112, 112, 3), level, np.uint8))[1])


IMAGES = [jpeg(level) for level in (10, 20, 200, 210)]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_bin_packs_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps((IMAGES, [True, False]), protocol))
    assert read_bin(path) == (IMAGES, [True, False])
    faces, pairs = read_faces(path), pairs_of_pack(path)
    assert faces.crops(Framing(64)).shape == (4, 64, 64, 3)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 2], [1, 3])
    assert (pairs.same.tolist(), pairs.fold.tolist()) == ([True, False], [0, 1])


def python_2_pack(images: list[bytes], same: list[bool]) -> bytes:
    """Protocol 2 as Python 2 wrote it: byte strings as BINSTRING, every object kept with BINPUT."""
    strings = b"".join(b"T" + struct.pack("<i", len(image)) + image + b"q\x02" for image in images)
    truths = b"".join(b"\x88" if s else b"\x89" for s in same)
    return b"\x80\x02]q\x00(" + strings + b"e]q\x01(" + truths + b"e\x86q\x03."


def test_packs_that_python_2_wrote(tmp_path: Path) -> None:
    path = tmp_path / "agedb.bin"
    path.write_bytes(python_2_pack(IMAGES, [False, True]))
    assert pickle.loads(path.read_bytes(), encoding="bytes") == (IMAGES, [False, True])
    assert read_bin(path) == (IMAGES, [False, True])


class Malicious:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/hyperverify-was-here",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.bin", Path("/tmp/hyperverify-was-here")
    mark.unlink(missing_ok=True)
    path.write_bytes(pickle.dumps((IMAGES, [True, Malicious()]), protocol))
    with pytest.raises(InputError, match="more than images and booleans"):
        read_bin(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((IMAGES, [True]), "does not pair"),
        (([], []), "does not pair"),
        ((IMAGES, [b"x", b"y"]), "not a face pack"),
        (([True] * 4, [True] * 2), "not a face pack"),
        (IMAGES, "not a face pack"),
        (({}, [True]), "more than images"),
        ((np.zeros(3), [True]), "more than images"),
        ((IMAGES, [1, 0]), "more than images"),
    ],
)
def test_other_pickles_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=message):
        read_bin(tmp_path / "x.bin")


GOOD = pickle.dumps(([b"abc", b"de"] * 3, [True, False, True]))
fuzz = settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzz
@given(data=st.data())
def test_damaged_bin_packs_never_crash(data: st.DataObject, tmp_path: Path) -> None:
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(GOOD) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "x.bin").write_bytes(damaged[: data.draw(st.integers(0, len(GOOD)))])
    try:
        images, same = read_bin(tmp_path / "x.bin")
    except InputError:
        return
    assert len(images) == 2 * len(same)


@fuzz
@given(junk=st.binary(max_size=100))
@example(junk=b"i\\\x00\n")  # of whose escape pickletools warns
def test_junk_packs_never_crash(junk: bytes, tmp_path: Path) -> None:
    for suffix, read in ((".bin", read_bin), (".rec", read_rec)):
        (tmp_path / f"x{suffix}").write_bytes(junk)
        with pytest.raises(InputError):
            list(read(tmp_path / f"x{suffix}"))


def test_recordio_in_whole_and_in_parts(tmp_path: Path) -> None:
    magic = struct.pack("<I", RECORD_MAGIC)
    whole = labelled(IMAGES[1] + magic + b"tail", 8.0)
    head, tail = whole.split(magic)
    content = (
        record(labelled(b"", 5.0, 6.0))  # InsightFace's first record: no image
        + record(labelled(IMAGES[0], 7.0))
        + record(head, 1)
        + record(tail, 3)
        + record(labelled(IMAGES[2], 9.0, 0.0))
    )
    (tmp_path / "train.rec").write_bytes(content)
    images = [IMAGES[0], IMAGES[1] + magic + b"tail", IMAGES[2]]
    assert list(read_rec(tmp_path / "train.rec")) == list(zip(images, "789", strict=True))
    faces = read_faces(tmp_path / "train.rec")
    assert faces.identities == ["7", "8", "9"]


@fuzz
@given(data=st.data())
def test_damaged_recordio_never_crashes(data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(record(labelled(b"abcde", 1.0)) + record(labelled(b"xyz", 2.0, 3.0)))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    (tmp_path / "x.rec").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        records = list(read_rec(tmp_path / "x.rec"))
    except InputError:
        return
    assert all(image and int(label) == float(label) for image, label in records)


def some_faces() -> FaceSet:
    names, identity = ("1.jpg", "2.jpg", "1.jpg", "solo.jpg"), np.array([0, 0, 1, 1])
    return FaceSet(np.empty(4), np.empty((4, 1)), identity, names, ("ann", "bo"))


def test_path_lists(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("ann/1.jpg ann/2.jpg 1\nann/1.jpg,solo.jpg,0\n")
    pairs = read_pairs(tmp_path / "p.txt", some_faces())
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist()) == ([0, 0], [1, 3], [True, False])
    for text, message in (
        ("ann/1.jpg ann/2.jpg 1\nann/1.jpg 0\n", "line 2 is not a pair"),
        ("1.jpg ann/2.jpg 1\n", "more than one photo 1.jpg"),
        ("cy/1.jpg ann/2.jpg 1\n", "no photo cy/1.jpg"),
    ):
        (tmp_path / "p.txt").write_text(text)
        with pytest.raises(InputError, match=message):
            read_pairs(tmp_path / "p.txt", some_faces())


def test_lfw_as_parquet_pack_and_folder_agree(data: Path, toolkit: Callable[..., Any], tmp_path: Path) -> None:
    """The same pairs of real faces in three formats give the same scores."""
    lines = (data / "lfw" / "pairsDevTest.txt").read_text().splitlines()
    half = int(lines[0])
    chosen = [line.split("\t") for line in (*lines[1:13], *lines[1 + half : 13 + half])]
    couples = [
        (f"{w[0]}_{int(w[1]):04d}.jpg", f"{w[-2] if len(w) == 4 else w[0]}_{int(w[-1]):04d}.jpg") for w in chosen
    ]
    table = pq.read_table(data / "lfw" / "view1.parquet")
    photo = dict(zip(table["file"].to_pylist(), table["image"].to_pylist(), strict=True))
    same = [len(w) == 3 for w in chosen]
    (tmp_path / "x.bin").write_bytes(pickle.dumps(([photo[name] for couple in couples for name in couple], same)))
    for name in {name for couple in couples for name in couple}:
        (tmp_path / "set" / name[:-9]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name[:-9] / name).write_bytes(photo[name])
    listed = "".join(f"{a} {b} {int(s)}\n" for (a, b), s in zip(couples, same, strict=True))
    (tmp_path / "list.txt").write_text(listed)
    pack = toolkit("eval", "pairs", "--faces", "x.bin", "--precision", "int8", "--json")
    folder = toolkit("eval", "pairs", "--faces", "set", "--pairs", "list.txt", "--precision", "int8", "--json")
    assert pack.code == folder.code == 0, pack.err + folder.err
    for side in ("one_sided", "both_sides"):
        assert pack.json[side]["curves"]["histogram"] == folder.json[side]["curves"]["histogram"]
        assert pack.json[side]["accuracy"] == folder.json[side]["accuracy"]
    assert toolkit("eval", "pairs", "--faces", "x.bin", "--pairs", "list.txt").code == 2
    assert toolkit("eval", "pairs", "--faces", "set").code == 2
