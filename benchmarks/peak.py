"""The core's int8 peak, measured by a loop compiled as the C kernels are, and the share of it that they use."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any

from device.c_runtime import load_library

SOURCE = Path(__file__).with_name("peak.c")
ROUNDS = 20_000  # of the loop, about a millisecond; in plain C there is more in a round
REPEATS = 200


def int8_peak(flags: tuple[str, ...] = ()) -> dict[str, Any]:
    """`instructions` that made it and `macs_per_s`, of the fastest repeat. Raises MissingError, ArtifactError."""
    library = load_library(SOURCE.read_bytes(), flags)
    library.kind.restype, library.multiply_accumulates.restype = ctypes.c_char_p, ctypes.c_int64
    kind = library.kind().decode()
    rounds = ROUNDS if kind != "plain C" else ROUNDS // 100
    best = 0.0
    for _ in range(REPEATS):
        start = time.perf_counter_ns()
        count = library.multiply_accumulates(rounds)
        best = max(best, count * 1e9 / (time.perf_counter_ns() - start))
    return {"instructions": kind, "macs_per_s": best}


def achieved(macs: int, p50_ms: float, peak: dict[str, Any]) -> dict[str, Any]:
    """`peak`, with what the verifier does at its median time, the call from Python included, and the share of it."""
    rate = macs * 1e3 / p50_ms
    return peak | {"achieved_macs_per_s": rate, "share_of_peak": rate / peak["macs_per_s"]}
