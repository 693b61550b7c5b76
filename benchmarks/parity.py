"""The parity matrix: every form of one person's verifier over the same crops, compared with what it should equal.

fp32 forms are compared with torch (without torch: with the ONNX file), in score units; int8 forms with the integer
reference, in steps of 1/128; the integer reference with fp32, which is what quantisation itself costs. A flip is a crop
that an int8 or fp32 form decides otherwise than the fp32 reference.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.difference import Difference, difference
from benchmarks.layers import real_layers, trace_of
from device.c_runtime import CompiledVerifier
from device.runtimes import installed_runtimes, open_verifier
from export.c_writer import write_c_single
from export.integer import IntegerVerifier
from export.manifest import MODELS, Bundle
from export.onnx_writer import read_theta
from export.tolerances import FP32_ATOL, INT8_MEAN_ERROR, INT8_STEPS
from models.spec import VerifierSpec
from toolkit.progress import track

STEP = 1 / 128
REFERENCE = "integer reference"
LAYER_CROPS = 64  # for the comparison layer by layer, which looks at 100,000 values a crop and form


@dataclass(frozen=True)
class Form:
    """One way to compute the score. `limit`: largest and mean error allowed against what it is compared with."""

    runtime: str
    precision: str
    scores: np.ndarray  # float64 [N]; int8 in units of 1, that is steps divided by 128
    limit: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        return f"{self.runtime} {self.precision}"


def parity(bundle: Bundle, pixels: np.ndarray, threshold: float, per_layer: bool) -> dict[str, Any]:
    """Matrix, and layers if wanted, of uint8 RGB [N, H, W, 3]. Raises ArtifactError, MissingError."""
    spec, theta = bundle.spec, read_theta(bundle.spec, bundle.read(MODELS["onnx", "fp32"]))
    forms = _forms(bundle, theta, pixels)
    real = forms[0].scores
    integer = next(form for form in forms if form.runtime == REFERENCE).scores
    matrix = [_row(form, real, integer, forms[0].name, threshold) for form in forms[1:]]
    result: dict[str, Any] = {
        "reference": forms[0].name,
        "crops": len(pixels),
        "threshold": threshold,
        "accepted_by_reference": int((real >= threshold).sum()),
        "matrix": matrix,
    }
    if per_layer:
        result["layers"] = compare_layers(spec, theta, pixels[:LAYER_CROPS], [(f.runtime, f.precision) for f in forms])
        result["layer_crops"] = min(len(pixels), LAYER_CROPS)
    result["passed"] = all(row["passed"] for row in matrix)
    return result


def _forms(bundle: Bundle, theta: np.ndarray, pixels: np.ndarray) -> list[Form]:
    """The fp32 reference first."""
    spec, forms = bundle.spec, []
    if importlib.util.find_spec("torch"):
        forms.append(Form("torch", "fp32", _torch_scores(spec, theta, pixels)))
    runtimes = sorted(installed_runtimes(), key=lambda name: name != "onnxruntime")
    for runtime in runtimes:
        with open_c_fp32(spec, theta) if runtime == "c" else open_verifier(bundle, runtime, "fp32") as verifier:
            found = _scores(verifier.score, pixels, f"{runtime} fp32")
        forms.append(Form(runtime, "fp32", found, (FP32_ATOL, FP32_ATOL)))
    steps = IntegerVerifier(spec, theta).scores(pixels)
    forms.append(Form(REFERENCE, "int8", steps * STEP, (np.inf, INT8_MEAN_ERROR)))
    for runtime in runtimes:
        with open_verifier(bundle, runtime, "int8") as verifier:
            found = _scores(verifier.score, pixels, f"{runtime} int8")
        forms.append(Form(runtime, "int8", found, INT8_STEPS[runtime]))
    return forms


class open_c_fp32:  # noqa: N801  (a context manager, as open_verifier's result is)
    """Bundles carry C in int8 alone, so the fp32 source is written here."""

    def __init__(self, spec: VerifierSpec, theta: np.ndarray):
        self.score = CompiledVerifier(write_c_single(spec, theta, "fp32"), "fp32").score

    def __enter__(self) -> open_c_fp32:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to release."""


def _scores(score: Callable[[np.ndarray], float], pixels: np.ndarray, label: str) -> np.ndarray:
    return np.array([score(crop) for crop in track(pixels, label, len(pixels))])


def _torch_scores(spec: VerifierSpec, theta: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    import torch

    from models.verifier import to_input, verify_users

    blocks = []
    with torch.no_grad():
        for start in range(0, len(pixels), 100):
            x = to_input(torch.from_numpy(pixels[start : start + 100]).permute(0, 3, 1, 2))
            blocks.append(verify_users(spec, torch.from_numpy(theta)[None], x[None])[0].numpy())
    return np.concatenate(blocks).astype(np.float64)


def _row(form: Form, real: np.ndarray, integer: np.ndarray, name: str, threshold: float) -> dict[str, Any]:
    against_integer = form.precision == "int8" and form.runtime != REFERENCE
    clipped = np.clip(real, -1, 127 * STEP) if form.runtime == REFERENCE else real  # int8 cannot say more than that
    unit = STEP if against_integer else 1.0
    found = difference((integer if against_integer else clipped) / unit, form.scores / unit)
    assert form.limit is not None
    largest, mean = form.limit
    return {
        "form": form.name,
        "compared_with": f"{REFERENCE} int8" if against_integer else name,
        "unit": "steps of 1/128" if against_integer else "score",
        **found.summary(),
        "max_error_allowed": largest if np.isfinite(largest) else None,
        "mean_error_allowed": mean,
        "flips": int(((form.scores >= threshold) != (real >= threshold)).sum()),
        "passed": bool(found.largest <= largest and found.mean <= mean),
    }


def compare_layers(
    spec: VerifierSpec, theta: np.ndarray, pixels: np.ndarray, forms: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    """For each layer and form: fp32 against the first form, int8 in steps against the integer reference, and the
    integer reference in the spec's unit against fp32."""
    first = trace_of(*forms[0], spec, theta)
    integer = trace_of(REFERENCE, "int8", spec, theta)
    others = {form: trace_of(*form, spec, theta) for form in forms[1:] if form[0] != REFERENCE}
    found = {(layer.name, form): Difference() for layer in spec.layers for form in ((REFERENCE, "int8"), *others)}
    for crop in track(pixels, "layers", len(pixels)):
        real, steps = first(crop), integer(crop)
        for name, values in real_layers(spec, steps).items():
            found[name, (REFERENCE, "int8")].add(real[name].ravel().clip(-1, 1), values.ravel())
        for form, trace in others.items():
            for name, values in trace(crop).items():
                expected = steps[name] if form[1] == "int8" else real[name]
                found[name, form].add(expected.ravel(), values.ravel())
    return [{"layer": name, "form": " ".join(form), **d.summary()} for (name, form), d in found.items()]
