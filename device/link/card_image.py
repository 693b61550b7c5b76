"""A card as an image file, or in a reader: edited in place by mtools (FAT) and e2fsprogs (ext4), found by sfdisk.

No loop device, no mount, and for image files no root.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from device.link.card import Card
from device.link.store import flush
from toolkit.errors import InputError, LinkError, MissingError

TOOLS = {"sfdisk": "fdisk", "mcopy": "mtools", "mdel": "mtools", "debugfs": "e2fsprogs", "e2fsck": "e2fsprogs"}
SECTOR_BYTES = 512
FAT = {"b", "c", "e", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"}
LINUX = {"83", "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"}


@dataclass(frozen=True)
class Partitions:
    """Offsets in bytes."""

    boot: int
    root: int


class ImageCard(Card):
    """An image file, or the whole card as a block device; nothing of it is mounted."""

    def __init__(self, path: Path, name: str = ""):
        super().__init__(name or str(path))
        self.partitions = find_partitions(path)
        self._root = f"{path}?offset={self.partitions.root}"
        self._boot = f"{path}@@{self.partitions.boot}"
        self._stats = self._ask("show_super_stats -h")
        if "Filesystem features" not in self._stats:
            raise InputError(f"the root partition of {self.name} is not ext4", do="write Raspberry Pi OS to it first")
        if "needs_recovery" in self._stats:
            raise InputError(
                f"{self.name} was not unmounted cleanly",
                do="start the Pi with it and shut it down, or write it anew",
            )

    def read_boot(self, name: str) -> bytes | None:
        done = run(["mcopy", "-i", self._boot, f"::/{name}", "-"])
        return done.stdout if done.returncode == 0 else None

    def write_boot(self, name: str, data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)
            file.write_bytes(data)
            done = run(["mcopy", "-o", "-i", self._boot, str(file), f"::/{name}"])
        if done.returncode:
            raise LinkError(f"{name} cannot be written to {self.name}", got=_last(done.stderr), do="check the card")

    def has(self, path: str) -> bool:
        return "Inode:" in self._ask(f'stat "/{path}"')

    def fetch(self, path: str, to: Path) -> None:
        if self.has(path):
            self._ask(f'rdump "/{path}" "{to}"')

    def put(self, tree: Path, paths: Sequence[str]) -> None:
        commands = []
        for path in paths:
            source, target = tree / path, f'"/{path}"'
            mode = source.lstat().st_mode
            if stat.S_ISDIR(mode):
                if self.has(path):
                    continue
                commands.append(f"mkdir {target}")
            elif stat.S_ISLNK(mode):
                commands += [f"rm {target}", f'symlink {target} "{source.readlink()}"']
                continue
            else:
                commands += [f"rm {target}", f'write "{source}" {target}']
            commands += [f"sif {target} mode 0{mode:o}", f"sif {target} uid 0", f"sif {target} gid 0"]
        self._edit(commands)

    def delete(self, path: str) -> None:
        commands = [f'{"rmdir" if is_folder else "rm"} "/{each}"' for each, is_folder in self._below(path)]
        self._edit(commands)

    def _below(self, path: str) -> Iterator[tuple[str, bool]]:
        """What is there, and whether it is a folder; what is inside of a folder first."""
        listed = self._ask(f'ls -p "/{path}"') if self._is_folder(path) else ""
        for line in listed.splitlines():
            _, _, mode, _, _, name, *_ = line.split("/") if line.count("/") >= 7 else ("", "", "0", "", "", ".")
            if name in ("", ".", ".."):
                continue
            inside = f"{path}/{name}"
            if stat.S_ISDIR(int(mode, 8)):
                yield from self._below(inside)
            else:
                yield inside, False
        if self.has(path):
            yield path, self._is_folder(path)

    def _is_folder(self, path: str) -> bool:
        return "Type: directory" in self._ask(f'stat "/{path}"')

    def free_bytes(self) -> int:
        numbers = {name: int(value) for name, value in re.findall(r"^([\w ]+):\s+(\d+)$", self._stats, re.MULTILINE)}
        return (numbers["Free blocks"] - numbers.get("Reserved block count", 0)) * numbers["Block size"]

    def problem(self) -> str:
        done = run(["e2fsck", "-fn", self._root])
        return "" if done.returncode == 0 else f"e2fsck: {_last(done.stdout)}"

    def _ask(self, command: str) -> str:
        return run(["debugfs", "-R", command, self._root]).stdout.decode(errors="replace")

    def _edit(self, commands: Sequence[str]) -> None:
        """debugfs tells no failure by its exit code: whoever edits reads it back."""
        with tempfile.NamedTemporaryFile("w", suffix=".debugfs") as script:
            script.write("\n".join(commands) + "\n")
            script.flush()
            done = run(["debugfs", "-w", "-f", script.name, self._root])
        if b"while opening filesystem" in done.stderr or b"Bad magic" in done.stderr:
            raise LinkError(f"{self.name} cannot be written", got=_last(done.stderr), do="check the card and its lock")


def find_partitions(path: Path) -> Partitions:
    """The first FAT and the first Linux partition. Raises InputError for anything else than a card's table."""
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except OSError as error:
        raise InputError(f"{path} cannot be read", got=error.strerror, do="check the path, or use sudo") from error
    done = run(["sfdisk", "--json", str(path)])
    try:
        table = json.loads(done.stdout)["partitiontable"]
        size = int(table.get("sectorsize", SECTOR_BYTES))
        starts = [(str(row["type"]), int(row["start"]) * size) for row in table["partitions"]]
        boot = next(start for kind, start in starts if kind in FAT)
        root = next(start for kind, start in starts if kind in LINUX)
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise InputError(
            f"{path} is not a Raspberry Pi card", expected="a FAT and a Linux partition",
            do="write Raspberry Pi OS to it first; unpack an .xz image with `unxz`",
        ) from error  # fmt: skip
    return Partitions(boot, root)


@contextmanager
def edited(path: Path, out: Path | None) -> Iterator[Card]:
    """The card at `path`. An image file is edited as a copy beside `out`, which takes its place at the end."""
    if not path.is_file():
        yield ImageCard(path)
        flush(path)
        return
    out = path if out is None else out
    handle, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    os.close(handle)
    copy = Path(name)
    try:
        done = run(["cp", "--sparse=always", "--reflink=auto", str(path), name])
        if done.returncode:
            raise MissingError(f"{path} cannot be copied", got=_last(done.stderr), do="free some space")
        yield ImageCard(copy, str(out))
        copy.chmod(0o600)  # it holds a device's keys, and templates
        flush(copy)
        copy.replace(out)
        flush(out.parent)
    finally:
        copy.unlink(missing_ok=True)


def check_tools() -> None:
    """Raises MissingError with the command that brings them."""
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool, path=_search_path()) is None})
    if missing:
        raise MissingError(
            "editing a card needs " + ", ".join(missing), do=f"run `sudo apt install {' '.join(missing)}`"
        )


def run(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """mtools is told to take image files as they are; Debian's users have no sbin in their path."""
    environment = os.environ | {"PATH": _search_path(), "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
    return subprocess.run(list(command), stdin=subprocess.DEVNULL, capture_output=True, env=environment)


def _search_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _last(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason"
