"""A card that was never started becomes a device: written by `toolkit flash`, read back, its first boot run."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cards import ROOT, SECTOR, boot_files, extracted, make_card, outline, why_not
from link_support import Toolkit
from wheels import HERE, bundled_pip, small_wheelhouse

from device.link.flash import Wifi
from device.link.folders import DeviceFolders
from device.link.install import Installer
from device.link.inventory import Inventory
from device.link.service import NoService
from device.open import open_pipeline
from export.manifest import open_bundle

Releases = tuple[Path, Path]
Flash = Callable[..., Any]
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5b me@desk"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    if reason := why_not() or (bundled_pip() is None and "this Python brings no wheel of pip"):
        pytest.skip(reason)
    return small_wheelhouse(tmp_path / "house", "1.0")


@pytest.fixture
def card(house: Path, tmp_path: Path) -> Path:
    """An image file with Raspberry Pi OS's outline for this machine."""
    root, boot = outline(tmp_path / "pi", HERE.machine, HERE.python), boot_files(tmp_path / "pi-boot")
    return make_card(tmp_path / "pi.img", root, boot)


@pytest.fixture
def flash(toolkit: Toolkit, house: Path) -> Flash:
    assert toolkit("keys", "new").code == 0

    def run(card: Path, *arguments: object, **environment: str) -> Any:
        return toolkit("flash", card, *arguments, "--as", "root@door", "--wheelhouse", house, **environment)

    return run


def boot_file(card: Path, name: str) -> bytes:
    command = ["mcopy", "-i", f"{card}@@{2048 * SECTOR}", f"::/{name}", "-"]
    return subprocess.run(command, capture_output=True, env=os.environ | {"MTOOLS_SKIP_CHECK": "1"}).stdout


def test_an_image_becomes_a_device(
    flash: Flash, toolkit: Toolkit, card: Path, releases: Releases, tmp_path: Path
) -> None:
    (tmp_path / "key.pub").write_text(SSH_KEY + "\n")
    done = flash(card, releases[0], "--hostname", "door", "--ssh-key", "key.pub", "--wifi", "Hall", "--country", "DE",
                 "--json", HYPERVERIFY_WIFI_PASSWORD="correct horse")  # fmt: skip
    assert done.code == 0, done.err
    assert stat.S_IMODE(card.stat().st_mode) == 0o600, "it holds the device's keys"
    root = extracted(card, tmp_path / "extracted")
    installer = Installer(DeviceFolders(root), service=NoService())
    assert [(row["name"], row["counter"], row["health"]) for row in installer.inventory()] == [("anna", 1, "ok")]
    with open_pipeline(open_bundle(root / "var/lib/hyperverify/bundles/anna.hvb"), "auto", "int8"):
        pass
    assert installer.identity().device_id == done.json["device_id"]
    assert Inventory(tmp_path / "config").find("root@door").device_id == done.json["device_id"]
    assert stat.S_IMODE((root / "etc/hyperverify/keys/device.key").stat().st_mode) == 0o600
    assert (root / "etc/hostname").read_text() == "door\n"
    assert "127.0.1.1\tdoor\n" in (root / "etc/hosts").read_text()
    assert (root / "root/.ssh/authorized_keys").read_text() == SSH_KEY + "\n"
    wifi = root / "etc/NetworkManager/system-connections/hyperverify.nmconnection"
    assert stat.S_IMODE(wifi.stat().st_mode) == 0o600
    assert "correct horse" not in wifi.read_text()
    assert boot_file(card, "cmdline.txt").endswith(b" rootwait cfg80211.ieee80211_regdom=DE\n")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    assert {path.name for path in wants.iterdir()} == {"hyperverify.service", "hyperverify-setup.service"}
    assert stat.S_IMODE((root / "etc/hyperverify/device.toml").stat().st_mode) == 0o600, "it may hold a token"
    assert "User=hyperverify" in (root / "etc/systemd/system/hyperverify.service").read_text()
    checked = toolkit("flash", card, "--check", "--json")
    assert checked.code == 0, checked.err
    assert (checked.json["started"], checked.json["file_system"]) == (False, "clean")


@pytest.mark.long
def test_the_first_boot_installs_what_came_with_the_card(
    flash: Flash, toolkit: Toolkit, card: Path, releases: Releases, tmp_path: Path
) -> None:
    """What hyperverify-setup.service runs, in the card's root; cut off once."""
    assert flash(card, releases[0]).code == 0
    root = extracted(card, tmp_path / "extracted")
    unit = (root / "etc/systemd/system/hyperverify-setup.service").read_text()
    program = root / "opt/hyperverify/bootstrap.py"
    assert f"ExecStart=/usr/bin/python3 -I /{program.relative_to(root)} first-boot\n" in unit
    environment = os.environ | {"HYPERVERIFY_DEVICE_ROOT": str(root)}
    command = [str(Path(sys.executable).resolve()), "-I", str(program), "first-boot"]
    (root / "power-cut").touch()  # the stand-in for the self-test loses power
    assert subprocess.run(command, env=environment, capture_output=True).returncode != 0
    assert not (root / "opt/hyperverify/venv").exists()
    assert (root / "opt/hyperverify/first-boot.json").exists(), "the next boot tries again"
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (root / "opt/hyperverify/venv/bin/python").exists()
    assert not (root / "opt/hyperverify/first-boot.json").exists()
    assert not (root / "opt/hyperverify/incoming").exists()


