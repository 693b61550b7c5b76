"""Where keys, parcels and bundles live: on a device, and on the workstation. No dependencies."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DeviceFolders:
    """The device's folders below `root`, which is "/" on a running device and the mounted card in preparation."""

    root: Path

    @property
    def settings(self) -> Path:
        return self.root / "etc" / "hyperverify"

    @property
    def keys(self) -> Path:
        return self.settings / "keys"

    @property
    def state(self) -> Path:
        return self.root / "var" / "lib" / "hyperverify"

    @property
    def bundles(self) -> Path:
        """One link NAME.hvb a person: what the service reads."""
        return self.state / "bundles"

    @property
    def versions(self) -> Path:
        """NAME/COUNTER-DIGEST: what the links point to. Never changed once it is there."""
        return self.state / "versions"

    @property
    def incoming(self) -> Path:
        return self.state / "incoming"


def device_folders() -> DeviceFolders:
    """Those of this device: below `HYPERVERIFY_DEVICE_ROOT`, else below "/"."""
    return DeviceFolders(Path(os.environ.get("HYPERVERIFY_DEVICE_ROOT") or "/"))


def cache_folder() -> Path:
    """What can be made again: `HYPERVERIFY_CACHE`, else `hyperverify` in the XDG cache folder."""
    if custom := os.environ.get("HYPERVERIFY_CACHE"):
        return Path(custom)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hyperverify"


def config_folder() -> Path:
    """The workstation's keys and inventory: `HYPERVERIFY_CONFIG`, else `hyperverify` in the XDG config folder."""
    if custom := os.environ.get("HYPERVERIFY_CONFIG"):
        return Path(custom)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "hyperverify"
