"""Whose signatures count: Ed25519 keys, and the chain of signed updates that tells a device which of them to accept.

Every signature is made over a purpose and a message, so that one made for one purpose is worth nothing for another.
Needs `cryptography`, on the device too: a device that cannot check a signature must not install anything.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from device.link import canonical
from toolkit.errors import ArtifactError, MissingError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PARCEL, KEYRING, RECEIPT = b"hyperverify parcel 1\0", b"hyperverify keyring 1\0", b"hyperverify receipt 1\0"
MAX_KEYS = 64


def need_cryptography() -> None:
    """Raises MissingError with the remedy."""
    try:
        import cryptography.hazmat.primitives.hpke  # noqa: F401
    except ImportError as error:
        raise MissingError(
            "signatures need the package cryptography, 50 or newer", do="run `pip install 'hyperverify[link]'`"
        ) from error


def identify(public: bytes) -> str:
    """Short name of a public key, for people and files: the first 64 bits of its SHA-256, in hexadecimal."""
    return hashlib.sha256(public).hexdigest()[:16]


def public_bytes(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def sign(private: Ed25519PrivateKey, purpose: bytes, message: bytes) -> bytes:
    return private.sign(purpose + message)


def is_signed(public: bytes, signature: bytes, purpose: bytes, message: bytes) -> bool:
    need_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, purpose + message)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True)
class Keyring:
    """The keys a device accepts. `serial` only grows; revoked ids never come back."""

    serial: int = 0
    trusted: dict[str, bytes] = field(default_factory=dict)  # key id → public key
    revoked: frozenset[str] = frozenset()

    def to_dict(self) -> dict[str, Any]:
        trusted = {key: public.hex() for key, public in self.trusted.items()}
        return {"schema_version": 1, "serial": self.serial, "trusted": trusted, "revoked": sorted(self.revoked)}

    @staticmethod
    def from_dict(document: dict[str, Any]) -> Keyring:
        """Raises ArtifactError."""
        try:
            trusted = {key: bytes.fromhex(public) for key, public in document["trusted"].items()}
            keyring = Keyring(document["serial"], trusted, frozenset(document["revoked"]))
            sound = (
                document["schema_version"] == 1
                and type(keyring.serial) is int
                and len(trusted) + len(keyring.revoked) <= MAX_KEYS
                and all(len(public) == 32 and identify(public) == key for key, public in trusted.items())
                and not keyring.revoked & set(trusted)
                and keyring.to_dict() == document
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError("a keyring is damaged", got=f"{type(error).__name__}: {error}") from error
        if not sound:
            raise ArtifactError("a keyring is damaged: its parts do not fit together")
        return keyring

    def check(self, key: str | None, signature: bytes, purpose: bytes, message: bytes, what: str) -> None:
        """Raises ArtifactError unless a trusted key signed the message."""
        remedy = "sign with a key that this device trusts: `toolkit keys show`"
        if key in self.revoked:
            raise ArtifactError(f"{what} is refused: its key {key} was revoked", do=remedy)
        if key is None or key not in self.trusted:
            raise ArtifactError(f"{what} is refused: this device was not provisioned with its key {key}", do=remedy)
        if not is_signed(self.trusted[key], signature, purpose, message):
            raise ArtifactError(f"{what} is refused: its signature is wrong", do="copy or pack it again")

    def advanced(self, update: dict[str, Any]) -> Keyring:
        """This keyring after one signed update; an update it already has changes nothing. Raises ArtifactError."""
        try:
            body = bytes.fromhex(update["keyring"])
            new = Keyring.from_dict(canonical.decode(body))
            key, signature = update["signed_by"], bytes.fromhex(update["signature"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError("a key update is damaged", got=f"{type(error).__name__}: {error}") from error
        if new.serial <= self.serial:
            return self
        self.check(key, signature, KEYRING, body, f"key update {new.serial}")
        if new.serial != self.serial + 1 or not self.revoked <= new.revoked:
            raise ArtifactError(f"key update {new.serial} does not follow number {self.serial}")
        return new

    def with_key(self, public: bytes) -> Keyring:
        return replace(self, serial=self.serial + 1, trusted={**self.trusted, identify(public): public})

    def without(self, key: str) -> Keyring:
        trusted = {k: public for k, public in self.trusted.items() if k != key}
        return replace(self, serial=self.serial + 1, trusted=trusted, revoked=self.revoked | {key})


def signed_update(keyring: Keyring, private: Ed25519PrivateKey) -> dict[str, Any]:
    """A keyring as the next link of the chain, signed by a key that devices already trust."""
    body = canonical.encode(keyring.to_dict())
    signature = sign(private, KEYRING, body)
    return {"keyring": body.hex(), "signed_by": identify(public_bytes(private)), "signature": signature.hex()}