def test_the_key_of_a_wifi_is_the_standards() -> None:
    """IEEE 802.11i, H.4.3, the first test vector."""
    wifi = Wifi("IEEE", "password", "DE")
    wifi.check()
    assert "psk=f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e\n" in wifi.connection()


def test_a_changed_card_is_told_from_a_good_one(
    flash: Flash, toolkit: Toolkit, card: Path, releases: Releases, tmp_path: Path
) -> None:
    empty = toolkit("flash", card, "--check")
    assert (empty.code, "no device" in empty.err) == (4, True)
    assert flash(card, releases[0], "-o", "door.img").code == 0
    again = toolkit("flash", card, "--check")
    assert again.code == 4, "the original is as it was"
    made = tmp_path / "door.img"
    (tmp_path / "other").write_bytes(b"#!/bin/sh\n")
    script = tmp_path / "script"
    script.write_text(f'rm /opt/hyperverify/bootstrap.py\nwrite "{tmp_path}/other" /opt/hyperverify/bootstrap.py\n')
    command = ["debugfs", "-w", "-f", str(script), f"{made}?offset={ROOT * SECTOR}"]
    subprocess.run(command, check=True, capture_output=True)
    changed = toolkit("flash", made, "--check")
    assert (changed.code, "opt/hyperverify/bootstrap.py" in changed.err) == (7, True)
    second = flash(made, releases[1])
    assert (second.code, "--replace" in second.err) == (2, True)
    before = Inventory(tmp_path / "config").find("root@door").device_id
    renewed = flash(made, releases[1], "--replace", "--json")
    assert renewed.code == 0, renewed.err
    assert renewed.json["device_id"] != before
    assert [person["health"] for person in renewed.json["people"]] == ["ok"]
    assert not list(tmp_path.glob(".*.img.*")), "no copy is left"


def test_what_is_no_card_for_it_is_refused(
    flash: Flash, toolkit: Toolkit, card: Path, house: Path, tmp_path: Path
) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(1 << 20))
    assert flash(tmp_path / "noise").code == 4
    assert flash(tmp_path / "missing").code == 2
    plain = make_card(tmp_path / "other.img", outline(tmp_path / "pi", "riscv64", "3.9"), boot_files(tmp_path / "b"))
    (tmp_path / "pi/etc/rpi-issue").unlink()
    debian = make_card(tmp_path / "debian.img", tmp_path / "pi", tmp_path / "b", label="gpt")
    refused = flash(debian)
    assert (refused.code, "--any-target" in refused.err) == (2, True)
    assert flash(debian, "--any-target").code == 0
    shutil.rmtree(tmp_path / "pi/usr")
    foreign = make_card(plain, tmp_path / "pi", tmp_path / "b")
    machine = flash(foreign, "--any-target")
    assert (machine.code, f"{HERE.machine} and Python" in machine.err) == (2, True)
    folder = flash(tmp_path, "--boot", tmp_path)
    assert (folder.code, "not a mounted card" in folder.err) == (2, True)
    unsafe = flash(card, "--wifi", "Hall", "--country", "DE", HYPERVERIFY_WIFI_PASSWORD="short")
    assert (unsafe.code, "8 to 63" in unsafe.err) == (2, True)
    tools = flash(card, PATH="/nonexistent")
    assert (tools.code, "sudo apt install mtools" in tools.err) == (3, True)
    assert flash(card, "--config", house / "requirements.txt").code == 2


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_mounted_card(flash: Flash, toolkit: Toolkit, house: Path, releases: Releases, tmp_path: Path) -> None:
    """Two folders; a file system in memory stands for the card, which is therefore not removable."""
    root, boot = tmp_path / "rootfs", boot_files(tmp_path / "bootfs")
    root.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "hvtest", str(root)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        outline(root, HERE.machine, HERE.python)
        built_in = flash(root, releases[0], "--boot", boot)
        assert (built_in.code, "not on a removable card" in built_in.err) == (2, True)
        done = flash(root, releases[0], "--boot", boot, "--any-target", "--json")
        assert done.code == 0, done.err
        assert Installer(DeviceFolders(root), service=NoService()).inventory()[0]["health"] == "ok"
        model = root / "var/lib/hyperverify/bundles/anna.hvb/model.int8.tflite"
        model.write_bytes(model.read_bytes()[:-1] + b"?")
        changed = toolkit("flash", root, "--boot", boot, "--check")
        assert (changed.code, "model.int8.tflite" in changed.err) == (7, True)
        assert flash(root, releases[0], "--boot", boot, "--any-target", "--replace").code == 0
        listed = json.loads((root / "etc/hyperverify/card.json").read_text())["files"]
        assert "var/lib/hyperverify/state.json" in listed
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)
