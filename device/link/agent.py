"""The device's end of a link: answers requests, one JSON line each, until its input ends.

    → {"op": "hello", ...}                     ← {"ok": {...}}
    → {"op": "data", "bytes": N, ...} N bytes  ← {"error": {"type", "message", "exit_code"}}

It runs as long as one connection does: no port, no daemon, no rights but those of the account that logged in.
"""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import IO, Any

from device.link.folders import DeviceFolders
from device.link.identity import is_provisioned, provision, read_identity, read_trust
from device.link.install import Installer, sha256_of
from device.link.parcel import MAX_CONTENT_BYTES, MAX_HEADER_BYTES
from device.link.preflight import examine
from device.link.store import floor_key
from device.link.trust import RECEIPT, Keyring, sign
from toolkit import __version__
from toolkit.errors import ArtifactError, HyperverifyError, InputError, LinkError, UsageError

GREETING = b"HYPERVERIFY-LINK 1\n"
MAX_LINE_BYTES = 1 << 20
MAX_PARCEL_BYTES = MAX_CONTENT_BYTES + MAX_HEADER_BYTES + 1024
CHUNK_BYTES = 1 << 16
PARTS = 4  # unfinished uploads that are kept for a resume
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Agent:
    """One device, reached by one connection."""

    def __init__(self, folders: DeviceFolders, installer: Installer | None = None):
        self.folders, self.installer = folders, installer or Installer(folders)

    def serve(self, requests: IO[bytes], replies: IO[bytes]) -> None:
        replies.write(GREETING)
        replies.flush()
        while line := requests.readline(MAX_LINE_BYTES):
            reply: dict[str, Any]
            try:
                reply = {"ok": self._answer(line, requests)}
            except HyperverifyError as error:
                reply = {"error": _described(error)}
            except OSError as error:
                reply = {"error": _described(_explained(error))}
            replies.write(json.dumps(reply).encode() + b"\n")
            replies.flush()

    def _answer(self, line: bytes, requests: IO[bytes]) -> Any:
        try:
            request = json.loads(line)
            operation = request.pop("op")
            handler = getattr(self, f"do_{operation}")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise LinkError("the device does not know this request", do="update hyperverify on both ends") from error
        try:
            return handler(requests, **request) if operation == "data" else handler(**request)
        except TypeError as error:
            raise LinkError(
                "the device does not understand this request", got=str(error), do="update hyperverify on both ends"
            ) from error

    def do_hello(self, names: list[str], time_s: float, need_bytes: int = 0) -> dict[str, Any]:
        """Who this is, what it has, and what stands in the way of a deploy."""
        facts: dict[str, Any] = {"version": __version__, "provisioned": is_provisioned(self.folders)}
        facts["checks"] = examine(self.folders, time_s, need_bytes)
        if not facts["provisioned"] or any(check["status"] == "failed" for check in facts["checks"]):
            return facts
        self.installer.recover()
        facts |= {"device_id": read_identity(self.folders).device_id, "serial": read_trust(self.folders).keyring.serial}
        facts["development"] = read_trust(self.folders).development
        state = self.installer.store.read_state()
        floors = (state.floors.get(floor_key(facts["device_id"], name)) for name in names)
        facts["floors"] = [floor["counter"] if floor else 0 for floor in floors]
        facts["people"] = [row for row in self.installer.inventory() if not names or row["name"] in names]
        facts["service"] = self.installer.service.describe()
        return facts

    def do_provision(self, keyring: dict[str, Any], development: bool) -> dict[str, str]:
        return provision(self.folders, Keyring.from_dict(keyring), development=development).public()

    def do_trust(self, chain: list[dict[str, Any]]) -> int:
        return self.installer.update_trust(chain)

    def do_begin(self, sha256: str) -> int:
        """How many bytes of this parcel are here already."""
        self.installer.store.prepare()
        part = self._part(sha256)
        kept = sorted(self.folders.incoming.iterdir(), key=lambda p: p.stat().st_mtime)
        for old in kept[: max(0, len(kept) - PARTS + 1)]:
            if old != part:
                old.unlink()
        return part.stat().st_size if part.exists() else 0

    def do_data(self, requests: IO[bytes], sha256: str, offset: int, bytes: int) -> int:
        """Append what follows the request. What arrived before a cut stays, for a resume."""
        part, left = self._part(sha256), bytes
        if offset + bytes > MAX_PARCEL_BYTES:
            raise ArtifactError("this parcel is too large", got=f"{offset + bytes} bytes", expected=MAX_PARCEL_BYTES)
        problem: OSError | None = None
        with part.open("ab") as stream:
            if stream.tell() != offset:
                raise LinkError("this upload does not continue the one before", got=offset, expected=stream.tell())
            part.chmod(0o600)
            while left and (chunk := requests.read1(min(left, CHUNK_BYTES))):  # type: ignore[attr-defined]
                left -= len(chunk)
                problem = problem or _write(stream, chunk)
        if problem:
            part.unlink(missing_ok=True)  # a full card must not stay full
            raise problem
        return offset + bytes - left

    def do_install(self, sha256: str) -> dict[str, Any]:
        part = self._part(sha256)
        if not part.is_file() or sha256_of(part) != sha256:
            part.unlink(missing_ok=True)
            raise LinkError("the parcel did not arrive as it was sent", do="repeat the deploy")
        try:
            done = self.installer.install(part)
        except ArtifactError:
            part.unlink()
            raise
        part.unlink()
        return done

    def do_bench(self, name: str, digest: str, runs: int, threads: int, sustain_s: float = 0.0) -> dict[str, Any]:
        """Measure the deployed bundle, if it is the one meant."""
        from benchmarks.on_device import measure_bundle

        there = next((row for row in self.installer.inventory() if row["name"] == name), None)
        if there is None or there["digest"] != digest:
            got = "another release" if there else "no such person"
            raise InputError(f"this bundle of {name} is not on the device", got=got, do="deploy it first")
        return measure_bundle(self.installer.store.link(name).resolve(), runs, threads, sustain_s)

    def do_rollback(self, name: str) -> dict[str, Any]:
        return self.installer.rollback(name)

    def do_remove(self, name: str, nonce: str) -> dict[str, Any]:
        """The receipt and its signature by the device's own key."""
        receipt = json.dumps(self.installer.remove(name, nonce), sort_keys=True)
        signature = sign(read_identity(self.folders).signing, RECEIPT, receipt.encode())
        return {"receipt": receipt, "signature": signature.hex()}

    def _part(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise UsageError("this is no SHA-256", got=repr(sha256)[:80])
        return self.folders.incoming / f"{sha256}.part"


def _write(stream: IO[bytes], chunk: bytes) -> OSError | None:
    """Keep reading after a failed write, so that the reply is not lost in unread data."""
    try:
        stream.write(chunk)
        stream.flush()
    except OSError as error:
        return error
    return None


def _explained(error: OSError) -> HyperverifyError:
    remedies = {
        errno.ENOSPC: "free some space on the device",
        errno.EROFS: "the card is read-only: check it, and remount it writable",
        errno.EACCES: "log in as root or as an account with sudo without password",
    }
    number = error.errno or 0
    return LinkError(
        f"the device cannot write {error.filename or 'its files'}", got=error.strerror, do=remedies.get(number, "")
    )


def _described(error: HyperverifyError) -> dict[str, Any]:
    return {"type": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
