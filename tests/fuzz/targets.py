"""What parses bytes that somebody else may have written, each as one function of bytes that must not fail.

Each may refuse with one of our own errors, and do nothing else: no other exception, no change to a file outside of the
folder that it works in (an audit hook watches), no more memory than the limits allow.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from link_support import FILES, World, new_world

from device.link.agent import Agent
from device.link.identity import Trust, write_trust
from device.link.install import Installer
from device.link.parcel import MAGIC, SIGNATURE_BYTES, parse_header, read_parcel
from device.link.seal import Release, pack_plain
from device.link.service import NoService
from device.link.trust import Keyring
from device.link.wheelhouse import INDEX, read_wheelhouse
from device.settings import parse_settings
from export.manifest import MANIFEST, manifest_bytes, open_bundle
from models.spec import DEFAULT_SPEC
from toolkit.errors import HyperverifyError

# Audit events that change files: where in their arguments the changed paths stand, each with the folder it is below (an
# open one's descriptor, or -1), if the event tells one.
BOTH_ENDS = ((0, 2), (1, 3))
CHANGES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "open": ((0, None),), "os.rename": BOTH_ENDS, "os.link": BOTH_ENDS, "os.symlink": ((1, 2),), "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),), "os.mkdir": ((0, 2),), "os.chmod": ((0, 2),), "os.chown": ((0, 3),),
}  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class WroteOutside(BaseException):
    """Never caught on the way: it is the finding."""


class Bench:
    """A development device below one folder, and the watch over everything outside of it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.world: World = new_world(folder)
        write_trust(self.world.folders, Trust(self.world.keys.keyring(), development=True))
        self.watching = False
        self.watched_runs = 0
        sys.addaudithook(self._watch)

    @property
    def installer(self) -> Installer:
        return Installer(self.world.folders, lambda folder: {}, NoService())

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        self.watching = True
        self.watched_runs += 1
        try:
            with contextlib.suppress(HyperverifyError):
                yield
        finally:
            self.watching = False

    def _watch(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.watching or event not in CHANGES:
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & WRITING):
            return
        for at, below in CHANGES[event]:
            folder_fd = -1 if below is None else args[below]
            if not isinstance(args[at], int) and not self._inside(_absolute(args[at], folder_fd)):
                raise WroteOutside(f"{event} {args[at]!r}")

    def _inside(self, path: Path) -> bool:
        """Where its folder really is; the last part may be a link that is replaced, not followed."""
        return path.parent.resolve().is_relative_to(self.folder)


def _absolute(path: str | bytes, folder_fd: int) -> Path:
    """A path as the call means it, which may be relative to an open folder: rmtree works so."""
    base = Path(f"/proc/self/fd/{folder_fd}").readlink() if folder_fd >= 0 else Path.cwd()
    return base / os.fsdecode(path)


def parcel(bench: Bench, data: bytes) -> None:
    """A whole file, as it stands."""
    path = bench.folder / "any.hvp"
    path.write_bytes(data)
    with bench.watched():
        bench.installer.install(path)


def header(bench: Bench, data: bytes) -> None:
    """A plain parcel whose sizes and hashes were mended, so that it gets to the files' names and beyond."""
    path = bench.folder / "any.hvp"
    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError, ArithmeticError):
        document = json.loads(data)
        content = b"x" * min(sum(row[1] for row in document["files"]), 1 << 16)
        at = 0
        for row in document["files"]:
            row[2] = hashlib.sha256(content[at : at + row[1]]).hexdigest()
            at += row[1]
        document |= {"payload_bytes": len(content), "payload_sha256": hashlib.sha256(content).hexdigest(),
                     "counter": 1 + document["counter"] % 1000}  # fmt: skip
        data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + content
        body = data[: len(data) - len(content)]
        path.write_bytes(MAGIC + len(body).to_bytes(4, "big") + body + bytes(SIGNATURE_BYTES) + content)
        with bench.watched():
            bench.installer.install(path)
        shutil.rmtree(bench.world.folders.state, ignore_errors=True)


def manifest(bench: Bench, data: bytes) -> None:
    folder = bench.folder / "any.hvb"
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_bytes(data)
    with bench.watched():
        bundle = open_bundle(folder)
        for name in bundle.manifest["files"]:
            with contextlib.suppress(HyperverifyError):
                bundle.read(name)


def requests(bench: Bench, data: bytes) -> None:
    """What a device is asked, line by line."""
    agent = Agent(bench.world.folders, bench.installer)
    with bench.watched():
        agent.serve(io.BufferedReader(io.BytesIO(data)), io.BytesIO())  # type: ignore[arg-type]


def keyring(bench: Bench, data: bytes) -> None:
    with bench.watched(), contextlib.suppress(ValueError):
        document = json.loads(data)
        with contextlib.suppress(HyperverifyError):
            Keyring.from_dict(document)
        bench.installer.update_trust(document if isinstance(document, list) else [document])


def wheelhouse(bench: Bench, data: bytes) -> None:
    folder = bench.folder / "house"
    folder.mkdir(exist_ok=True)
    (folder / INDEX).write_bytes(data)
    with bench.watched():
        read_wheelhouse(folder)


def settings(bench: Bench, data: bytes) -> None:
    with bench.watched():
        parse_settings(data, "any")


Target = Callable[[Bench, bytes], None]
TARGETS: dict[str, Target] = {
    f.__name__: f for f in (parcel, header, manifest, requests, keyring, wheelhouse, settings)
}


def seeds(bench: Bench) -> dict[str, list[bytes]]:
    """Sound inputs to begin from."""
    sealed = bench.world.parcel().read_bytes()
    plain = pack_plain(FILES, Release("anna", 1))
    path = bench.folder / "seed.hvp"
    path.write_bytes(plain)
    head = read_parcel(path).header
    assert parse_header(head.to_bytes()) == head
    spec = DEFAULT_SPEC
    about = {"name": "anna", "spec": spec.to_dict(), "spec_hash": spec.hash, "files": {"model.c": {"sha256": "0" * 64}},
             "operating_points": {"fmr1e-3": {"threshold": 0.5}}}  # fmt: skip
    index = {"schema_version": 1, "target": "pi5-py311", "python": "3.11", "machine": "aarch64", "files": []}
    lines = [{"op": "hello", "names": ["anna"], "time_s": 0}, {"op": "begin", "sha256": "0" * 64},
             {"op": "data", "sha256": "0" * 64, "offset": 0, "bytes": 3}, {"op": "install", "sha256": "0" * 64},
             {"op": "rollback", "name": "anna"}, {"op": "remove", "name": "anna", "nonce": "n"}]  # fmt: skip
    return {
        "parcel": [sealed, plain], "header": [head.to_bytes()], "manifest": [manifest_bytes(about)],
        "requests": [json.dumps(one).encode() + b"\nabc" for one in lines],
        "keyring": [json.dumps(bench.world.keys.chain()).encode(),
                    json.dumps(bench.world.keys.keyring().to_dict()).encode()],
        "wheelhouse": [json.dumps(index).encode()],
        "settings": [b'[camera]\nsource = "0"\nfps = 15.0\n[[action]]\nkind = "command"\non = ["accepted"]\n'
                     b'command = ["true"]\n'],
    }  # fmt: skip


@contextlib.contextmanager
def open_bench() -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="hyperverify-fuzz-")).resolve()
    try:
        yield Bench(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
