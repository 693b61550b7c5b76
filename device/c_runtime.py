"""The verifier's own C code as a runtime: compiled where it runs, with whatever the processor has.

The library is built in a private temporary folder that is gone once it is loaded: its weights are a biometric template.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from toolkit.errors import ArtifactError, MissingError

FLAGS = ("-std=c99", "-O3", "-shared", "-fPIC")
COMPILE_TIMEOUT_S = 120  # a Raspberry Pi Zero needs some of it


def compiler() -> str | None:
    """`CC`, else cc, gcc or clang on the path."""
    return next(
        (path for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and (path := shutil.which(name))), None
    )


class CompiledVerifier:
    """`hv_score` of one person's int8 C file. Raises MissingError (no compiler) or ArtifactError (does not compile)."""

    def __init__(self, source: bytes):
        arena = re.search(rb"^#define HV_ARENA_BYTES (\d{1,9})$", source, re.MULTILINE)
        if arena is None:
            raise ArtifactError("this is not the verifier's C file", do="enrol the person again")
        self._score = _load(source)
        self._arena = ctypes.create_string_buffer(int(arena[1]))

    def score(self, pixels: np.ndarray) -> int:
        """uint8 RGB [H, W, 3], contiguous, to steps of 1/128."""
        return int(self._score(pixels.ctypes.data, self._arena))


def _load(source: bytes) -> ctypes._NamedFuncPointer:
    found = compiler()
    if found is None:
        raise MissingError("the C runtime needs a compiler", do="run `sudo apt install gcc`, or set CC")
    with tempfile.TemporaryDirectory() as folder:
        file, library = Path(folder, "verifier.c"), Path(folder, "verifier.so")
        file.write_bytes(source)
        # Some compilers refuse to be told their own processor; the code is right without.
        for tuned in (["-march=native"], []):
            command = [found, *FLAGS, *tuned, str(file), "-o", str(library)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S)
            if done.returncode == 0:
                break
        else:
            raise ArtifactError(f"{found} cannot compile the verifier", got=done.stderr.strip()[:300])
        score = ctypes.CDLL(str(library)).hv_score
    score.restype, score.argtypes = ctypes.c_int32, [ctypes.c_void_p, ctypes.c_void_p]
    return score
