"""Who a device is, and whom it trusts: /etc/hyperverify/keys, written once by provisioning, then by signed updates.

device.key   X25519 (opens parcels) and Ed25519 (signs receipts), 0600; made on the device, or with its card
trust.json   the keyring, and whether plain parcels are taken (development)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device.link.folders import DeviceFolders
from device.link.trust import Keyring, identify, need_cryptography, public_bytes
from toolkit.atomic import write_atomically
from toolkit.errors import ArtifactError, MissingError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

DEVICE_KEY, TRUST = "device.key", "trust.json"


@dataclass(frozen=True)
class Identity:
    """A device's own keys. Its id is that of the sealing key."""

    sealing: X25519PrivateKey
    signing: Ed25519PrivateKey

    @property
    def sealing_public(self) -> bytes:
        return self.sealing.public_key().public_bytes_raw()

    @property
    def device_id(self) -> str:
        return identify(self.sealing_public)

    def public(self) -> dict[str, str]:
        """What a workstation keeps of a device."""
        return {
            "device_id": self.device_id,
            "sealing_key": self.sealing_public.hex(),
            "receipt_key": public_bytes(self.signing).hex(),
        }


@dataclass(frozen=True)
class Trust:
    """Whom the device believes."""

    keyring: Keyring
    development: bool  # takes plain parcels


def is_provisioned(folders: DeviceFolders) -> bool:
    return (folders.keys / TRUST).is_file()


def provision(folders: DeviceFolders, keyring: Keyring, *, development: bool = False) -> Identity:
    """Make the device's keys and tell it whom to trust; once. Raises UsageError if it trusts somebody already."""
    if is_provisioned(folders):
        known = read_trust(folders).keyring
        if keyring.serial and not set(keyring.trusted) & set(known.trusted):
            raise UsageError(
                "this device was provisioned with other keys", got=" ".join(known.trusted),
                expected=" ".join(keyring.trusted), do=f"to start anew, delete {folders.keys} on the device",
            )  # fmt: skip
        return read_identity(folders)
    folders.settings.mkdir(mode=0o755, parents=True, exist_ok=True)
    folders.keys.mkdir(mode=0o700, exist_ok=True)
    identity = read_identity(folders) if (folders.keys / DEVICE_KEY).exists() else _new_identity(folders.keys)
    write_trust(folders, Trust(keyring, development))
    return identity


def _new_identity(folder: Path) -> Identity:
    need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    identity = Identity(X25519PrivateKey.generate(), Ed25519PrivateKey.generate())
    document = {
        "schema_version": 1,
        "sealing": identity.sealing.private_bytes_raw().hex(),
        "signing": identity.signing.private_bytes_raw().hex(),
    }
    write_atomically(folder / DEVICE_KEY, json.dumps(document).encode())
    return identity


def read_identity(folders: DeviceFolders) -> Identity:
    """Raises MissingError (not provisioned) or ArtifactError (damaged)."""
    document = _read(folders.keys / DEVICE_KEY)
    need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    try:
        sealing = X25519PrivateKey.from_private_bytes(bytes.fromhex(document["sealing"]))
        return Identity(sealing, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(document["signing"])))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folders.keys / DEVICE_KEY} is damaged", do="provision the device anew") from error


def read_trust(folders: DeviceFolders) -> Trust:
    """Raises MissingError (not provisioned) or ArtifactError (damaged)."""
    document = _read(folders.keys / TRUST)
    try:
        return Trust(Keyring.from_dict(document["keyring"]), document["development"] is True)
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{folders.keys / TRUST} is damaged", do="provision the device anew") from error


def write_trust(folders: DeviceFolders, trust: Trust) -> None:
    document = {"schema_version": 1, "keyring": trust.keyring.to_dict(), "development": trust.development}
    write_atomically(folders.keys / TRUST, json.dumps(document, indent=1).encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingError(
            "this device is not provisioned", do="run `toolkit devices provision HOST` on the workstation"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged", do="provision the device anew") from error
    if not isinstance(document, dict):
        raise ArtifactError(f"{path} is damaged", do="provision the device anew")
    return document
