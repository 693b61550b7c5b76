"""What the device measures of a bundle that lies on it: the same harness as on a workstation, raw samples and all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.conditions import conditions
from benchmarks.facts import device_facts
from benchmarks.latency import peak_memory_bytes, stage_latencies
from device.runtimes import installed_runtimes
from export.manifest import open_bundle


def measure_bundle(folder: Path, runs: int, threads: int) -> dict[str, Any]:
    """samples_ms by stage, peak_memory_bytes by runtime, device facts, conditions before and after."""
    before = conditions()
    timings = stage_latencies(open_bundle(folder), runs, threads)
    after = conditions()
    return {
        "samples_ms": {name: list(timing.samples_ms) for name, timing in timings.items()},
        "peak_memory_bytes": {runtime: peak_memory_bytes(folder, runtime) for runtime in installed_runtimes()},
        "device": device_facts(),
        "conditions": {"before": before, "after": after},
    }
