"""The workstation's signing keys: one PEM file a key, 0600, and the chain of updates that devices follow."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device.link.folders import config_folder
from device.link.trust import Keyring, identify, need_cryptography, public_bytes, signed_update
from toolkit.atomic import write_atomically
from toolkit.errors import ArtifactError, MissingError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CHAIN = "keyring.json"
Ask = Callable[[str], str]  # a question to a passphrase


def _no_terminal(question: str) -> str:
    raise UsageError(f"{question} is needed", do="set HYPERVERIFY_PASSPHRASE or run this in a terminal")


@dataclass(frozen=True)
class KeyStore:
    """Keys in `folder`. `ask` is called when a key file has a passphrase and the environment gives none."""

    folder: Path
    ask: Ask = _no_terminal

    def chain(self) -> list[dict[str, Any]]:
        """Every signed update from the first key on; empty before `new`."""
        return list(self._document()["updates"])

    def keyring(self) -> Keyring:
        """Where the chain ends. Raises MissingError before the first key, ArtifactError for a damaged chain."""
        updates = self.chain()
        if not updates:
            raise MissingError("there is no signing key yet", do="run `toolkit keys new`")
        first = json.loads(bytes.fromhex(updates[0]["keyring"]))
        keyring = Keyring.from_dict(first)
        for update in updates[1:]:
            keyring = keyring.advanced(update)
        return keyring

    def active_id(self) -> str:
        self.keyring()
        return str(self._document()["active"])

    def active(self) -> Ed25519PrivateKey:
        """The key that signs from now on."""
        return self._load(self.active_id())

    def new(self, passphrase: str = "") -> str:
        """The first key; its id. Raises UsageError if there is one."""
        if self.chain():
            raise UsageError(f"there is a signing key already in {self.folder}", do="run `toolkit keys rotate`")
        private = self._generate(passphrase)
        self._append(Keyring().with_key(public_bytes(private)), private, identify(public_bytes(private)))
        return self.active_id()

    def rotate(self, passphrase: str = "") -> str:
        """A new key that signs from now on, vouched for by the one before, which stays trusted until revoked."""
        old, keyring = self.active(), self.keyring()
        private = self._generate(passphrase)
        self._append(keyring.with_key(public_bytes(private)), old, identify(public_bytes(private)))
        return self.active_id()

    def revoke(self, key: str) -> None:
        """Devices refuse what `key` signed, once they have heard of it. Raises UsageError for the active key."""
        keyring, active = self.keyring(), self.active_id()
        if key not in keyring.trusted:
            raise UsageError("this key is not a trusted one", got=key, expected=" or ".join(keyring.trusted))
        if key == active:
            raise UsageError("the active key cannot revoke itself", do="run `toolkit keys rotate` first")
        self._append(keyring.without(key), self.active(), active)
        self._file(key).unlink(missing_ok=True)

    def _document(self) -> dict[str, Any]:
        path = self.folder / CHAIN
        if not path.exists():
            return {"schema_version": 1, "active": None, "updates": []}
        try:
            document: dict[str, Any] = json.loads(path.read_bytes())
            _ = document["active"], document["updates"][0]["keyring"]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise ArtifactError(
                f"{path} is damaged", got=type(error).__name__, do="restore your backup of it"
            ) from error
        return document

    def _append(self, keyring: Keyring, signer: Ed25519PrivateKey, active: str) -> None:
        updates = [*self.chain(), signed_update(keyring, signer)]
        document = {"schema_version": 1, "active": active, "updates": updates}
        write_atomically(self.folder / CHAIN, json.dumps(document, indent=1).encode())

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.pem"

    def _generate(self, passphrase: str) -> Ed25519PrivateKey:
        need_cryptography()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import (
            BestAvailableEncryption,
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        private = Ed25519PrivateKey.generate()
        how = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._file(identify(public_bytes(private)))
        write_atomically(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
        return private

    def _load(self, key: str) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        path = self._file(key)
        try:
            data, mode = path.read_bytes(), stat.S_IMODE(path.stat().st_mode)
        except OSError as error:
            raise MissingError(f"{path} cannot be read", got=error.strerror, do="restore your backup of it") from error
        if mode & 0o077:
            raise UsageError(f"{path} can be read by others", got=f"mode {mode:o}", do=f"run `chmod 600 {path}`")
        try:
            private = load_pem_private_key(data, self._passphrase(key) if b"ENCRYPTED" in data else None)
        except ValueError as error:
            raise UsageError(f"{path} does not open", do="check the passphrase") from error
        if not isinstance(private, Ed25519PrivateKey) or identify(public_bytes(private)) != key:
            raise ArtifactError(f"{path} is not the key {key}", do="restore your backup of it")
        return private

    def _passphrase(self, key: str) -> bytes:
        return (os.environ.get("HYPERVERIFY_PASSPHRASE") or self.ask(f"the passphrase of key {key}")).encode()


def own_keys(ask: Ask = _no_terminal) -> KeyStore:
    """Those of this user."""
    return KeyStore(config_folder() / "keys", ask)
