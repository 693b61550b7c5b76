"""Make parcels, and open them: sign and seal on the workstation, verify and unseal on the device.

Sealing is HPKE (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305), bound to everything the header says. The signature
covers the sealed bytes, so a device refuses a stranger's parcel before it decrypts anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device.link.parcel import SEALING_BYTES, SIGNATURE_BYTES, Entry, Header, Parcel, signed_part, split
from device.link.trust import PARCEL, Keyring, identify, need_cryptography, public_bytes, sign
from toolkit.errors import ArtifactError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey


def _suite() -> Any:
    need_cryptography()
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


@dataclass(frozen=True)
class Release:
    """Which version of whose bundle this is, and whether it may take the place of a newer one."""

    name: str
    counter: int
    replaces: int | None = None


def pack_plain(files: Mapping[str, bytes], release: Release) -> bytes:
    """An unsigned, unsealed parcel, for development. Only a device provisioned for development takes it."""
    content = b"".join(files.values())
    header = _header(files, release, None, None, len(content))
    header = replace(header, payload_sha256=hashlib.sha256(content).hexdigest())
    return signed_part(header) + bytes(SIGNATURE_BYTES) + content


def pack_sealed(files: Mapping[str, bytes], release: Release, private: Ed25519PrivateKey, recipient: bytes) -> bytes:
    """A parcel that only the device of the X25519 public key `recipient` can open. Differs each time it is made."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    suite, content = _suite(), b"".join(files.values())
    signer = identify(public_bytes(private))
    header = _header(files, release, signer, identify(recipient), len(content) + SEALING_BYTES)
    payload = suite.encrypt(content, X25519PublicKey.from_public_bytes(recipient), info=PARCEL + header.context())
    header = replace(header, payload_sha256=hashlib.sha256(payload).hexdigest())
    signed = signed_part(header)
    return bytes(signed + sign(private, PARCEL, signed) + payload)


def _header(
    files: Mapping[str, bytes], release: Release, signed_by: str | None, sealed_for: str | None, payload_bytes: int
) -> Header:
    entries = tuple(Entry(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items())
    return Header(
        release.name, release.counter, entries, payload_bytes, "0" * 64, signed_by, sealed_for, release.replaces
    )


def verify(parcel: Parcel, keyring: Keyring, device_id: str, *, allow_plain: bool = False) -> None:
    """Signature, signer and recipient; the payload is not touched. Raises ArtifactError with the reason."""
    header, what = parcel.header, f"the parcel {parcel.path.name}"
    if header.plain:
        if not allow_plain:
            raise ArtifactError(
                f"{what} is refused: it is plain, neither signed nor sealed",
                do="sign it, or provision the device with --development",
            )
        if parcel.signature != bytes(SIGNATURE_BYTES):
            raise ArtifactError(f"{what} is refused: a plain parcel has no signature", do="pack it again")
        return
    keyring.check(header.signed_by, parcel.signature, PARCEL, parcel.signed, what)
    if header.sealed_for != device_id:
        raise ArtifactError(
            f"{what} is refused: it is sealed for another device", got=header.sealed_for, expected=device_id,
            do="pack it for this device",
        )  # fmt: skip


def unseal(parcel: Parcel, private: X25519PrivateKey | None) -> dict[str, bytes]:
    """File name → content, each checked against its hash. Call `verify` first. Raises ArtifactError."""
    payload = parcel.payload()
    if parcel.header.plain:
        return split(parcel.header, payload)
    suite = _suite()
    with _unopenable(parcel):
        content = suite.decrypt(payload, private, info=PARCEL + parcel.header.context())
    return split(parcel.header, content)


@contextmanager
def _unopenable(parcel: Parcel) -> Iterator[None]:
    from cryptography.exceptions import InvalidTag

    try:
        yield
    except (InvalidTag, ValueError) as error:
        raise ArtifactError(
            f"the parcel {parcel.path.name} is refused: this device's key does not open it", do="pack it again"
        ) from error


def bundle_files(folder: Path) -> dict[str, bytes]:
    """Every file of a bundle by name, each checked against the manifest. Raises InputError or ArtifactError."""
    from export.manifest import MANIFEST, open_bundle

    bundle = open_bundle(folder)
    files = {name: bundle.read(name) for name in sorted(bundle.manifest["files"])}
    return {MANIFEST: (folder / MANIFEST).read_bytes(), **files}
