"""Hours at a door in minutes: `python -m benchmarks.soak BUNDLE VIDEO OUT.json [--hours H] [--seconds S] …`.

The loop of `toolkit run`, with metrics, preview, watchdog and reload, replays a video again and again as fast as it
can, until H hours of video or S seconds have passed; memory and file descriptors are read once for each of the
video's minutes. Then a camera fails N times at random.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.facts import device_facts
from device.settings import PreviewSettings, ServiceSettings, Settings
from device.sources import FAULTS, Camera, CameraTiming, Frame, Outage, Source, open_source
from device.sources.scripted import ScriptedCapture, Step
from device.watch import Equipment, find_bundles
from toolkit.atomic import write_atomically
from toolkit.runner import Runner

WATCHDOG_S = 60.0  # as in device/hyperverify.service
RELOAD_EVERY_S = 600.0  # of video time: what a reload leaves behind must show
# A camera's own patience, a hundred times less of it.
HASTY = CameraTiming(open_s=0.2, frame_s=0.05, still_s=0.03, first_retry_s=0.001, last_retry_s=0.002, tick_s=0.001)


class Replay(Source):
    """A video again and again until `seconds`, or `hours` of its own, have passed; a sample for each of its minutes."""

    live = True  # the end of it is no failure

    def __init__(self, video: Path, hours: float, seconds: float):
        self._video, self._hours, self._seconds, self._stopped = str(video), hours, seconds, False
        self.frame_count, self.size_px = 0, (0, 0)
        self.samples: list[tuple[float, int, int]] = []  # video time in seconds, resident bytes, open files

    def frames(self) -> Iterator[Frame | Outage]:
        began, offset_s, time_s, sampled_s, reloaded_s = time.monotonic(), 0.0, 0.0, -60.0, 0.0
        while not self._stopped and time_s < self._hours * 3600:
            with open_source(self._video) as video:
                for frame in video.frames():
                    if self._stopped or time.monotonic() - began > self._seconds:
                        return
                    assert isinstance(frame, Frame)
                    time_s = offset_s + frame.time_s
                    self.frame_count += 1
                    self.size_px = (frame.rgb.shape[1], frame.rgb.shape[0])
                    yield replace(frame, time_s=time_s)
                    if time_s - sampled_s >= 60:
                        sampled_s = time_s
                        self.samples.append((time_s, resident_bytes(), open_files()))
                    if time_s - reloaded_s >= RELOAD_EVERY_S:
                        reloaded_s = time_s
                        os.kill(os.getpid(), signal.SIGHUP)
            offset_s = time_s + 0.1

    def stop(self) -> None:
        self._stopped = True


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class ServiceManager(threading.Thread):
    """What systemd would hear: when the process was ready, and when it said that it is alive."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True, name="service manager")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        os.environ |= {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6))}
        self.heard: list[tuple[float, str]] = []

    def run(self) -> None:
        while (message := self._socket.recv(200).decode()) != "STOPPING=1":
            self.heard.append((time.monotonic(), message))
        self.heard.append((time.monotonic(), "STOPPING=1"))
        self._socket.close()

    def longest_silence_s(self) -> float:
        times = [when for when, message in self.heard if not message.startswith("STATUS=")]
        return max(b - a for a, b in pairwise(times))


def replay(bundle: Path, video: Path, hours: float, seconds: float) -> dict[str, Any]:
    settings = replace(Settings(), preview=PreviewSettings("web", port=0), service=ServiceSettings(metrics="0"))
    users = find_bundles(bundle)
    runner = Runner(settings, users, lambda: (settings, users), once=False, timeout_s=0, json=True, service=True)
    source, began = Replay(video, hours, seconds), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        manager = ServiceManager(Path(folder))
        manager.start()
        with Path(folder, "out").open("w") as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            runner.watch(Equipment(settings, users), source)
        manager.join(timeout=10)
        told = Path(folder, "out").read_text()
    times_h, resident, files = (np.array(column, float) for column in zip(*source.samples, strict=True))
    settled = slice(len(times_h) // 4, None)  # caches and arenas fill in the first quarter
    return {
        "hours_asked": hours,
        "video_hours": float(times_h[-1]) / 3600,
        "size_px": source.size_px,
        "frames": source.frame_count,
        "wall_s": time.monotonic() - began,
        "decisions": runner.decisions,
        "accepted": runner.accepted,
        "reloads": told.count("reloaded: "),
        "resident_mb": {"first": resident[0] / 1e6, "last": resident[-1] / 1e6, "most": resident.max() / 1e6},
        "resident_slope": slope(times_h[settled] / 3600, resident[settled] / 1e6),
        "open_files": {"first": int(files[0]), "last": int(files[-1]), "most": int(files.max())},
        "watchdog": {"limit_s": WATCHDOG_S, "longest_silence_s": manager.longest_silence_s()},
    }


def slope(hours: np.ndarray, mb: np.ndarray) -> dict[str, float | None]:
    """Least squares: megabytes an hour of video, with a 95 % interval.

    Samples that follow each other are alike, so the interval is widened by the correlation of neighbouring residuals,
    as for an autoregressive process of first order.
    """
    if len(hours) < 10:
        return {"mb_per_hour": None, "low": None, "high": None}
    (rise, level), covariance = np.polyfit(hours, mb, 1, cov=True)
    rest = mb - (rise * hours + level)
    alike = float(np.clip(rest[1:] @ rest[:-1] / max(float(rest @ rest), 1e-12), 0, 0.99))
    error = float(np.sqrt(covariance[0, 0] * (1 + alike) / (1 - alike)))
    return {"mb_per_hour": float(rise), "low": float(rise - 1.96 * error), "high": float(rise + 1.96 * error)}


def faults(count: int, seed: int = 5) -> dict[str, Any]:
    """A camera that fails `count` times at random between pictures, and how each time was told."""
    rng = random.Random(seed)
    kinds: dict[str, float] = dict.fromkeys(FAULTS, 0) | {"crash": 0, "grey": 1, "hang": 0.08, "still": 100}
    broken: list[Step] = [rng.choice(list(kinds.items())) for _ in range(count)]
    steps = [step for fault in broken for step in (("frames", 2.0), fault)]
    pictures = (np.full((48, 64, 3), level, np.uint8) for level in range(251))
    shades = list(pictures)
    capture = ScriptedCapture(lambda i: shades[i % 251], [*steps, ("frames", 10**6)], interval_s=0.0005)
    before, told, frames, last = (threading.active_count(), open_files()), 0, 0, 0
    with Camera(capture, HASTY, patient=True) as camera:
        for item in camera.frames():
            attempts = item.attempts if isinstance(item, Outage) else 0
            told += attempts not in (0, last)  # each attempt after a fault is told again and again while it waits
            frames, last = frames + (attempts == 0), attempts
            if attempts == 0 and capture.faults == count:
                break
    return {
        "injected": count,
        "told": told,
        "frames": frames,
        "threads_left": threading.active_count() - before[0],
        "files_left": open_files() - before[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--hours", type=float, default=8, help="of video")
    parser.add_argument("--seconds", type=float, default=3600, help="at most so long, by the clock on the wall")
    parser.add_argument("--faults", type=int, default=1000)
    options = parser.parse_args()
    result = {
        "schema_version": 1,
        "replay": replay(options.bundle, options.video, options.hours, options.seconds),
        "camera_faults": faults(options.faults),
        "device": device_facts(),
    }
    write_atomically(options.out, (json.dumps(result, indent=2) + "\n").encode(), mode=0o644)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
