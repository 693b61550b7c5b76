"""Runtimes: chosen, refused, compiled."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests_support import WHOLE_FACE

from device.c_runtime import check_source, compiler
from device.runtimes import choose_runtime, installed_runtimes, load_verifier
from export.arena import plan_arena
from export.bundle import write_model
from models.spec import DEFAULT_SPEC
from toolkit.errors import ArtifactError, MissingError, UsageError

ROOT = Path(__file__).parents[2]


def test_runtimes_are_chosen_by_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_runtime("auto") == installed_runtimes()[0]
    with pytest.raises(UsageError, match="unknown runtime"):
        choose_runtime("tensorrt")
    monkeypatch.setattr("device.runtimes.installed_runtimes", list)
    with pytest.raises(MissingError, match=r"hyperverify\[litert\]"):
        choose_runtime("auto")


@pytest.mark.parametrize("runtime", installed_runtimes())
def test_a_damaged_model_is_refused(runtime: str) -> None:
    with pytest.raises(ArtifactError, match=r"cannot load this model|not the verifier's C file"):
        load_verifier(runtime, b"junk" * 100, "int8")
    with pytest.raises(UsageError, match="unknown precision"):
        load_verifier(runtime, b"", "int4")


def test_litert_without_xnnpack_is_told(
    theta: np.ndarray, noise_faces: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it works on an ARM processor that it cannot look up. It rounds otherwise; thresholds were set with XNNPACK."""
    from ai_edge_litert import interpreter

    model = write_model(DEFAULT_SPEC, theta, "tflite", "int8")
    with load_verifier("litert", model, "int8") as verifier:
        usual = [verifier.score(face) for face in noise_faces]
        assert verifier.remark == ""
    plain = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    made = functools.partial(interpreter.Interpreter, experimental_op_resolver_type=plain)
    monkeypatch.setattr(interpreter, "Interpreter", made)
    with load_verifier("litert", model, "int8") as verifier:
        assert "/proc/cpuinfo" in verifier.remark
        assert [verifier.score(face) for face in noise_faces] != usual


def test_only_our_own_c_code_is_compiled(theta: np.ndarray) -> None:
    """A bundle may come from anywhere; compiled code runs with the user's rights."""
    own = write_model(DEFAULT_SPEC, theta, "c", "int8")
    arena = b"HV_ARENA_BYTES %d" % plan_arena(DEFAULT_SPEC, 1).size_bytes
    check_source(DEFAULT_SPEC, own)
    check_source(WHOLE_FACE, write_model(WHOLE_FACE, np.full(WHOLE_FACE.params, 0.01, np.float32), "c", "int8"))
    for old, new in (
        (b"    hv_half(", b"    system(0); hv_half("),
        (b"static const int32_t score_bias[] = {", b"static const int32_t score_bias[] = { (int32_t)main,"),
        (b"static const int32_t score_bias[] = {", b"static const int32_t score_bias[] = { 1, "),
        (arena, b"HV_ARENA_BYTES 276"),
        (b"/* One person", b"#include </etc/passwd>\n/* One person"),
    ):
        assert old in own
        with pytest.raises(ArtifactError, match="not what this version writes"):
            check_source(DEFAULT_SPEC, own.replace(old, new))


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
def test_c_leaves_nothing_behind_and_refuses_other_pictures(
    theta: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with load_verifier("c", write_model(DEFAULT_SPEC, theta, "c", "int8"), "int8") as verifier:
        assert not list(tmp_path.iterdir())
        for wrong in (np.zeros((32, 32, 3), np.uint8), np.zeros((64, 64, 3), np.float32)):
            with pytest.raises(UsageError, match="cannot read this"):
                verifier.score(wrong)
    monkeypatch.setenv("CC", "false")
    with pytest.raises(ArtifactError, match=r"cannot compile the verifier.*another --runtime"):
        load_verifier("c", write_model(DEFAULT_SPEC, theta, "c", "int8"), "int8")
    monkeypatch.setenv("CC", "no-such-compiler -O3")
    assert compiler() is None


def test_onnx_runtime_neither_keeps_nor_reports_what_it_runs(theta: np.ndarray, tmp_path: Path) -> None:
    """From 1.29 on it would, hashes of the weights included; it keeps what it sends in the user's cache."""
    pytest.importorskip("onnxruntime")
    (tmp_path / "model.onnx").write_bytes(write_model(DEFAULT_SPEC, theta, "onnx", "int8"))
    code = "from pathlib import Path; from device.runtimes import load_verifier\n"
    code += "load_verifier('onnxruntime', Path('model.onnx').read_bytes(), 'int8')"
    switches = ("CI", "ORT_DISABLE_TELEMETRY", "GITHUB_ACTIONS", "TF_BUILD")  # any of these would hide it
    environment = {name: value for name, value in os.environ.items() if name not in switches}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["model.onnx"]
