"""The checks of `toolkit doctor`. Each looks at one thing and changes nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import HyperverifyError

# package → (what it is for, the extra that brings it, needed for the main job)
PACKAGES = {
    "numpy": ("everything", "", True),
    "opencv-python-headless": ("reading and aligning pictures", "enroll", True),
    "onnx": ("enrolment and export", "enroll", True),
    "onnxruntime": ("enrolment", "enroll", True),
    "ai-edge-litert": ("TFLite export, and running it", "enroll", True),
    "pyarrow": ("evaluation on Parquet files", "eval", False),
    "scipy": ("confidence intervals", "eval", False),
    "matplotlib": ("plots", "eval", False),
    "torch": ("training", "train", False),
    "faiss-cpu": ("training", "train", False),
    "tensorboard": ("training", "train", False),
}


@dataclass(frozen=True)
class Check:
    """status: ok, optional (missing, but only some commands need it) or failed."""

    name: str
    status: str
    found: str
    remedy: str = ""


def examine() -> list[Check]:
    """All checks, in the order a person would mend them."""
    return [_python(), *_packages(), *_models(), _generator(), *_runtimes(), _cameras(), *_permissions()]


def _python() -> Check:
    version = platform.python_version()
    return Check("Python", "ok", f"{version} on {platform.machine()}")


def _packages() -> list[Check]:
    checks = []
    for package, (purpose, extra, needed) in PACKAGES.items():
        try:
            checks.append(Check(package, "ok", importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            target = f"'hyperverify[{extra}]'" if extra else "hyperverify"
            status = "failed" if needed else "optional"
            checks.append(Check(package, status, f"not installed; needed for {purpose}", f"pip install {target}"))
    return checks


def _models() -> list[Check]:
    from models.files import MODEL_FILES, find_model

    checks = []
    for model in MODEL_FILES.values():
        try:
            path = find_model(model.name)
            checks.append(Check(f"model {model.name}", "ok", f"{path}, SHA-256 {model.sha256[:12]}…"))
        except HyperverifyError as error:
            status = "failed" if model.needed else "optional"
            checks.append(Check(f"model {model.name}", status, error.what, error.do))
    return checks


def _generator() -> Check:
    from models.generator import SHIPPED

    try:
        from models.generator import Generator

        h = Generator()
    except HyperverifyError as error:
        return Check("generator", "failed", error.what, error.do)
    return Check("generator", "ok", f"{SHIPPED}, version {h.info.version}, {h.info.spec.params} parameters a person")


def _runtimes() -> list[Check]:
    from device.c_runtime import compiler
    from device.runtimes import RUNTIMES, installed_runtimes

    present = installed_runtimes()
    checks = []
    for name, runtime in RUNTIMES.items():
        if name in present:
            found = _version(runtime.package) if runtime.module else " ".join(compiler() or [])
            checks.append(Check(f"runtime {name}", "ok", found))
        else:
            status = "optional" if present else "failed"
            checks.append(Check(f"runtime {name}", status, "not installed", runtime.remedy))
    return checks


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "installed under another distribution's name"


def _cameras() -> Check:
    devices = sorted(str(path) for path in Path("/dev").glob("video*"))
    if not devices:
        return Check("cameras", "optional", "none found", "connect one, or run on a video file or a folder")
    closed = [device for device in devices if not os.access(device, os.R_OK | os.W_OK)]
    if closed:
        remedy = "sudo usermod -aG video $USER, then log in again"
        return Check("cameras", "failed", f"no permission for {', '.join(closed)}", remedy)
    return Check("cameras", "ok", ", ".join(devices))


def _permissions() -> list[Check]:
    checks = []
    try:
        with tempfile.NamedTemporaryFile(dir="."):
            checks.append(Check("working folder", "ok", "writable"))
    except OSError as error:
        checks.append(Check("working folder", "failed", str(error.strerror), "change to a folder of your own"))
    loose = [str(p) for p in Path().glob("*.hvb/*") if p.stat().st_mode & 0o077]
    if loose:
        found = f"{len(loose)} files can be read by others: they are biometric templates"
        checks.append(Check("bundles here", "failed", found, "chmod -R go-rwx *.hvb"))
    return checks
