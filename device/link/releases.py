"""Which counter each person's bundle was released under: the workstation's side of the protection against rollback."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

from device.link.folders import config_folder
from device.link.seal import Release
from toolkit.atomic import write_atomically
from toolkit.errors import ArtifactError

RELEASES = "releases.json"


def release_for(name: str, digest: str, floor: int = 0, folder: Path | None = None) -> Release:
    """The counter of this content: the one it was given before, else one more than any before and than `floor`.

    `floor` is the newest counter that a device has had, perhaps from another workstation.
    """
    folder = config_folder() if folder is None else folder
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / f".{RELEASES}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        document = _read(folder / RELEASES)
        known: dict[str, int] = document["releases"].setdefault(name, {})
        if digest not in known:
            known[digest] = max(floor, *known.values(), 0) + 1
            write_atomically(folder / RELEASES, json.dumps(document, indent=1).encode())
        return Release(name, known[digest])


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"schema_version": 1, "releases": {}}
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        sound = all(type(n) is int for known in document["releases"].values() for n in known.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged", got=type(error).__name__, do="restore your backup of it") from error
    if not sound:
        raise ArtifactError(f"{path} is damaged", do="restore your backup of it")
    return document
