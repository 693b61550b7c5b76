"""The same work for minutes, in windows of one length: does the machine slow down when it gets warm?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.conditions import conditions
from benchmarks.latency import Timing

WINDOWS = 10


def sustain(action: Callable[[], object], seconds: float, windows: int = WINDOWS) -> dict[str, Any]:
    """Repeat `action` without a pause. Each window: runs, p50, p90, p99, and temperature, clock, throttling at its end.

    `slowdown` is the last window's median over the first one's. No warm-up: the cold machine is the reference.
    """
    found = []
    for _ in range(windows):
        samples: list[float] = []
        end = time.perf_counter() + seconds / windows
        while time.perf_counter() < end or len(samples) < 2:
            start = time.perf_counter_ns()
            action()
            samples.append((time.perf_counter_ns() - start) / 1e6)
        found.append({**Timing(tuple(samples)).summary(), "conditions": conditions()})
    return {"seconds": seconds, "windows": found, "slowdown": found[-1]["p50_ms"] / found[0]["p50_ms"]}
