"""A parcel made without the device, carried elsewhere, and deployed from a workstation that has no signing key."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

from link_support import Fleet, Toolkit

from device.link.folders import DeviceFolders
from device.link.identity import provision, read_identity
from device.link.install import Installer
from device.link.inventory import Device, Inventory
from device.link.keystore import KeyStore
from device.link.parcel import read_parcel
from device.link.trust import Keyring

Releases = tuple[Path, Path]


def known_device(tmp_path: Path, keyring: Keyring, host: str = "door") -> DeviceFolders:
    """A device of this workstation, provisioned as `toolkit devices provision` does it."""
    folders = DeviceFolders(tmp_path / host)
    Inventory(tmp_path / "config").add(Device(host=host, **provision(folders, keyring).public()))
    return folders


def test_the_file_is_for_one_device_and_installs_there(toolkit: Toolkit, releases: Releases, tmp_path: Path) -> None:
    assert toolkit("pack", releases[0], "--for", "door").code == 3, "no such device yet"
    assert toolkit("keys", "new").code == 0
    keyring = KeyStore(tmp_path / "config" / "keys").keyring()
    door, other = known_device(tmp_path, keyring), known_device(tmp_path, keyring, "other")
    done = toolkit("pack", releases[0], "--for", "door", "--json")
    assert done.code == 0, done.err
    file = tmp_path / "anna.hvp"
    assert (done.json["counter"], done.json["sealed_for"]) == (1, read_identity(door).device_id)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (releases[0] / "model.int8.tflite").read_bytes() not in file.read_bytes()
    installed = Installer(door).install(file)
    assert installed["changed"] and installed["self_test"]["vectors"] == 8  # noqa: PT018
    again = toolkit("pack", releases[0], "--for", "door")
    assert (again.code, "--replace" in again.err) == (2, True)
    later = toolkit("pack", releases[1], "--for", "door", "-o", "later.hvp", "--after", 7, "--json")
    assert later.json["counter"] == 8
    assert read_parcel(tmp_path / "later.hvp").header.sealed_for != read_identity(other).device_id


def test_what_cannot_be_packed_is_told(toolkit: Toolkit, releases: Releases, tmp_path: Path) -> None:
    no_keys = KeyStore(tmp_path / "elsewhere")
    no_keys.new()
    known_device(tmp_path, no_keys.keyring())
    unsigned = toolkit("pack", releases[0], "--for", "door")
    assert (unsigned.code, "toolkit keys new" in unsigned.err) == (3, True)
    assert toolkit("pack", releases[0], "--for", "door", "-o", "anna.zip").code == 2
    assert toolkit("pack", releases[0], "--for", "door", "--plain").code == 0
    plain = read_parcel(tmp_path / "anna.hvp")
    assert plain.header.plain
    assert {entry.name for entry in plain.header.files} > {"manifest.json", "golden.json", "model.int8.tflite"}
    assert toolkit("pack", tmp_path / "anna.hvp", "--for", "door").code == 2


def test_a_workstation_without_the_signing_key_brings_it(fleet: Fleet, releases: Releases, tmp_path: Path) -> None:
    assert fleet.run("pack", releases[0], "--for", "device0").code == 0
    carrier = tmp_path / "carrier"
    carrier.mkdir()
    shutil.copy(tmp_path / "config" / "devices.json", carrier)
    done = fleet.run("deploy", "anna.hvp", "--to", "device0", "--json", HYPERVERIFY_CONFIG=str(carrier))
    assert done.code == 0, done.out
    assert json.loads(done.out)["devices"][0]["people"][0]["action"] == "added"
