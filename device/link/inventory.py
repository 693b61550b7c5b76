"""The devices this workstation knows: their keys, learnt when they were provisioned, and never from anywhere else."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from device.link.folders import config_folder
from device.link.trust import identify
from toolkit.atomic import write_atomically
from toolkit.errors import ArtifactError, MissingError

DEVICES = "devices.json"


@dataclass(frozen=True)
class Device:
    """What is kept of a device. `sealing_key` and `receipt_key` are public keys in hexadecimal."""

    host: str
    device_id: str
    sealing_key: str
    receipt_key: str


class Inventory:
    """devices.json in the configuration folder."""

    def __init__(self, folder: Path | None = None):
        self.folder = config_folder() if folder is None else folder

    def all(self) -> dict[str, Device]:
        """Host → device. Raises ArtifactError for a damaged file."""
        path = self.folder / DEVICES
        if not path.exists():
            return {}
        try:
            rows = json.loads(path.read_bytes())["devices"]
            devices = {row["host"]: Device(**row) for row in rows}
            if any(identify(bytes.fromhex(d.sealing_key)) != d.device_id for d in devices.values()):
                raise ValueError("an id is not that of its key")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtifactError(f"{path} is damaged", got=str(error), do="restore your backup of it") from error
        return devices

    def find(self, host: str) -> Device:
        """By host or by device id. Raises MissingError."""
        devices = self.all()
        for device in devices.values():
            if host in (device.host, device.device_id):
                return device
        raise MissingError(
            f"{host} is not a device of this workstation", got=", ".join(devices) or "none",
            do=f"run `toolkit devices provision {host}`",
        )  # fmt: skip

    def add(self, device: Device) -> None:
        with self._locked() as devices:
            devices[device.host] = device

    def forget(self, host: str) -> None:
        """Raises MissingError."""
        self.find(host)
        with self._locked() as devices:
            devices.pop(host)

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Device]]:
        """Read, change and write in one turn, however many provisionings run at once."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / f".{DEVICES}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            devices = self.all()
            yield devices
            document = {"schema_version": 1, "devices": [asdict(devices[host]) for host in sorted(devices)]}
            write_atomically(self.folder / DEVICES, json.dumps(document, indent=1).encode())
