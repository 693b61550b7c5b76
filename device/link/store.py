"""The device's bundles on disk: immutable versions, one link a person, and one small state file.

    bundles/NAME.hvb -> ../versions/NAME/0000000003-0123456789ab     switched by one rename: old or new, never neither
    versions/NAME/0000000003-0123456789ab/                           the bundle's files, golden.json and release.sig
    state.json                                                       counters, previous versions, a switch under way
    incoming/                                                        parcels not yet whole

Counters are filed under a hash of device and name, so that a removed person's name is gone while the replay of that
person's old parcels is still refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from device.link.folders import DeviceFolders
from device.link.parcel import Header
from toolkit.atomic import write_atomically
from toolkit.errors import ArtifactError, LinkError, UsageError

RELEASE = "release.sig"  # signature and signed header, as they stood in the parcel
STATE = "state.json"
TEMPORARY = ".new-"
LOCK_S = 20  # an install whose link was cut still ends; a repeat waits for it


@dataclass
class State:
    """What the device remembers beside the bundles. Written whole, by one rename."""

    floors: dict[str, dict[str, Any]]  # hashed name → {"counter", "digest"} of the newest release ever accepted
    previous: dict[str, str]  # name → version that a rollback returns to
    pending: dict[str, Any] | None  # a switch that is not confirmed yet: {"name", "new", "old", "ran"}


class VersionStore:
    """Files and links, without any judgement about what may be installed."""

    def __init__(self, folders: DeviceFolders):
        self.folders = folders

    def prepare(self) -> None:
        self.folders.state.mkdir(mode=0o755, parents=True, exist_ok=True)
        for folder in (self.folders.versions, self.folders.bundles, self.folders.incoming):
            if folder.is_symlink():  # root would write and delete wherever it leads
                raise ArtifactError(f"{folder} is a link", do="look who made it, and delete it on the device")
            if not folder.is_dir():
                folder.mkdir(mode=0o700)
                self._own(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One change at a time. Raises LinkError when another one is under way."""
        with (self.folders.state / "lock").open("a") as stream:
            end = time.monotonic() + LOCK_S
            while not _taken(stream):
                if time.monotonic() > end:
                    raise LinkError("another deploy to this device is under way", do="wait for it and repeat")
                time.sleep(0.1)
            yield

    def read_state(self) -> State:
        """Raises ArtifactError for a damaged file: without it an old parcel could be replayed."""
        path = self.folders.state / STATE
        try:
            document = json.loads(path.read_bytes())
            return State(dict(document["floors"]), dict(document["previous"]), document["pending"])
        except FileNotFoundError:
            return State({}, {}, None)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtifactError(
                f"{path} is damaged",
                got=type(error).__name__,
                do="check the card, and deploy everybody again without it",
            ) from error

    def write_state(self, state: State) -> None:
        path = self.folders.state / STATE
        write_atomically(path, json.dumps({"schema_version": 1, **vars(state)}, indent=1).encode())
        flush(self.folders.state)

    def clear_temporary(self) -> None:
        """State files that a kill left half written."""
        for path in self.folders.state.glob(f".{STATE}.*"):
            path.unlink()

    def names(self) -> list[str]:
        return sorted(path.stem for path in self.folders.bundles.glob("*.hvb") if path.is_symlink())

    def link(self, name: str) -> Path:
        return self.folders.bundles / f"{name}.hvb"

    def check_free(self, name: str) -> None:
        """Raises UsageError where a bundle that somebody copied there stands in the link's place."""
        link = self.link(name)
        if link.exists() and not link.is_symlink():
            raise UsageError(
                f"{link} was not deployed but copied there", do="delete it on the device, then deploy the bundle"
            )

    def current(self, name: str) -> str | None:
        """The version that the service would load now."""
        link = self.link(name)
        return link.readlink().name if link.is_symlink() else None

    def folder(self, name: str, version: str) -> Path:
        return self.folders.versions / name / version

    def unpack(self, header: Header, files: Mapping[str, bytes], release: bytes) -> str:
        """Write a version folder, whole and flushed before it gets its name. Returns the version."""
        version = f"{header.counter:010}-{header.digest[:12]}"
        parent, target = self.folders.versions / header.name, self.folder(header.name, version)
        if not parent.is_dir():
            parent.mkdir(mode=0o700)
            self._own(parent)
        while target.exists():  # never touched: the link may point to it
            version += "r"
            target = target.with_name(version)
        temporary = parent / f"{TEMPORARY}{version}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700)
        for name, data in {**files, RELEASE: release}.items():
            write_atomically(temporary / name, data)
            self._own(temporary / name)
        self._own(temporary)
        flush(temporary)
        temporary.rename(target)
        flush(parent)
        return version

    def switch(self, name: str, version: str | None) -> None:
        """Point the link at a version by one rename; None takes the link away."""
        link = self.link(name)
        if version is None:
            link.unlink(missing_ok=True)
        else:
            temporary = link.with_name(f".{link.name}.new")
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(Path("..") / "versions" / name / version)
            temporary.replace(link)
        flush(self.folders.bundles)

    def prune(self, name: str, keep: set[str | None]) -> None:
        """Delete every other version of a person, and what an interruption left behind."""
        parent = self.folders.versions / name
        for path in parent.iterdir() if parent.is_dir() else ():
            if path.name not in keep:
                shutil.rmtree(path)

    def _own(self, path: Path) -> None:
        """New files belong to the state folder's owner, the service's user; only root can arrange that."""
        if os.geteuid() == 0:
            owner = self.folders.state.stat()
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _taken(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def floor_key(device_id: str, name: str) -> str:
    return hashlib.sha256(f"{device_id}\0{name}".encode()).hexdigest()[:32]


def flush(path: Path) -> None:
    """Make what is in a file, or the renames in a folder, last through a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
