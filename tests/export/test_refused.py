"""What cannot become a model is refused by every writer, naming the layer, before there is any file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.bundle import BundleContent, write_bundle, write_model
from export.manifest import MANIFEST, MODELS
from models.spec import DEFAULT_SPEC, Layer, VerifierSpec
from toolkit.errors import ArtifactError

Toolkit = Callable[..., Any]
FORMS = [*MODELS, ("tflite", "uint8"), ("c", "fp32")]


@pytest.mark.parametrize(("kind", "precision"), FORMS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(value: float, kind: str, precision: str, theta: np.ndarray) -> None:
    wrong = theta.copy()
    wrong[DEFAULT_SPEC.slots["block2.expand.bias"].offset] = value
    with pytest.raises(ArtifactError, match=r"block2\.expand\.bias are not finite"):
        write_model(DEFAULT_SPEC, wrong, kind, precision)


@pytest.mark.parametrize(("kind", "precision"), FORMS)
def test_weights_of_another_length(kind: str, precision: str, theta: np.ndarray) -> None:
    for wrong in (theta[:-1], np.append(theta, theta[:1]), theta[None]):
        with pytest.raises(ArtifactError, match="does not fit the spec"):
            write_model(DEFAULT_SPEC, wrong, kind, precision)


def test_a_layer_of_a_kind_that_nobody_knows() -> None:
    layers = (Layer("stem", "pool", 3, 3), Layer("score", "dense", 3, 1, 8))  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match=r"layer stem \(pool\) does not fit"):
        VerifierSpec(8, layers)


@pytest.mark.parametrize("value", [np.nan, 50.0])
def test_no_part_of_a_bundle_is_left(value: float, theta: np.ndarray, tmp_path: Path) -> None:
    wrong = theta.copy()
    wrong[DEFAULT_SPEC.slots["block2.expand.weight"].offset] = value
    content = BundleContent("anna", DEFAULT_SPEC, wrong, {}, 1, {}, 1, b"", {})
    with pytest.raises(ArtifactError, match=r"block2\.expand"):
        write_bundle(content, tmp_path / "anna.hvb", replace=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format_", ["c", "tflite-uint8"])
def test_a_bundle_of_another_spec_is_not_exported(format_: str, bundle: Path, toolkit: Toolkit, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy.hvb"))
    manifest = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(manifest | {"spec_hash": "0" * len(manifest["spec_hash"])}))
    done = toolkit("export", copy, "--format", format_, "--out", "out")
    assert done.code == ArtifactError.exit_code
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_target_that_cannot_be_written(bundle: Path, toolkit: Toolkit, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for format_ in ("c", "tflite-int8"):
        done = toolkit("export", bundle, "--format", format_, "--out", tmp_path / "file" / "out")
        assert done.code == 2, done.err
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"
