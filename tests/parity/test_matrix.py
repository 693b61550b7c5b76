"""`toolkit parity`: the matrix of a real bundle over real crops, and its gate."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.difference import Difference, difference
from benchmarks.layers import trace_of
from benchmarks.pictures import made_up
from device.runtimes import installed_runtimes
from export.bundle import write_model
from models.spec import DEFAULT_SPEC, VerifierSpec, mobile_spec

Toolkit = Callable[..., object]


def test_every_form_is_within_its_tolerance_on_real_crops(toolkit: Toolkit, bundle: Path, data: Path) -> None:
    done = toolkit("parity", bundle, "--faces", data / "lfw" / "view1.parquet", "--json")
    assert done.code == 0, done.out
    result = done.json
    assert (result["schema_version"], result["crops"], result["reference"]) == (1, 500, "torch fp32")
    rows = {row["form"]: row for row in result["matrix"]}
    assert set(rows) == {"integer reference int8"} | {
        f"{name} {precision}" for name in installed_runtimes() for precision in ("fp32", "int8")
    }
    assert rows["c int8"]["max_error"] == 0
    assert all(row["passed"] for row in rows.values())
    assert np.ptp(rows["c fp32"]["range"]) > 0.2, "the verifier tells these faces apart, so equality means something"


def test_layers_show_where_forms_part(toolkit: Toolkit, bundle: Path) -> None:
    # A mean of few pictures says little: a mean tolerance is for as many as the command takes by itself.
    done = toolkit("parity", bundle, "--per-layer", "--json")
    assert done.code == 0, done.out
    assert "made up" in done.err
    by_form: dict[str, list[dict[str, object]]] = {}
    for row in done.json["layers"]:
        by_form.setdefault(row["form"], []).append(row)
    for form, rows in by_form.items():
        assert [row["layer"] for row in rows] == [layer.name for layer in DEFAULT_SPEC.layers], form
    assert all(row["max_error"] == 0 for row in by_form["c int8"])
    assert max(row["max_error"] for row in by_form["c fp32"]) < 1e-4  # type: ignore[type-var]
    assert "decib" not in done.out
    text = toolkit("parity", bundle, "--per-layer").out
    assert "EXCEEDED" not in text
    assert "exact" in text


def test_a_file_of_somebody_else_ends_with_exit_code_5(toolkit: Toolkit, bundle: Path, tmp_path: Path) -> None:
    """Hashes and schema are right; only the numbers tell that the files do not belong together."""
    copy = Path(shutil.copytree(bundle, tmp_path / "copy.hvb"))
    other = np.random.default_rng(1).uniform(-0.5, 0.5, DEFAULT_SPEC.params).astype(np.float32)
    data = write_model(DEFAULT_SPEC, other, "tflite", "int8")
    (copy / "model.int8.tflite").write_bytes(data)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["model.int8.tflite"]["sha256"] = hashlib.sha256(data).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    done = toolkit("parity", copy, "--crops", "20", "--json")
    assert done.code == 5
    assert "exceeded by litert int8" in done.err
    rows = {row["form"]: row["passed"] for row in done.json["matrix"]}
    assert [form for form, passed in rows.items() if not passed] == ["litert int8"]
    assert not done.json["passed"]


def test_too_few_crops_are_refused(toolkit: Toolkit, bundle: Path, photos: Path) -> None:
    done = toolkit("parity", bundle, "--faces", photos.parent, "--crops", "500")
    assert done.code == 4
    assert "too few crops" in done.err


@pytest.mark.parametrize(
    "spec", [DEFAULT_SPEC, mobile_spec(joined=True), mobile_spec(48, 10, ((9, 2), (9, 1), (33, 2)), 3, 21, half=0)]
)
def test_every_layer_of_every_int8_form_is_the_integer_references(spec: VerifierSpec) -> None:
    """Large weights and made-up pictures, so that values lie all over their range.

    The weights are some of those with which no sum falls on a tie, which ONNX Runtime rounds otherwise: one step in one
    layer is many in those after it.
    """
    theta = np.random.default_rng(4).normal(0, 0.4, spec.params).astype(np.float32)
    crop = made_up(1, spec.input_px)[0]
    expected = trace_of("integer reference", "int8", spec, theta)(crop)
    for runtime in installed_runtimes():
        found = trace_of(runtime, "int8", spec, theta)(crop)
        assert list(expected) == [layer.name for layer in spec.layers]
        for name, values in expected.items():
            error = difference(values.ravel(), found[name].ravel())
            assert error.mean < (0.02 if runtime != "c" else 1e-9), (runtime, name, error.summary())


def test_differences_add_up_over_blocks() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=100), rng.normal(size=100)
    whole, parts = difference(a, b), Difference()
    for i in range(0, 100, 7):
        parts.add(a[i : i + 7], b[i : i + 7])
    for key, value in whole.summary().items():
        assert parts.summary()[key] == pytest.approx(value), key
    assert whole.largest == np.abs(a - b).max()
    assert whole.sqnr_db == pytest.approx(10 * np.log10((a**2).mean() / ((a - b) ** 2).mean()))
    assert difference(a, a).sqnr_db is None
