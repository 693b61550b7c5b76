"""The verifier's own C code as a runtime: compiled where it runs, with whatever the processor has.

A bundle is data, so its `model.c` is compiled only if it is, up to its numbers, what this version writes for its spec.
Source, object files and library live in a private temporary folder that is gone once the library is loaded: the weights
are a biometric template.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from models.spec import VerifierSpec
from toolkit.errors import ArtifactError, MissingError, UsageError

FLAGS = ("-std=c99", "-O3", "-shared", "-fPIC")
COMPILE_TIMEOUT_S = 300  # three seconds of work, on a machine that may be busy or a Raspberry Pi Zero
ELSEWHERE = "use another --runtime, another compiler (CC), or a TMPDIR that may hold programs"

_ARRAY = re.compile(rb"(static const \w+ \w+\[\] = )\{([\s\d,-]*)\};")


def compiler() -> list[str] | None:
    """The command that `CC` names, else cc, gcc or clang on the path."""
    wanted = [shlex.split(os.environ["CC"])] if os.environ.get("CC") else [["cc"], ["gcc"], ["clang"]]
    return next((command for command in wanted if shutil.which(command[0])), None)


def check_source(spec: VerifierSpec, source: bytes) -> None:
    """Raises ArtifactError for anything but this version's code with other numbers: it would run here."""
    from export.c_writer import write_c_single

    own = write_c_single(spec, np.zeros(spec.params, np.float32))
    if _skeleton(source) != _skeleton(own):
        raise ArtifactError("model.c is not what this version writes", do="enrol again, or use another --runtime")


def _skeleton(source: bytes) -> bytes:
    """The code with the number of each array's numbers in place of them."""
    return _ARRAY.sub(lambda match: match[1] + b"%d" % match[2].count(b","), source)


# Collects the layers' outputs one after another, from the address that the caller names.
_TRACE = b"""#include <string.h>
static unsigned char *hv_trace_to;
#define HV_LAYER(values, count) memcpy(hv_trace_to, values, (count) * sizeof *(values)); \\
    hv_trace_to += (count) * sizeof *(values);
void hv_trace(void *to) { hv_trace_to = to; }
"""


class CompiledVerifier:
    """`hv_score` of one person's C file. Raises MissingError (no compiler) or ArtifactError (does not compile)."""

    def __init__(self, source: bytes, precision: str = "int8", flags: tuple[str, ...] = ()):
        arena_bytes, self._side = _defined(source, b"HV_ARENA_BYTES"), _defined(source, b"HV_INPUT_PX")
        self._score = load_library(source, flags).hv_score
        self._score.restype = ctypes.c_int32 if precision == "int8" else ctypes.c_float
        self._score.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
        self._arena = ctypes.create_string_buffer(arena_bytes)

    def score(self, pixels: np.ndarray) -> float:
        """uint8 RGB [H, W, 3] to steps of 1/128, or to fp32's own unit. Raises UsageError for another type or size."""
        expected = (self._side, self._side, 3)
        if pixels.dtype != np.uint8 or pixels.shape != expected:
            raise UsageError("the verifier cannot read this", got=f"{pixels.dtype} {pixels.shape}", expected=expected)
        return float(self._score(pixels.tobytes(), self._arena))  # quicker than to ask NumPy for the address


class TracedVerifier:
    """The same, keeping every layer's output: a second build, because looking costs time."""

    def __init__(self, spec: VerifierSpec, source: bytes, precision: str):
        self._spec, self._type = spec, np.dtype(np.int8 if precision == "int8" else np.float32)
        self._arena = ctypes.create_string_buffer(_defined(source, b"HV_ARENA_BYTES"))
        self._library = load_library(_TRACE + source, ())

    def layers(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """uint8 RGB [H, W, 3] to layer name → output [maps, H', W', C] in the file's own type."""
        from export.c_writer import shown_maps

        sizes = {layer.name: self._spec.shape(layer) for layer in self._spec.layers}
        values = np.empty(sum(map(math.prod, sizes.values())), self._type)
        self._library.hv_trace(ctypes.c_void_p(values.ctypes.data))
        pixels = np.ascontiguousarray(pixels)
        self._library.hv_score(ctypes.c_void_p(pixels.ctypes.data), self._arena)
        found = {name: np.empty(size, self._type) for name, size in sizes.items()}
        maps = [found[name][number] for name, number in shown_maps(self._spec)]
        ends = np.cumsum([one.size for one in maps])
        for one, part in zip(maps, np.split(values, ends[:-1]), strict=True):
            one[:] = part.reshape(one.shape)
        return found


def _defined(source: bytes, name: bytes) -> int:
    match = re.search(rb"^#define %s (\d{1,9})$" % name, source, re.MULTILINE)
    if match is None:
        raise ArtifactError("this is not the verifier's C file", do="enrol the person again")
    return int(match[1])


def load_library(source: bytes, flags: tuple[str, ...]) -> ctypes.CDLL:
    """Compile for this processor and load. Raises MissingError (no compiler), ArtifactError (does not compile)."""
    command = compiler()
    if command is None:
        raise MissingError("the C runtime needs a compiler", do="run `sudo apt install gcc`, or set CC")
    with tempfile.TemporaryDirectory() as folder:
        file, library = Path(folder, "verifier.c"), Path(folder, "verifier.so")
        file.write_bytes(source)
        # Some compilers refuse to be told their own processor; the code is right without.
        for tuned in (["-march=native"], []):
            problem = _compile([*command, *FLAGS, *tuned, *flags, str(file), "-o", str(library)], folder)
            if not problem:
                break
        else:
            raise ArtifactError(f"{command[0]} cannot compile the verifier", got=problem, do=ELSEWHERE)
        try:
            return ctypes.CDLL(str(library))
        except OSError as error:
            raise ArtifactError("the compiled verifier cannot be loaded", got=str(error), do=ELSEWHERE) from error


def _compile(command: list[str], folder: str) -> str:
    """What went wrong, or nothing. The compiler's own temporary files stay in the folder too."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"TMPDIR": folder},
    )  # fmt: skip
    try:
        _, errors = process.communicate(timeout=COMPILE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"no end after {COMPILE_TIMEOUT_S} s"
    return errors.strip()[:300] or "no reason" if process.returncode else ""
