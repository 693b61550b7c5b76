"""Card images with Raspberry Pi OS's outline: a FAT and an ext4 partition, made without a loop device."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SECTOR, BOOT, ROOT, TOTAL = 512, 2048, 2048 + 32768, 2048 + 32768 + 400_000  # in sectors
TOOLS = ("sfdisk", "mkfs.vfat", "mke2fs", "mcopy", "debugfs", "e2fsck")


def why_not() -> str:
    """What is missing here, or nothing."""
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)} (apt install fdisk dosfstools mtools e2fsprogs)" if missing else ""


def outline(folder: Path, machine: str, python: str) -> Path:
    """The root's files that are looked at."""
    for name in (
        f"usr/lib/{machine}-linux-gnu",
        "usr/bin",
        "etc/systemd/system",
        "etc/NetworkManager",
        "root",
        "var/lib",
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "usr/bin" / f"python{python}").touch()
    (folder / "etc/rpi-issue").write_text("Raspberry Pi reference 2024-07-04\n")
    (folder / "etc/hostname").write_text("raspberrypi\n")
    (folder / "etc/hosts").write_text("127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n")
    return folder


def boot_files(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.txt").write_text("camera_auto_detect=1\n")
    (folder / "cmdline.txt").write_text("console=tty1 root=PARTUUID=0-02 rootfstype=ext4 rootwait\n")
    return folder


def make_card(path: Path, root: Path, boot: Path, label: str = "dos") -> Path:
    """An image file from these two folders."""

    def run(*command: object, **options: object) -> None:
        subprocess.run([str(part) for part in command], check=True, capture_output=True, **options)  # type: ignore[call-overload]

    os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), (TOTAL + 2048) * SECTOR)
    kinds = ("c", "83") if label == "dos" else ("EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "L")
    table = f"label: {label}\n{BOOT},{ROOT - BOOT},{kinds[0]}\n{ROOT},{TOTAL - ROOT},{kinds[1]}\n"
    run("sfdisk", "-q", path, input=table.encode())
    run("mkfs.vfat", "--offset", BOOT, "-n", "bootfs", path, (ROOT - BOOT) // 2)
    run("mcopy", "-i", f"{path}@@{BOOT * SECTOR}", *boot.iterdir(), "::/", env=os.environ | {"MTOOLS_SKIP_CHECK": "1"})
    offset = f"offset={ROOT * SECTOR}"
    run("mke2fs", "-q", "-t", "ext4", "-L", "rootfs", "-d", root, "-E", offset, path, f"{(TOTAL - ROOT) // 2}k")
    return path


def extracted(path: Path, folder: Path) -> Path:
    """The root of an image as a folder: what the kernel would mount."""
    folder.mkdir(exist_ok=True)
    subprocess.run(
        ["debugfs", "-R", f'rdump / "{folder}"', f"{path}?offset={ROOT * SECTOR}"], check=True, capture_output=True
    )
    return folder
