"""What machine a measurement was made on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

_PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "ai-edge-litert", "tflite-runtime")


def device_facts() -> dict[str, Any]:
    """Processor, cores, memory, system, Python and runtime versions. No host name, no path, no user."""
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "board": _first_line("/proc/device-tree/model"),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith(("model name", "model\t"))]
    return names[-1] if names else platform.processor()


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text().strip("\0\n ") or None
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
