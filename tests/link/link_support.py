"""Small bundles, keys and devices for the tests of the link."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hosts

from device.link.folders import DeviceFolders
from device.link.identity import Identity, provision
from device.link.install import Installer
from device.link.keystore import KeyStore
from device.link.seal import Release, pack_sealed

sys.path.append(str(Path(__file__).parent / "faults"))
from fault_hook import install as install_fault

Toolkit = Callable[..., Any]  # arguments to how a run of the command line ended

FILES = {"manifest.json": b'{"a":1}\n', "model.bin": bytes(range(200)), "golden.json": b"{}\n"}
OTHER_FILES = FILES | {"model.bin": bytes(range(1, 201))}


def passes(folder: Path) -> dict[str, Any]:
    """A self-test for bundles that hold no model: every file is there."""
    assert (folder / "model.bin").is_file()
    return {"runtime": "none"}


@dataclass
class World:
    """A workstation's keys and one device that trusts them."""

    keys: KeyStore
    folders: DeviceFolders
    identity: Identity
    tmp: Path

    @property
    def installer(self) -> Installer:
        return Installer(self.folders, passes)

    def parcel(self, counter: int = 1, files: Mapping[str, bytes] = FILES, replaces: int | None = None) -> Path:
        data = pack_sealed(files, Release("anna", counter, replaces), self.keys.active(), self.identity.sealing_public)
        path = self.tmp / f"anna-{counter}.hvp"
        path.write_bytes(data)
        return path

    def content(self) -> bytes:
        """What the service would read."""
        return (self.folders.bundles / "anna.hvb" / "model.bin").read_bytes()


def new_world(tmp: Path) -> World:
    keys, folders = KeyStore(tmp / "keys"), DeviceFolders(tmp / "device")
    keys.new()
    return World(keys, folders, provision(folders, keys.keyring()), tmp)


@dataclass
class Fleet:
    """Provisioned devices, and the toolkit of the workstation that provisioned them."""

    network: hosts.Network
    run: Callable[..., Any]

    @property
    def hosts(self) -> list[hosts.Host]:
        return self.network.hosts


def in_a_fork(root: Path, kind: str, number: int, action: Callable[[], bool]) -> bool:
    """Run `action` with a fault at the `number`-th change below `root`; whether it ended well."""
    Path(f"{root}.fault").write_text(f"{kind} {number}")
    child = os.fork()
    if child == 0:
        code = 2
        try:
            install_fault(str(root))
            code = 0 if action() else 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0
