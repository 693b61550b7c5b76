"""The verifier in whichever runtime the device has, behind one interface: ONNX Runtime, LiteRT, tflite-runtime or C."""

from __future__ import annotations

import importlib
import importlib.util
import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np

from device.c_runtime import CompiledVerifier, check_source, compiler
from device.onnx_session import onnx_session
from export.manifest import MODELS, Bundle
from toolkit.errors import ArtifactError, HyperverifyError, MissingError, UsageError


class Runtime(NamedTuple):
    module: str  # imported when used; C has none
    kind: str  # of the model file
    package: str
    remedy: str  # for a machine that lacks it


# In order of preference: the first that is installed is used for "auto", but never C: compiling takes seconds.
RUNTIMES = {
    "litert": Runtime("ai_edge_litert.interpreter", "tflite", "ai-edge-litert", "pip install 'hyperverify[litert]'"),
    "onnxruntime": Runtime("onnxruntime", "onnx", "onnxruntime", "pip install 'hyperverify[onnxruntime]'"),
    "tflite-runtime": Runtime(
        "tflite_runtime.interpreter", "tflite", "tflite-runtime", "pip install 'hyperverify[tflite]'"
    ),
    "c": Runtime("", "c", "a C compiler", "sudo apt install gcc"),
}
PRECISIONS = ("int8", "fp32")


class Verifier(AbstractContextManager["Verifier"]):
    """One person's verifier, loaded. Use as a context manager; `score` is not thread-safe.

    `remark`: what its user should know of how the runtime works here, or nothing.
    """

    remark = ""

    def __init__(self, runtime: str, precision: str):
        self.runtime, self.precision = runtime, precision

    @abstractmethod
    def score(self, pixels: np.ndarray) -> float:
        """Score of one face, uint8 RGB [H, W, 3] at the spec's size. int8 files give steps of 1/128."""

    def __exit__(self, *_: object) -> None:
        """Nothing to release by default."""


class FileVerifier(Verifier):
    """A model file in somebody's runtime: it takes the spec's value range and gives the file's own type."""

    def score(self, pixels: np.ndarray) -> float:
        if self.precision == "int8":
            return self._run((pixels.astype(np.int16) - 128).astype(np.int8)[None]) / 128.0
        return self._run(((pixels.astype(np.float32) - 128.0) / 128.0)[None])

    @abstractmethod
    def _run(self, x: np.ndarray) -> float:
        """x [1, H, W, 3] in the file's own type to the raw output."""


class OnnxVerifier(FileVerifier):
    def __init__(self, model: bytes, precision: str, threads: int):
        super().__init__("onnxruntime", precision)
        self._session = onnx_session(model, threads)

    def _run(self, x: np.ndarray) -> float:
        image = np.ascontiguousarray(x.transpose(0, 3, 1, 2))  # the file is NCHW
        return float(self._session.run(None, {"image": image})[0][0, 0])


class TfliteVerifier(FileVerifier):
    """LiteRT and tflite-runtime share one interface, under two package names."""

    def __init__(self, name: str, model: bytes, precision: str, threads: int):
        super().__init__(name, precision)
        module = importlib.import_module(RUNTIMES[name].module)
        with quiet_stderr():
            self._interpreter: Any = module.Interpreter(model_content=model, num_threads=threads)
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        # There is no public way to ask. On ARM, XNNPACK is left out where the processor cannot be looked up.
        plan = self._interpreter._get_ops_details()
        if name == "litert" and all(operator["op_name"] != "DELEGATE" for operator in plan):
            self.remark = (
                "LiteRT works without XNNPACK: slower, and scores are often a step or two off those that thresholds "
                "were set for; let it read /proc/cpuinfo and /sys/devices/system/cpu"
            )

    def _run(self, x: np.ndarray) -> float:
        self._interpreter.set_tensor(self._input, x)
        self._interpreter.invoke()
        return float(self._interpreter.get_tensor(self._output)[0, 0])

    def __exit__(self, *_: object) -> None:
        self._interpreter = None


class CVerifier(Verifier):
    """The int8 C file, compiled on the spot: no runtime at all."""

    def __init__(self, model: bytes):
        super().__init__("c", "int8")
        self._compiled = CompiledVerifier(model)

    def score(self, pixels: np.ndarray) -> float:
        return self._compiled.score(pixels) / 128.0


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """TFLite's C++ part announces its delegate on file descriptor 2, and has no switch for it; errors are raised."""
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(null)
        os.close(saved)


def installed_runtimes() -> list[str]:
    """Names of the runtimes whose package, or compiler, is there; without importing any."""
    return [
        name
        for name, runtime in RUNTIMES.items()
        if (importlib.util.find_spec(runtime.module.split(".")[0]) if runtime.module else compiler())
    ]


def choose_runtime(name: str) -> str:
    """A runtime that is installed. Raises UsageError (unknown name) or MissingError."""
    if name != "auto" and name not in RUNTIMES:
        raise UsageError("unknown runtime", got=name, expected=", ".join(("auto", *RUNTIMES)))
    present = installed_runtimes()
    packages = [runtime for runtime in present if RUNTIMES[runtime].module]
    if name == "auto" and packages:
        return packages[0]
    if name not in present:
        wanted = name if name != "auto" else "litert"
        missing = RUNTIMES[wanted]
        raise MissingError(f"the runtime {missing.package} is not installed", do=f"run `{missing.remedy}`")
    return name


def precisions(runtime: str) -> list[str]:
    """Those that bundles have a file of, for this runtime."""
    return [precision for precision in PRECISIONS if (RUNTIMES[runtime].kind, precision) in MODELS]


def check_precision(runtime: str, precision: str) -> None:
    """Raises UsageError."""
    if precision not in PRECISIONS:
        raise UsageError("unknown precision", got=precision, expected=" or ".join(PRECISIONS))
    if precision not in (possible := precisions(runtime)):
        raise UsageError(f"the runtime {runtime} has no such precision", got=precision, expected=" or ".join(possible))


def load_verifier(name: str, model: bytes, precision: str, threads: int = 1) -> Verifier:
    """A verifier from the bytes of a file of the runtime's own format. Raises ArtifactError if it does not load."""
    check_precision(name, precision)
    try:
        if name == "onnxruntime":
            return OnnxVerifier(model, precision, threads)
        if name == "c":
            return CVerifier(model)
        return TfliteVerifier(name, model, precision, threads)
    except (ImportError, MemoryError, HyperverifyError):
        raise
    except Exception as error:  # each runtime has exceptions of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ArtifactError(f"{name} cannot load this model", got=reason, do="enrol the person again") from error


def open_verifier(bundle: Bundle, runtime: str = "auto", precision: str = "int8", threads: int = 1) -> Verifier:
    """The bundle's verifier in a runtime. Raises UsageError, MissingError, ArtifactError."""
    name = choose_runtime(runtime)
    check_precision(name, precision)
    data = bundle.read(MODELS[RUNTIMES[name].kind, precision])
    if name == "c":
        check_source(bundle.spec, data)
    return load_verifier(name, data, precision, threads)
