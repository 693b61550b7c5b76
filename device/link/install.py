"""Install, confirm, roll back and remove on the device; every step can be cut off, and the next call mends it.

    verify ─▶ unseal ─▶ unpack beside ─▶ self-test there ─▶ note the switch ─▶ switch ─▶ restart ─▶ confirm
                                                                     └── killed here: `recover` confirms or undoes it

A version is on disk, verified and self-tested before the link may point to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from device.link.folders import DeviceFolders
from device.link.golden import self_test
from device.link.identity import Identity, read_identity, read_trust, write_trust
from device.link.parcel import SIGNATURE_BYTES, Header, Parcel, read_parcel, signed_header
from device.link.seal import unseal, verify
from device.link.service import Service
from device.link.store import RELEASE, State, VersionStore, floor_key
from device.link.trust import PARCEL
from export.manifest import check_name
from toolkit.errors import ArtifactError, HyperverifyError, InputError, LinkError

SelfTest = Callable[[Path], dict[str, Any]]


class Installer:
    """What a device does with parcels."""

    def __init__(self, folders: DeviceFolders, test: SelfTest = self_test, service: Service | None = None):
        self.folders, self.test, self.service = folders, test, service or Service()
        self.store = VersionStore(folders)

    def identity(self) -> Identity:
        return read_identity(self.folders)

    def update_trust(self, chain: list[dict[str, Any]]) -> int:
        """Follow the chain of signed key updates; the serial reached. Raises ArtifactError."""
        trust = read_trust(self.folders)
        keyring = trust.keyring
        for update in chain:
            keyring = keyring.advanced(update)
        if keyring != trust.keyring:
            write_trust(self.folders, replace(trust, keyring=keyring))
        return keyring.serial

    def check(self, parcel: Parcel) -> None:
        """Everything that can be said without opening the payload. Raises ArtifactError with the reason."""
        trust = read_trust(self.folders)
        verify(parcel, trust.keyring, self.identity().device_id, allow_plain=trust.development)
        self._check_counter(parcel.header, self.store.read_state())

    def _check_counter(self, header: Header, state: State) -> None:
        floor = state.floors.get(floor_key(self.identity().device_id, header.name))
        if floor is None or header.counter > floor["counter"]:
            return
        if header.counter == floor["counter"] and header.digest == floor["digest"]:
            return
        if header.replaces is None or header.replaces != floor["counter"]:
            raise ArtifactError(
                f"this release of {header.name} is refused: the device has had a newer one", got=header.counter,
                expected=f"more than {floor['counter']}", do="deploy the newest, or sign an exception: --allow-older",
            )  # fmt: skip

    def install(self, path: Path) -> dict[str, Any]:
        """Verify, unpack, self-test, switch, restart, confirm. Raises a HyperverifyError; then the old version runs."""
        self.store.prepare()
        with self.store.locked():
            self._recover()
            parcel = read_parcel(path)
            self.check(parcel)
            header = parcel.header
            self.store.check_free(header.name)
            if self._runs(header):
                return {"name": header.name, "version": self.store.current(header.name), "changed": False}
            files = unseal(parcel, self.identity().sealing)
            version = self.store.unpack(header, files, parcel.signature + parcel.signed)
            report = self._self_test(header.name, version)
            service = self._switch(header.name, version)
            return {"name": header.name, "version": version, "changed": True, "self_test": report, "service": service}

    def _runs(self, header: Header) -> bool:
        version = self.store.current(header.name)
        release = self._release(header.name, version)
        same = release is not None and (release.counter, release.digest) == (header.counter, header.digest)
        return same and self._health(header.name, version) == "ok"

    def _self_test(self, name: str, version: str) -> dict[str, Any]:
        try:
            return self.test(self.store.folder(name, version))
        except Exception:
            shutil.rmtree(self.store.folder(name, version), ignore_errors=True)
            raise

    def _switch(self, name: str, version: str) -> str:
        """Note, switch, restart, confirm; what the service says. Raises LinkError after rolling back."""
        state, old, ran = self.store.read_state(), self.store.current(name), self.service.active()
        self.store.write_state(replace(state, pending={"name": name, "new": version, "old": old, "ran": ran}))
        self.store.switch(name, version)
        problem = self.service.restart()
        if problem and ran:
            self._undo(problem)
        self._confirm()
        return problem or self.service.describe()

    def _confirm(self) -> None:
        state = self.store.read_state()
        assert state.pending is not None
        name, new, old = (state.pending[key] for key in ("name", "new", "old"))
        release = self._release(name, new)
        if release is None:
            raise ArtifactError(f"the version {new} of {name} has no readable release", do="deploy the bundle again")
        floor = {"counter": release.counter, "digest": release.digest}
        known = state.floors.setdefault(floor_key(self.identity().device_id, name), floor)
        if release.counter >= known["counter"]:
            known.update(floor)
        if old is not None and old != new:
            state.previous[name] = old
        self.store.write_state(replace(state, pending=None))
        self.store.prune(name, {new, state.previous.get(name)})

    def _undo(self, problem: str) -> None:
        state = self.store.read_state()
        assert state.pending is not None
        name, new, old = (state.pending[key] for key in ("name", "new", "old"))
        self.store.switch(name, old)
        self.service.restart()
        self.store.write_state(replace(state, pending=None))
        self.store.prune(name, {old, state.previous.get(name)})
        raise LinkError(
            f"{new} of {name} was rolled back: {problem}", got=self.service.describe(),
            do="read `journalctl -u hyperverify` on the device",
        )  # fmt: skip

    def recover(self) -> None:
        """Mend what an interruption left: confirm a switch whose version passes its self-test, else undo it."""
        self.store.prepare()
        with self.store.locked():
            self._recover()
            self.store.clear_temporary()
            for part in self.folders.incoming.iterdir():
                with contextlib.suppress(HyperverifyError):  # not whole yet: kept for a resume
                    if self._runs(read_parcel(part).header):
                        part.unlink()

    def _recover(self) -> None:
        state = self.store.read_state()
        if state.pending is None:
            return
        name, new = state.pending["name"], state.pending["new"]
        if self.store.current(name) != new:  # cut off before the switch, or while it was undone
            self.service.restart()
            self.store.write_state(replace(state, pending=None))
            return
        if problem := self._problem(name, new, state.pending.get("ran", False)):
            with contextlib.suppress(LinkError):
                self._undo(problem)
        else:
            self._confirm()

    def _problem(self, name: str, version: str, ran: bool) -> str:
        """Why a version in its place must not stay there, or nothing."""
        try:
            self.test(self.store.folder(name, version))
        except HyperverifyError as error:
            return str(error)
        problem = self.service.restart()
        return problem if ran else ""

    def test_everybody(self) -> None:
        """The self-test of every version in use. Raises a HyperverifyError."""
        for name in self.store.names():
            self.test(self.store.link(name).resolve())

    def restart_service(self) -> None:
        """Raises LinkError when it ran and does not any more."""
        if self.service.active() and (problem := self.service.restart()):
            raise LinkError(problem, do="read `journalctl -u hyperverify` on the device")

    def rollback(self, name: str) -> dict[str, Any]:
        """Back to the version before. Raises InputError (unknown name, nothing to return to), ArtifactError."""
        self._known(name)
        with self.store.locked():
            self._recover()
            old = self.store.read_state().previous.get(name)
            if old is None or not self.store.folder(name, old).is_dir():
                raise InputError(f"there is no earlier version of {name} on this device", do="deploy one")
            if (problem := self._health(name, old)) != "ok":
                raise ArtifactError(f"the earlier version of {name} is refused: {problem}", do="deploy one")
            report = self.test(self.store.folder(name, old))
            service = self._switch(name, old)
            return {"name": name, "version": old, "changed": True, "self_test": report, "service": service}

    def remove(self, name: str, nonce: str) -> dict[str, Any]:
        """Take a person off the device and look for what is left. Returns a receipt's content."""
        check_name(name)
        self.store.prepare()
        with self.store.locked():
            self._recover()
            state = self.store.read_state()
            hashes = self._template_hashes(name)
            self.store.switch(name, None)
            service = self.service.restart()
            shutil.rmtree(self.folders.versions / name, ignore_errors=True)
            for part in self.folders.incoming.iterdir():
                part.unlink()
            state.previous.pop(name, None)
            self.store.write_state(state)
            left = self._search(name, hashes)
        if left:
            raise LinkError(f"{name} is not gone from the device", got=", ".join(left), do="repeat, and check the card")
        return {"name": name, "device_id": self.identity().device_id, "nonce": nonce, "files_removed": len(hashes),
                "sha256": sorted(hashes), "left": left, "service": service or self.service.describe()}  # fmt: skip

    def _template_hashes(self, name: str) -> list[str]:
        """SHA-256 of every file of every version, except of those that other people's bundles hold as well."""
        mine = {sha256_of(p) for p in (self.folders.versions / name).rglob("*") if p.is_file()}
        others = {
            sha256_of(p)
            for folder in self.folders.versions.iterdir() if folder.name != name
            for p in folder.rglob("*") if p.is_file()
        }  # fmt: skip
        return sorted(mine - others)

    def _search(self, name: str, hashes: list[str]) -> list[str]:
        """Files below the state folder that still hold any of it, by content or by name."""
        left = []
        for path in self.folders.state.rglob("*"):
            inside = path.relative_to(self.folders.state)
            named = name in inside.parts or f"{name}.hvb" in inside.parts
            if named or (path.is_file() and not path.is_symlink() and sha256_of(path) in hashes):
                left.append(str(inside))
        return left

    def inventory(self) -> list[dict[str, Any]]:
        """Every person on the device: version, counter, digest, and whether all of it is still as it was signed."""
        rows = []
        for name in self.store.names():
            version = self.store.current(name)
            release = self._release(name, version)
            rows.append({
                "name": name, "version": version, "counter": release.counter if release else None,
                "digest": release.digest if release else None, "plain": release.plain if release else None,
                "previous": self.store.read_state().previous.get(name), "health": self._health(name, version),
            })  # fmt: skip
        return rows

    def _health(self, name: str, version: str | None) -> str:
        """ "ok", or what is wrong: signature, key or a changed file."""
        release = self._release(name, version)
        if release is None or version is None:
            return "its release cannot be read"
        folder, trust = self.store.folder(name, version), read_trust(self.folders)
        for entry in release.files:
            path = folder / entry.name
            if not path.is_file() or sha256_of(path) != entry.sha256:
                return f"{entry.name} was changed or is missing"
        if release.plain:
            return "ok" if trust.development else "plain"
        data = (folder / RELEASE).read_bytes()
        try:
            signature, signed = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
            trust.keyring.check(release.signed_by, signature, PARCEL, signed, "the release")
        except ArtifactError as error:
            return str(error.what)
        return "ok"

    def _release(self, name: str, version: str | None) -> Header | None:
        if version is None:
            return None
        try:
            data = (self.store.folder(name, version) / RELEASE).read_bytes()
            return signed_header(data[SIGNATURE_BYTES:])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, HyperverifyError):
            return None

    def _known(self, name: str) -> None:
        self.store.prepare()
        if name not in self.store.names():
            raise InputError(f"{name} is not on this device", got=", ".join(self.store.names()) or "nobody")


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
