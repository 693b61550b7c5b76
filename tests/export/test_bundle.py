"""Bundles: private, atomic, identical for identical photos, and refused once anything in them was changed."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device.open import open_pipeline
from export.manifest import FILES, MANIFEST, check_name, open_bundle
from models.spec import DEFAULT_SPEC
from toolkit.errors import ArtifactError, InputError, UsageError


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy.hvb"))


def test_bundle_holds_what_the_manifest_says(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert {p.name for p in bundle.iterdir()} == {MANIFEST, *FILES}
    assert opened.manifest["templates"] == 2
    assert opened.spec == DEFAULT_SPEC
    assert set(opened.manifest["operating_points"]) == {"fmr1e-2", "fmr1e-3", "fmr1e-4"}
    assert all(p["impostor_pairs"] > 10_000 for p in opened.manifest["operating_points"].values())
    for file in FILES:
        assert len(opened.read(file)) == opened.manifest["files"][file]["bytes"]


def test_nobody_else_may_read_a_bundle(bundle: Path) -> None:
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in bundle.iterdir()} == {0o600}


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_byte_is_refused(file: str, copy: Path) -> None:
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / file).write_bytes(data)
    with pytest.raises(ArtifactError, match="was changed"):
        open_bundle(copy).read(file)


def test_a_flipped_byte_stops_verification(copy: Path) -> None:
    data = bytearray((copy / "model.int8.tflite").read_bytes())
    data[-5] ^= 1
    (copy / "model.int8.tflite").write_bytes(data)
    with pytest.raises(ArtifactError), open_pipeline(open_bundle(copy), "litert", "int8"):
        pass


def test_missing_parts_are_named(copy: Path, tmp_path: Path) -> None:
    (copy / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be read"):
        open_bundle(copy).read("model.onnx")
    with pytest.raises(InputError, match="not a bundle"):
        open_bundle(tmp_path)


def test_a_newer_schema_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(manifest | {"schema_version": 2}))
    with pytest.raises(ArtifactError, match="update hyperverify"):
        open_bundle(copy)


def test_a_changed_spec_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["spec"]["layers"][1]["stride"] = 1
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError):
        open_bundle(copy)


def test_a_file_outside_the_bundle_cannot_be_named(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["files"]["../secret"] = manifest["files"]["model.onnx"]
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="do not fit together"):
        open_bundle(copy)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1), junk=st.binary(min_size=1, max_size=12), cut=st.booleans())
def test_damaged_manifests_never_crash(copy: Path, bundle: Path, position: float, junk: bytes, cut: bool) -> None:
    original = (bundle / MANIFEST).read_bytes()
    at = int(position * len(original))
    (copy / MANIFEST).write_bytes(original[:at] + junk + (b"" if cut else original[at + len(junk) :]))
    try:
        opened = open_bundle(copy)
    except ArtifactError:
        return
    assert opened.spec.hash == DEFAULT_SPEC.hash


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(["name", "spec", "files", "operating_points", "spec_hash"]), value=json_values)
def test_wrong_types_never_crash(copy: Path, bundle: Path, key: str, value: object) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(manifest | {key: value}))
    try:
        open_bundle(copy)
    except ArtifactError:
        return
    assert key in ("name", "files"), "only these may hold other valid values"


@pytest.mark.parametrize("name", ["anna", "Anna Maria", "müller-2", "a.b"])
def test_ordinary_names_are_fine(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65, "a\n", "a ", "con\0"])
def test_names_that_are_no_file_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        check_name(name)
