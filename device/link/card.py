"""A Raspberry Pi's card that is not running: its boot partition (FAT) and its root (ext4), read and written.

What is to be put there comes as a tree of files. Here a card that is mounted is edited as the folders that it is;
`card_image.py` edits image files and cards in a reader.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from device.link.store import flush
from toolkit.errors import ArtifactError, UsageError


class Card(ABC):
    """One card. Paths are relative to its root; `boot` is what the Pi has at /boot/firmware."""

    def __init__(self, name: str):
        self.name = name

    @abstractmethod
    def read_boot(self, name: str) -> bytes | None:
        """A file of the boot partition, or None."""

    @abstractmethod
    def write_boot(self, name: str, data: bytes) -> None:
        """Replace it."""

    @abstractmethod
    def has(self, path: str) -> bool: ...

    @abstractmethod
    def fetch(self, path: str, to: Path) -> None:
        """Copy a file or a folder with its modes and links below the folder `to`; nothing if there is none."""

    @abstractmethod
    def put(self, tree: Path, paths: Sequence[str]) -> None:
        """Put these paths of `tree` (folders before what is in them) there, owned by root; folders keep their modes."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """A file or a folder with all that is in it; nothing if there is none."""

    @abstractmethod
    def free_bytes(self) -> int: ...

    @abstractmethod
    def problem(self) -> str:
        """What is wrong with the file system, or nothing."""

    def read(self, path: str) -> bytes | None:
        with tempfile.TemporaryDirectory() as folder:
            self.fetch(path, Path(folder))
            copy = Path(folder) / Path(path).name
            return copy.read_bytes() if copy.is_file() else None


class FolderCard(Card):
    """A card that is mounted: its two partitions as folders."""

    def __init__(self, root: Path, boot: Path):
        super().__init__(str(root))
        self.root, self.boot = root, boot

    def read_boot(self, name: str) -> bytes | None:
        path = self.boot / name
        return path.read_bytes() if path.is_file() else None

    def write_boot(self, name: str, data: bytes) -> None:
        new = self.boot / f".{name}.new"
        new.write_bytes(data)
        flush(new)
        new.replace(self.boot / name)

    def has(self, path: str) -> bool:
        return os.path.lexists(self.root / path)

    def fetch(self, path: str, to: Path) -> None:
        source, target = self.root / path, to / Path(path).name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target, symlinks=True)
        elif self.has(path):
            shutil.copy2(source, target, follow_symlinks=False)

    def put(self, tree: Path, paths: Sequence[str]) -> None:
        for path in paths:
            source, target = tree / path, self.root / path
            if source.is_dir() and not source.is_symlink():
                if target.is_dir():
                    continue
                target.mkdir()
                target.chmod(stat.S_IMODE(source.stat().st_mode))
            else:
                new = target.with_name(f".{target.name}.new")
                new.unlink(missing_ok=True)
                shutil.copy2(source, new, follow_symlinks=False)
                if not source.is_symlink():
                    flush(new)
                new.replace(target)
            if os.geteuid() == 0:
                os.chown(target, 0, 0, follow_symlinks=False)

    def delete(self, path: str) -> None:
        target = self.root / path
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    def problem(self) -> str:
        return ""  # its own kernel looks after it


def check_removable(path: Path) -> None:
    """Raises UsageError for a disk that is built in, in use, or the running system's own; image files pass."""
    if path.is_file():
        return
    number = path.stat().st_rdev if path.is_block_device() else path.stat().st_dev
    if path.is_dir() and not path.is_mount():
        raise UsageError(f"{path} is not a mounted card", do="give the folder where its root partition is mounted")
    block = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    disk = block if (block / "removable").exists() else block.parent
    flag = disk / "removable"
    if not (flag.exists() and flag.read_text().strip() == "1") and not disk.name.startswith("mmcblk"):
        raise UsageError(f"{path} is not on a removable card", do="check the name; --any-target writes there anyway")
    mounts = [line.split()[:2] for line in Path("/proc/self/mounts").read_text().splitlines()]
    used = [where for device, where in mounts if device.startswith(f"/dev/{disk.name}")]
    if "/" in used or (path.is_block_device() and used):
        raise UsageError(f"{path} is in use", got=f"mounted at {', '.join(used)}", do="unmount it, or give its folders")


def differences(card: Card, tree: Path, paths: Sequence[str]) -> list[str]:
    """Paths of `tree` that the card does not hold as they are there: content, link, kind or mode."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(paths):
            source, place = tree / path, Path(folder, str(number))
            if source.is_dir() and not source.is_symlink():
                if not card.has(path):
                    wrong.append(path)
                continue
            place.mkdir()
            card.fetch(path, place)
            if described(source) != described(place / source.name):
                wrong.append(path)
            shutil.rmtree(place)
    return wrong


def described(path: Path) -> list[object] | None:
    """What a file or a link is, for a comparison; None if there is none."""
    if path.is_symlink():
        return ["link", str(path.readlink())]
    if not path.is_file():
        return None
    return [f"{stat.S_IMODE(path.stat().st_mode):04o}", hashlib.sha256(path.read_bytes()).hexdigest()]


def refuse(what: list[str], name: str) -> None:
    """Raises ArtifactError if there is anything in the list."""
    if what:
        shown = ", ".join(what[:5]) + (f" and {len(what) - 5} more" if len(what) > 5 else "")
        raise ArtifactError(f"{name} does not hold what was put there", got=shown, do="write the card again")
