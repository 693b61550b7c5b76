"""The C code: clean under strict compilers and sanitisers, bit for bit the integer reference, free of state."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests_support import WHOLE_FACE, describe

from device.c_runtime import CompiledVerifier
from export.arena import plan_arena
from export.c_writer import HEADER, SOURCE, write_c, write_c_single
from export.integer import IntegerVerifier
from export.tolerances import FP32_ATOL
from models.spec import DEFAULT_SPEC, Layer, VerifierSpec, mobile_spec
from models.verifier import to_input, verify_users
from toolkit.errors import ArtifactError

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
PATHS = {"portable": "-DHV_PORTABLE", "this processor": "-march=native"}  # the same, where it has no AVX2 and no NEON
MADE_UP = {"portable": "2000", "this processor": "10000", "AVX2": "10000"}  # random pictures; scalar code is slow
if "avx2" in Path("/proc/cpuinfo").read_text():
    PATHS["AVX2"] = "-mavx2"

# Scores faces from a file, then as many made-up ones as asked for, whose scores must lie in int8.
HARNESS = """
#include <stdio.h>
#include <stdlib.h>
#include "verifier.h"
int main(int argc, char **argv) {
    static uint8_t rgb[HV_INPUT_PX * HV_INPUT_PX * 3];
    void *arena = malloc(HV_ARENA_BYTES);
    long i, more = atol(argv[2]);
    uint32_t state = 1;
    FILE *file = fopen(argv[1], "rb");
    if (argc != 3 || !file || !arena) return 2;
    while (fread(rgb, 1, sizeof rgb, file) == sizeof rgb) printf("%ld\\n", (long)hv_score(rgb, arena));
    for (i = 0; i < more; i++) {
        size_t k;
        int32_t score;
        for (k = 0; k < sizeof rgb; k++) rgb[k] = (uint8_t)((state = state * 1664525u + 1013904223u) >> 24);
        score = hv_score(rgb, arena);
        if (score < -128 || score > 127) return 3;
    }
    fclose(file);
    free(arena);
    return 0;
}
"""


def written(folder: Path, theta: np.ndarray, precision: str = "int8", spec: VerifierSpec = DEFAULT_SPEC) -> Path:
    for name, data in write_c(spec, theta, precision, {"fmr1e-3": 0.1640625}).items():
        (folder / name).write_bytes(data)
    return folder


def built(folder: Path, compiler: str, *flags: str) -> Path:
    command = [compiler, *STRICT, *flags, SOURCE, "-o", "out"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "out"


def sanitised_scores(
    folder: Path, theta: np.ndarray, faces: np.ndarray, path: str, more: str, spec: VerifierSpec = DEFAULT_SPEC
) -> list[int]:
    """Scores of uint8 RGB [N, H, W, 3] under the sanitisers, which then see as many made-up faces as `more` says."""
    written(folder, theta, spec=spec)
    (folder / "main.c").write_text(HARNESS)
    (folder / "faces").write_bytes(faces.tobytes())
    sanitised = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = built(folder, "gcc", "-O1", PATHS[path], *sanitised, "main.c")
    done = subprocess.run([program, "faces", more], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_strict_compilers_have_nothing_to_say(compiler: str, precision: str, theta: np.ndarray, tmp_path: Path) -> None:
    written(tmp_path, theta, precision)
    for optimise in ("-O0", "-O3"):
        for path in PATHS.values():
            assert built(tmp_path, compiler, optimise, path, "-c").stat().st_size > DEFAULT_SPEC.params


@pytest.mark.parametrize("path", PATHS)
def test_sanitisers_find_nothing_and_every_score_is_the_references(
    path: str, theta: np.ndarray, noise_faces: np.ndarray, tmp_path: Path
) -> None:
    extremes = np.stack([np.full_like(noise_faces[0], level) for level in (0, 128, 255)])
    faces = np.concatenate([noise_faces, extremes])
    found = sanitised_scores(tmp_path, theta, faces, path, MADE_UP[path])
    assert found == IntegerVerifier(DEFAULT_SPEC, theta).scores(faces).tolist()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "spec",
    [DEFAULT_SPEC, mobile_spec(joined=True), mobile_spec(64, 10, ((9, 2), (9, 1), (17, 2), (33, 2)), 3, 21, half=0)],
)
def test_sums_at_the_edge_of_their_range(
    spec: VerifierSpec, path: str, noise_faces: np.ndarray, tmp_path: Path
) -> None:
    """Large and tiny weights: the largest biases, the largest and smallest factors, channels of zeros."""
    theta = np.random.default_rng(0).uniform(-31, 31, spec.params).astype(np.float32)
    theta *= 10.0 ** np.random.default_rng(1).integers(-9, 1, len(theta)).astype(np.float32)
    for slot in (s for s in spec.slots.values() if s.name.endswith(".bias")):
        theta[slot.offset] = 1e6
    theta[spec.slots["stem.weight"].offset :][:27] = 0
    found = sanitised_scores(tmp_path, theta, noise_faces, path, "0", spec)
    assert found == IntegerVerifier(spec, theta).scores(noise_faces).tolist()


def test_float_c_equals_torch(theta: np.ndarray, noise_faces: np.ndarray, tmp_path: Path) -> None:
    library = ctypes.CDLL(str(built(written(tmp_path, theta, "fp32"), "gcc", "-O2", "-shared", "-fPIC")))
    library.hv_score.restype = ctypes.c_float
    arena = np.zeros(plan_arena(DEFAULT_SPEC, 4).size_bytes // 4, np.float32)
    found = np.array([library.hv_score(ctypes.c_void_p(f.ctypes.data), ctypes.c_void_p(arena.ctypes.data))
                      for f in noise_faces])  # fmt: skip
    with torch.no_grad():
        x = to_input(torch.from_numpy(noise_faces).permute(0, 3, 1, 2))
        expected = verify_users(DEFAULT_SPEC, torch.from_numpy(theta)[None], x[None])[0].numpy()
    assert np.abs(found - expected).max() <= FP32_ATOL, describe(expected, found)


def test_the_object_has_no_state_and_needs_nothing(theta: np.ndarray, tmp_path: Path) -> None:
    # Position-independent code would have its constant pointers filled in by the loader: data in name only.
    built(written(tmp_path, theta), "gcc", "-Os", "-fno-pic", "-c")
    symbols = subprocess.run(["nm", "out"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    kinds = {line.split()[-2] for line in symbols.splitlines()}
    assert "T" in kinds
    assert not kinds & set("dDbBC"), f"writable data: {symbols}"
    needed = [line.split()[-1] for line in symbols.splitlines() if line.split()[-2] == "U"]
    assert set(needed) <= {"memcpy", "memset"}, "compilers may copy and fill with these; nothing else is allowed"


def test_header_tells_what_a_caller_needs(theta: np.ndarray) -> None:
    files = write_c(DEFAULT_SPEC, theta, "int8", {"fmr1e-3": 0.1640625, "fmr1e-2": 0.0703})
    header = files[HEADER].decode()
    assert "#define HV_THRESHOLD_FMR1E_3 (21)" in header
    assert "#define HV_THRESHOLD_FMR1E_2 (9)" in header, "rounded up: a score below the threshold is never accepted"
    assert DEFAULT_SPEC.hash in header
    assert b'#include "' not in write_c_single(DEFAULT_SPEC, theta)


@pytest.mark.parametrize("region", [(8, 14, 96), (0, 0, 112)])
def test_the_header_says_which_part_of_the_face_is_shown(region: tuple[int, int, int]) -> None:
    spec = mobile_spec(region=region)
    header = write_c(spec, np.zeros(spec.params, np.float32) + 0.01)[HEADER].decode()
    for name, pixels in zip(("LEFT", "TOP", "SIZE"), region, strict=True):
        assert f"#define HV_REGION_{name} {pixels}\n" in header


def test_this_processor_is_tested_in_what_it_does_best(theta: np.ndarray, tmp_path: Path) -> None:
    if "avx512_vnni" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX-512 VNNI")
    subprocess.run(["gcc", "-std=c99", "-O3", "-march=native", "-S", SOURCE, "-o", "out.s"],
                   cwd=written(tmp_path, theta), check=True)  # fmt: skip
    assert (tmp_path / "out.s").read_text().count("vpdpbusd") > 50


def test_arena_never_gives_one_place_to_two_live_buffers() -> None:
    wide = mobile_spec(96, 8, ((8, 1), (8, 1), (16, 2), (16, 1)), 4, 32, half=0)
    for spec in (DEFAULT_SPEC, mobile_spec(joined=True), WHOLE_FACE, wide):
        for width in (1, 4):
            plan = plan_arena(spec, width)
            for a in plan.sizes:
                assert plan.offsets[a] % 16 == 0
                assert plan.offsets[a] + plan.sizes[a] <= plan.size_bytes
                for b in plan.sizes:
                    together = plan.lives[a][0] <= plan.lives[b][1] and plan.lives[b][0] <= plan.lives[a][1]
                    apart = (
                        plan.offsets[a] + plan.sizes[a] <= plan.offsets[b]
                        or plan.offsets[b] + plan.sizes[b] <= plan.offsets[a]
                    )
                    assert a == b or not together or apart, (a, b)


def test_weights_beyond_the_multiplier_are_refused_naming_the_layer(theta: np.ndarray) -> None:
    large = theta.copy()
    large[DEFAULT_SPEC.slots["block2.expand.weight"].offset] = 50.0
    with pytest.raises(ArtifactError, match=r"block2\.expand are too large"):
        write_c(DEFAULT_SPEC, large)


def test_what_c_cannot_do_is_refused() -> None:
    layers = (
        Layer("a", "conv", 3, 4), Layer("b", "conv", 4, 4), Layer("c", "add", 4, 4, activation="leaky", skip="a"),
        Layer("pool", "depthwise", 4, 4, 8), Layer("score", "dense", 4, 1),
    )  # fmt: skip
    spec = VerifierSpec(8, layers)
    for precision, reason in (("int8", "integer code adds linear"), ("fp32", "the C writer knows no leaky addition")):
        with pytest.raises(ArtifactError, match=f"layer c: {reason}"):
            write_c(spec, np.zeros(spec.params, np.float32), precision)


def test_adding_outputs_of_two_scales_is_refused_by_all_integer_code() -> None:
    plain = mobile_spec(48, 9, ((9, 1), (17, 2)), half=0)
    assert all(layer.kind != "add" for layer in plain.layers), "nobody is led to the stem's leaky output"
    end = [layer.name for layer in plain.layers].index("block1.project") + 1
    spec = replace(
        plain, layers=(*plain.layers[:end], Layer("block1.add", "add", 9, 9, skip="stem"), *plain.layers[end:])
    )
    for refuse in (write_c, IntegerVerifier):
        with pytest.raises(ArtifactError, match=r"layer block1\.add: integer code adds linear outputs only"):
            refuse(spec, np.zeros(spec.params, np.float32))


def test_pictures_in_any_memory_order_score_the_same(theta: np.ndarray, noise_faces: np.ndarray) -> None:
    verifier = CompiledVerifier(write_c_single(DEFAULT_SPEC, theta))
    expected = [verifier.score(face) for face in noise_faces]
    assert [verifier.score(np.asfortranarray(face)) for face in noise_faces] == expected
    assert len(set(expected)) > 1
