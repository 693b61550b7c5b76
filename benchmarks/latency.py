"""How long each stage takes, on this machine, and how much memory a device process needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device.alignment import TEMPLATE, align
from device.detector import CAMERA_SIDES_PX, Face, FaceDetector
from device.quality import QualityLimits, assess
from device.runtimes import RUNTIMES, installed_runtimes, open_verifier, precisions
from export.manifest import DETECTOR, MODELS, Bundle
from models.spec import WHOLE
from toolkit.errors import HyperverifyError, MissingError

FRAME_HEIGHT_PX, FRAME_WIDTH_PX = 480, 640  # the frame that every stage is timed on


@dataclass(frozen=True)
class Timing:
    """Raw samples in milliseconds, none left out; warm-up runs are not among them."""

    samples_ms: tuple[float, ...]

    def summary(self) -> dict[str, Any]:
        p50, p90, p99 = np.percentile(self.samples_ms, [50, 90, 99])
        return {"p50_ms": float(p50), "p90_ms": float(p90), "p99_ms": float(p99), "runs": len(self.samples_ms)}


def measure(action: Callable[[], object], runs: int, warm_up: int = 10) -> Timing:
    for _ in range(warm_up):
        action()
    samples = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        action()
        samples.append((time.perf_counter_ns() - start) / 1e6)
    return Timing(tuple(samples))


def synthetic_frame(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A noise frame uint8 RGB [480, 640, 3] and where a face's landmarks would be, so that no photograph is needed.

    Detection finds nothing in it, which saves decoding the boxes; everything else does its full work.
    """
    frame = np.random.default_rng(seed).integers(0, 256, (FRAME_HEIGHT_PX, FRAME_WIDTH_PX, 3), np.uint8)
    return frame, TEMPLATE * 1.5 + [220.0, 120.0]


def stage_latencies(bundle: Bundle, runs: int, threads: int) -> dict[str, Timing]:
    """ "detect", "align", and for each installed runtime and precision "verify/…" and "end_to_end/…"."""
    frame, landmarks = synthetic_frame()
    detector = FaceDetector(bundle.read(DETECTOR), CAMERA_SIDES_PX, threads)
    framing = bundle.spec.framing

    def aligned() -> np.ndarray:
        return align(frame, landmarks, framing)

    pixels = aligned()
    found = {
        "detect": measure(lambda: detector.detect(frame), max(20, runs // 10)),
        "align": measure(aligned, runs),
    }
    for runtime, precision in forms(bundle):
        key = f"{runtime}/{precision}"
        with open_verifier(bundle, runtime, precision, threads) as verifier:
            found[f"verify/{key}"] = measure(lambda v=verifier: v.score(pixels), runs)  # type: ignore[misc]
        with end_to_end(bundle, runtime, precision, threads) as whole:
            found[f"end_to_end/{key}"] = measure(whole, max(20, runs // 10))
    return found


def forms(bundle: Bundle) -> list[tuple[str, str]]:
    """(runtime, precision) of every file of the bundle that this machine can run."""
    return [
        (runtime, precision)
        for runtime in installed_runtimes()
        for precision in precisions(runtime)
        if MODELS[RUNTIMES[runtime].kind, precision] in bundle.manifest["files"]
    ]


@contextmanager
def end_to_end(bundle: Bundle, runtime: str, precision: str, threads: int) -> Iterator[Callable[[], None]]:
    """One call: detect, align, check and verify the frame that every stage is timed on."""
    frame, landmarks = synthetic_frame()
    detector = FaceDetector(bundle.read(DETECTOR), CAMERA_SIDES_PX, threads)
    framing, limits, face = bundle.spec.framing, QualityLimits(), Face(220, 120, 170, 170, 1.0, landmarks)
    with open_verifier(bundle, runtime, precision, threads) as verifier:

        def whole() -> None:
            detector.detect(frame)
            crop = align(frame, landmarks, framing)
            assess(crop, face, limits, framing)
            verifier.score(crop)

        yield whole


def all_core_latencies(bundle: Bundle, runs: int) -> dict[str, Timing]:
    """ "verify on N threads/…" of each form whose runtime takes threads, N being the machine's cores."""
    cores = os.cpu_count() or 1
    frame, landmarks = synthetic_frame()
    pixels, found = align(frame, landmarks, bundle.spec.framing), {}
    for runtime, precision in forms(bundle):
        if runtime != "c" and cores > 1:
            with open_verifier(bundle, runtime, precision, cores) as verifier:
                timing = measure(lambda v=verifier: v.score(pixels), runs)  # type: ignore[misc]
            found[f"verify on {cores} threads/{runtime}/{precision}"] = timing
    return found


def backbone_latency(name: str, runs: int) -> Timing | None:
    """The frozen backbone on a crop of the same frame, one thread; None when its file or a package is absent."""
    from models.backbone import load_backbone

    try:
        backbone = load_backbone(name, threads=1)
    except MissingError:
        return None
    frame, landmarks = synthetic_frame()
    crop = align(frame, landmarks, WHOLE)
    return measure(lambda: backbone.embed_one(crop), max(20, runs // 10))


def probe(bundle: Path, runtime: str) -> dict[str, float]:
    """A fresh process opens the bundle and verifies one frame: `peak_bytes` (resident), `cold_start_ms` (from its first
    import to its first score). Raises HyperverifyError."""
    command = [sys.executable, "-P", "-m", "benchmarks.memory_probe", str(bundle), runtime]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise HyperverifyError("the memory probe failed", got=done.stderr.strip()[-300:])
    result: dict[str, float] = json.loads(done.stdout)
    return result
