"""Load one network in a fresh process and run it once: `python -m benchmarks.peer_probe BUNDLE NAME`.

Prints the milliseconds from the first import to the first result, and the memory held then and at most.
"""

from __future__ import annotations

import json
import sys
import time

START_NS = time.perf_counter_ns()


def main(path: str, name: str) -> None:
    from contextlib import ExitStack
    from pathlib import Path

    import numpy as np

    from benchmarks.memory_probe import peak_bytes, resident_bytes
    from benchmarks.peer_latency import open_peer
    from export.manifest import open_bundle

    with ExitStack() as stack:
        peer = open_peer(name, open_bundle(Path(path)), stack)
        peer.run(np.zeros((112, 112, 3), np.uint8))
        cold_ms = (time.perf_counter_ns() - START_NS) / 1e6
        print(json.dumps({"cold_start_ms": cold_ms, "resident_bytes": resident_bytes(), "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
