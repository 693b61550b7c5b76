"""Parcels on the workstation: from a bundle's folder, or a parcel made before, to what one device is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from device.link.folders import cache_folder
from device.link.golden import GOLDEN, write_golden
from device.link.inventory import Device
from device.link.keystore import KeyStore
from device.link.parcel import SUFFIX, content_digest, read_parcel
from device.link.releases import release_for
from device.link.seal import Release, bundle_files, pack_plain, pack_sealed
from export.manifest import MANIFEST, open_bundle
from toolkit.atomic import write_atomically


@dataclass(frozen=True)
class Goods:
    """What to deploy: a bundle to be signed, or a parcel that somebody signed already."""

    path: Path
    keys: KeyStore

    @property
    def ready(self) -> bool:
        return self.path.suffix == SUFFIX

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """The bundle's files and golden.json, checked."""
        return {**bundle_files(self.path), GOLDEN: self._golden()}

    @cached_property
    def name(self) -> str:
        return read_parcel(self.path).header.name if self.ready else open_bundle(self.path).name

    @cached_property
    def digest(self) -> str:
        if self.ready:
            return read_parcel(self.path).header.digest
        return content_digest({name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()})

    @cached_property
    def size_bytes(self) -> int:
        return self.path.stat().st_size if self.ready else sum(map(len, self.files.values()))

    def _golden(self) -> bytes:
        """Worked out once for a bundle: it takes the integer reference some time."""
        key = hashlib.sha256((self.path / MANIFEST).read_bytes()).hexdigest()
        kept = cache_folder() / "golden" / f"{key}.json"
        if not kept.exists():
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(kept, write_golden(self.path))
        return kept.read_bytes()

    def parcel(self, device: Device, floor: int, *, plain: bool = False, allow_older: bool = False) -> Path:
        """The file to send. Kept until it is installed, for a broken upload to go on: sealing again would differ."""
        if self.ready:
            return self.path
        release = release_for(self.name, self.digest, floor)
        if allow_older and release.counter < floor:
            release = replace(release, replaces=floor)
        signer = "plain" if plain else self.keys.active_id()
        key = f"{signer}-{device.device_id}-{release.counter}-{release.replaces}-{self.digest[:32]}"
        kept = cache_folder() / "parcels" / f"{key}{SUFFIX}"
        if not kept.exists():
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(kept, self._packed(device, release, plain))
        return kept

    def _packed(self, device: Device, release: Release, plain: bool) -> bytes:
        if plain:
            return pack_plain(self.files, release)
        return pack_sealed(self.files, release, self.keys.active(), bytes.fromhex(device.sealing_key))

    def installed(self, parcel: Path) -> None:
        """Forget the copy that was kept for a resume."""
        if not self.ready:
            parcel.unlink(missing_ok=True)
