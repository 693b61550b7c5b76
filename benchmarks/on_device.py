"""What is measured of a bundle: the same harness on a workstation and on a device, raw samples and all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.conditions import conditions
from benchmarks.facts import device_facts
from benchmarks.latency import Timing, all_core_latencies, end_to_end, forms, probe, stage_latencies
from benchmarks.peak import achieved, int8_peak
from benchmarks.sustained import sustain
from export.manifest import Bundle, open_bundle


def measure_bundle(folder: Path, runs: int, threads: int, sustain_s: float = 0.0) -> dict[str, Any]:
    """samples_ms by stage; peak_memory_bytes and cold_start_ms by runtime; device facts, conditions before and after.

    `int8_peak` where the C code runs: what it does of what the core could, in multiply-accumulates a second.
    With `sustain_s`, also the first form's whole way from frame to score for that many seconds.
    """
    before = conditions()
    bundle = open_bundle(folder)
    timings: dict[str, Timing] = stage_latencies(bundle, runs, threads)
    if threads == 1:
        timings |= all_core_latencies(bundle, runs)
    probes = {runtime: probe(folder, runtime) for runtime, precision in forms(bundle) if precision == "int8"}
    result: dict[str, Any] = {
        "samples_ms": {name: list(timing.samples_ms) for name, timing in timings.items()},
        "peak_memory_bytes": {runtime: int(found["peak_bytes"]) for runtime, found in probes.items()},
        "cold_start_ms": {runtime: found["cold_start_ms"] for runtime, found in probes.items()},
        "device": device_facts(),
    }
    if "verify/c/int8" in timings:
        result["int8_peak"] = achieved(bundle.spec.macs, timings["verify/c/int8"].summary()["p50_ms"], int8_peak())
    if sustain_s:
        result["sustained"] = _sustained(bundle, threads, sustain_s)
    return result | {"conditions": {"before": before, "after": conditions()}}


def _sustained(bundle: Bundle, threads: int, seconds: float) -> dict[str, Any]:
    runtime, precision = forms(bundle)[0]
    with end_to_end(bundle, runtime, precision, threads) as whole:
        return {"form": f"{runtime}/{precision}", **sustain(whole, seconds)}
