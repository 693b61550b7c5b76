"""Do what a device does, once: `python -m benchmarks.memory_probe BUNDLE RUNTIME`.

Prints the most memory held, and the milliseconds from the first import to the first score.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

START_NS = time.perf_counter_ns()


def main(path: str, runtime: str) -> None:
    import numpy as np

    from device.alignment import TEMPLATE, align
    from device.open import open_pipeline
    from export.manifest import open_bundle

    frame = np.zeros((480, 640, 3), np.uint8)
    bundle = open_bundle(Path(path))
    with open_pipeline(bundle, runtime, "int8") as pipeline:
        pipeline.detector.detect(frame)
        pipeline.verifier.score(align(frame, TEMPLATE + 100.0, bundle.spec.framing))
        cold_ms = (time.perf_counter_ns() - START_NS) / 1e6
    print(json.dumps({"peak_bytes": peak_bytes(), "cold_start_ms": cold_ms}))


def peak_bytes() -> int:
    """Peak resident memory of this program. Not `ru_maxrss`, which begins at what the parent process held."""
    return _status("VmHWM")


def resident_bytes() -> int:
    """Resident memory of this program now."""
    return _status("VmRSS")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
