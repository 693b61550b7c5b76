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
        "packages": packages(),
    }


def packages() -> dict[str, str]:
    """Versions of what runs the networks, where installed."""
    return {name: version for name in _PACKAGES if (version := _version(name))}


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


def install_bytes(extra: str) -> int:
    """Size of the files that `pip install hyperverify[extra]` brings here, with all they depend on, Python left out.

    Raises PackageNotFoundError when one of them is not installed.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, int] = {}
    waiting = [("hyperverify", extra)]
    while waiting:
        name, wanted = waiting.pop()
        package = importlib.metadata.distribution(name)
        found.setdefault(canonicalize_name(name), _own_bytes(package))
        for line in package.requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": wanted}):
                waiting += [
                    (needed.name, e) for e in needed.extras or {""} if canonicalize_name(needed.name) not in found
                ]
    return sum(found.values())


def _own_bytes(package: importlib.metadata.Distribution) -> int:
    paths = [Path(str(file.locate())) for file in package.files or []]
    return sum(path.stat().st_size for path in paths if path.is_file())
