"""What state a machine is in while it is measured: temperature, clock, and whether it was slowed down."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_THERMAL = Path("/sys/class/thermal")
_CLOCK = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
# The Raspberry Pi firmware's own bits: https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
_THROTTLED = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "temperature limit"}


def conditions() -> dict[str, Any]:
    """`temperature_c` (hottest sensor), `clock_mhz`, `throttled` (now) and `throttled_since_boot`; None: unknown."""
    now, since_boot = _throttling()
    clock = _number(_CLOCK)
    return {
        "temperature_c": _temperature(),
        "clock_mhz": None if clock is None else clock / 1000,
        "throttled": now,
        "throttled_since_boot": since_boot,
    }


@contextmanager
def one_core() -> Iterator[None]:
    """Threads that are started inside share one core of this machine."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _temperature() -> float | None:
    found = [value for path in _THERMAL.glob("thermal_zone*/temp") if (value := _number(path)) is not None]
    return max(found) / 1000 if found else None


def _throttling() -> tuple[list[str] | None, list[str] | None]:
    if shutil.which("vcgencmd") is None:
        return None, None
    try:
        done = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=5)
        bits = int(done.stdout.partition("=")[2], 16)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None, None
    return read_throttled(bits)


def read_throttled(bits: int) -> tuple[list[str], list[str]]:
    """What holds now, and what has held since boot (16 bits higher)."""
    now = [name for bit, name in _THROTTLED.items() if bits >> bit & 1]
    return now, [name for bit, name in _THROTTLED.items() if bits >> (bit + 16) & 1]


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
