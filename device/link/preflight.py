"""What stands in the way of running verifiers here: looked at on the device, told with a remedy. Changes nothing."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from device.link.folders import DeviceFolders
from toolkit.errors import MissingError

ARCHITECTURES = ("aarch64", "armv7l", "x86_64")
SPARE_BYTES = 16 << 20  # left free beside what a deploy needs
OFFLINE = "`toolkit deploy --wheelhouse FOLDER --to HOST`"
CLOCK_S = 300  # a device further off than this has no network time


class Check(NamedTuple):
    """status: ok, warning (a deploy goes on) or failed."""

    name: str
    status: str
    found: str
    remedy: str = ""


def examine(folders: DeviceFolders, workstation_s: float, need_bytes: int) -> list[dict[str, str]]:
    """All checks, in one round."""
    checks = [_architecture(), _python(), _permissions(folders), _space(folders, need_bytes), _clock(workstation_s),
              *packages(), _camera()]  # fmt: skip
    return [check._asdict() for check in checks]


def packages() -> list[Check]:
    return [_package("cryptography", "signatures", "pip install 'hyperverify[link]'"),
            _package("cv2", "pictures", "pip install 'hyperverify[litert]'"), _runtime()]  # fmt: skip


def check_packages() -> None:
    """Import what `packages` only looks for. Raises MissingError."""
    from device.runtimes import RUNTIMES, installed_runtimes

    failed = [f"{check.name}: {check.found} ({check.remedy})" for check in packages() if check.status == "failed"]
    for module in ("cryptography", "cv2", *filter(None, (RUNTIMES[name].module for name in installed_runtimes()))):
        try:
            importlib.import_module(module)
        except ImportError as error:
            failed.append(f"{module} cannot be loaded: {error}")
    if failed:
        raise MissingError("this environment cannot run verifiers", got="; ".join(failed))


def _architecture() -> Check:
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        return Check("architecture", "failed", machine, f"use a device with {', '.join(ARCHITECTURES)}")
    return Check("architecture", "ok", machine)


def _python() -> Check:
    version = platform.python_version()
    return Check("python", "ok", version)


def _permissions(folders: DeviceFolders) -> Check:
    for folder in (folders.state, folders.settings):
        there = next(p for p in (folder, *folder.parents) if p.exists())
        if os.statvfs(there).f_flag & os.ST_RDONLY:
            return Check("permissions", "failed", f"{there} is read-only", "check the card, and remount it writable")
        if not os.access(there, os.W_OK | os.X_OK):
            remedy = "log in as root, or allow the account sudo without password"
            return Check("permissions", "failed", f"{there} is not writable", remedy)
    return Check("permissions", "ok", "writable")


def _space(folders: DeviceFolders, need_bytes: int) -> Check:
    there = next(p for p in (folders.state, *folders.state.parents) if p.exists())
    free = shutil.disk_usage(there).free
    wanted = 2 * need_bytes + SPARE_BYTES  # the parcel, and its content unpacked
    if need_bytes and free < wanted:
        remedy = f"free {(wanted - free) / 1e6:.0f} MB: `sudo apt clean`, or remove somebody"
        return Check("space", "failed", f"{free / 1e6:.0f} MB free", remedy)
    return Check("space", "ok", f"{free / 1e6:.0f} MB free")


def _clock(workstation_s: float) -> Check:
    off = time.time() - workstation_s
    if abs(off) > CLOCK_S:
        return Check("clock", "warning", f"{off:+.0f} s off", "sudo timedatectl set-ntp true")
    return Check("clock", "ok", f"{off:+.0f} s off")


def _package(module: str, purpose: str, remedy: str) -> Check:
    if importlib.util.find_spec(module) is None:
        return Check(module, "failed", f"not installed; needed for {purpose}", f"{remedy}, or {OFFLINE}")
    return Check(module, "ok", "installed")


def _runtime() -> Check:
    from device.runtimes import RUNTIMES, installed_runtimes

    packages = [name for name in installed_runtimes() if RUNTIMES[name].module]
    if not packages:
        return Check("runtime", "failed", "none", f"{RUNTIMES['litert'].remedy}, or {OFFLINE}")
    return Check("runtime", "ok", ", ".join(packages))


def _camera() -> Check:
    devices = sorted(Path("/dev").glob("video*"))
    if not devices:
        return Check("camera", "warning", "none found", "connect one; libcamera needs `camera_auto_detect=1`")
    closed = [str(device) for device in devices if not os.access(device, os.R_OK | os.W_OK)]
    if closed:
        return Check("camera", "warning", f"no permission for {', '.join(closed)}", "sudo usermod -aG video $USER")
    return Check("camera", "ok", str(devices[0]))
