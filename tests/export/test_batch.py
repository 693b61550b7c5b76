"""Many people at once: the same bytes as one by one, resumable to the byte, and refused before anything is written."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from device.open import open_pipeline
from export.batch import FolderSink
from export.bundle import write_model
from export.manifest import DETECTOR, MANIFEST, open_bundle
from export.quantize import quantise
from export.stencil import Stencil, file_tensors
from models.generator import Generator
from models.spec import DEFAULT_SPEC, mobile_spec
from toolkit.errors import ArtifactError

Toolkit = Callable[..., object]
PEOPLE = 5


@pytest.fixture(scope="module")
def templates() -> np.ndarray:
    rows = np.random.default_rng(5).standard_normal((PEOPLE, Generator().template_dim)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.fixture
def source(templates: np.ndarray, tmp_path: Path) -> Path:
    np.save(tmp_path / "templates.npy", templates)
    return tmp_path / "templates.npy"


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    "spec", [DEFAULT_SPEC, mobile_spec(joined=True), mobile_spec(48, 10, ((9, 2), (33, 2)), 3, 21, half=0)]
)
def test_a_filled_stencil_is_what_the_writer_writes(spec: object, precision: str, kind: str) -> None:
    stencil = Stencil(spec, kind, precision)  # type: ignore[arg-type]
    for seed in (11, 12):
        theta = np.random.default_rng(seed).normal(0, 0.1, spec.params).astype(np.float32)  # type: ignore[attr-defined]
        filled = stencil.fill(file_tensors(spec, theta, precision))  # type: ignore[arg-type]
        assert filled == write_model(spec, theta, kind, precision)  # type: ignore[arg-type]


def test_a_folder_of_bundles_goes_on_where_it_ended(
    toolkit: Toolkit, source: Path, templates: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "names").write_text("\n".join(f"person {i}" for i in range(PEOPLE)))
    command = ("export-batch", source, "--names", tmp_path / "names", "--out", tmp_path / "all", "--json")
    assert toolkit(*command).json["written"] == PEOPLE
    whole = {p.relative_to(tmp_path / "all"): p.read_bytes() for p in (tmp_path / "all").rglob("*") if p.is_file()}
    theta = Generator().weights(templates)[3]
    written = write_model(DEFAULT_SPEC, theta, "tflite", "int8")
    assert whole[Path("person 3.hvb/model.int8.tflite")] == written
    with open_pipeline(open_bundle(tmp_path / "all" / "person 3.hvb"), "litert", "int8") as pipeline:
        assert pipeline.observe(np.full((480, 640, 3), 90, np.uint8)).reason == "no_face"

    benched = toolkit("bench", tmp_path / "all" / "person 3.hvb", "--runs", 20, "--json")
    assert (benched.code, benched.json["counted_from_onnx"]) == (0, None), benched.err  # no fp32 file to count

    gone = tmp_path / "all" / "person 3.hvb"
    gone.rename(tmp_path / "all" / ".person 3.hvb.part")  # as a kill leaves it
    again = toolkit(*command).json
    assert (again["written"], again["kept"]) == (1, PEOPLE - 1)
    found = {p.relative_to(tmp_path / "all"): p.read_bytes() for p in (tmp_path / "all").rglob("*") if p.is_file()}
    assert found == whole
    assert all(p.stat().st_mode & 0o077 == 0 for p in (tmp_path / "all").rglob("*"))


def test_a_tar_file_that_was_cut_is_completed_to_the_same_bytes(toolkit: Toolkit, source: Path, tmp_path: Path) -> None:
    assert toolkit("export-batch", source, "--out", tmp_path / "all.tar").code == 0
    whole = (tmp_path / "all.tar").read_bytes()
    assert (tmp_path / "all.tar").stat().st_mode & 0o077 == 0
    for part in (0.3, 0.55, 0.95):
        (tmp_path / "cut.tar").write_bytes(whole[: int(len(whole) * part)])
        (tmp_path / "cut.tar").chmod(0o644)  # copied back
        done = toolkit("export-batch", source, "--out", tmp_path / "cut.tar", "--json")
        assert 0 < done.json["written"] <= PEOPLE
        assert (tmp_path / "cut.tar").read_bytes() == whole
        assert (tmp_path / "cut.tar").stat().st_mode & 0o077 == 0
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        archive.extractall(tmp_path / "out", filter="data")
        assert {member.mtime for member in archive.getmembers()} == {0}
    bundle = open_bundle(tmp_path / "out" / "000002.hvb")
    assert len(bundle.read(DETECTOR)) > 100_000


@pytest.mark.parametrize("bad", ["nan", "length", "shape", "names", "twice", "path"])
def test_bad_people_are_refused_before_anything_is_written(
    bad: str, toolkit: Toolkit, source: Path, templates: np.ndarray, tmp_path: Path
) -> None:
    rows, names = templates.copy(), [f"p{i}" for i in range(PEOPLE)]
    if bad == "nan":
        rows[2, 5] = np.nan
    elif bad == "length":
        rows[2] *= 2
    elif bad == "shape":
        rows = rows[:, :-1]
    names = {"names": names[:-1], "twice": [*names[:-1], "P0"], "path": [*names[:-1], "../x"]}.get(bad, names)
    np.save(source, rows)
    (tmp_path / "names").write_text("\n".join(names))
    done = toolkit("export-batch", source, "--names", tmp_path / "names", "--out", tmp_path / "all")
    assert done.code == 2, done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert not list(tmp_path.glob("all/*.hvb"))


def test_a_file_that_is_no_archive_of_ours_is_kept(toolkit: Toolkit, source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.tar").write_bytes(b"my own things" * 1000)
    assert toolkit("export-batch", source, "--out", tmp_path / "mine.tar").code == 4
    assert (tmp_path / "mine.tar").read_bytes() == b"my own things" * 1000
    assert toolkit("export-batch", source, "--out", tmp_path / "all").code == 0
    with tarfile.open(tmp_path / "people.tar", "w") as archive:  # of bundles, but packed by somebody
        archive.add(tmp_path / "all" / "000000.hvb", "anna.hvb")
        archive.add(tmp_path / "all" / "000000.hvb" / MANIFEST, "notes.txt")
    packed = (tmp_path / "people.tar").read_bytes()
    assert toolkit("export-batch", source, "--out", tmp_path / "people.tar").code == 4
    assert (tmp_path / "people.tar").read_bytes() == packed


def test_a_detector_of_another_version_leaves_the_bundles_that_are_there(tmp_path: Path) -> None:
    for detector, name in ((b"first", "anna"), (b"first", "bert"), (b"second", "cleo")):
        with FolderSink(tmp_path, detector) as sink:
            sink.put(name, {MANIFEST: b"{}"})
    found = {name: (tmp_path / f"{name}.hvb" / DETECTOR) for name in ("anna", "bert", "cleo")}
    assert {name: path.read_bytes() for name, path in found.items()} == {
        "anna": b"first", "bert": b"first", "cleo": b"second",
    }  # fmt: skip
    assert found["anna"].stat().st_ino == found["bert"].stat().st_ino, "stored once"


SMALL_BIAS = mobile_spec(64, 8, ((16, 2), (16, 1), (24, 2), (24, 1), (24, 1)), 3, 64, half=0)


def test_a_tensor_of_few_bytes_is_found_though_they_stand_elsewhere_too() -> None:
    theta = np.random.default_rng(3).normal(0, 0.05, SMALL_BIAS.params).astype(np.float32)
    for kind, precision in (("onnx", "int8"), ("tflite", "int8"), ("onnx", "fp32"), ("tflite", "fp32")):
        filled = Stencil(SMALL_BIAS, kind, precision).fill(file_tensors(SMALL_BIAS, theta, precision))
        assert filled == write_model(SMALL_BIAS, theta, kind, precision)


def test_json_and_a_stream_do_not_share_stdout(toolkit: Toolkit, source: Path, tmp_path: Path) -> None:
    done = toolkit("export-batch", source, "--out", "-", "--json")
    assert done.code == 2
    assert "both want stdout" in json.loads(done.out)["error"]["message"]


def test_too_large_weights_are_refused_by_every_int8_writer(theta: np.ndarray) -> None:
    large = theta.copy()
    large[DEFAULT_SPEC.slots["block2.expand.weight"].offset] = 50.0
    for kind in ("onnx", "tflite", "c"):
        with pytest.raises(ArtifactError, match=r"block2\.expand are too large"):
            write_model(DEFAULT_SPEC, large, kind, "int8")
    with pytest.raises(ArtifactError, match=r"block2\.expand"):
        quantise(DEFAULT_SPEC, large)
