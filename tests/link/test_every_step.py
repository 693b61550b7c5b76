"""Every change to a file that the device makes, cut off once in every way: more than 300 faults, in every run.

The whole conversation (upload, install, rollback, removal) runs in a forked process that a fault ends or fails at its
N-th change. After each, the device holds the old or the new version, whole; and a repeat finishes. `test_faults.py`
does the same over SSH, with real bundles.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from link_support import FILES, OTHER_FILES, World, in_a_fork, new_world, passes

from device.link.agent import Agent
from device.link.install import Installer
from device.link.service import Service

NEW = OTHER_FILES["model.bin"]


class RecordedService(Service):
    """Runs what the link led to when it was last started, as a process does; a restart is a step like any other."""

    def __init__(self, world: World):
        self.link, self.file = world.folders.bundles / "anna.hvb", world.folders.root / "running"

    def present(self) -> bool:
        return True

    def active(self) -> bool:
        return True

    def restart(self) -> str:
        self.file.write_text(self.link.readlink().name if self.link.is_symlink() else "nobody")
        poisoned = self.file.with_name("poison").exists() and (self.link / "model.bin").read_bytes() == NEW
        return "it stopped again" if poisoned else ""


def agent(world: World) -> Agent:
    return Agent(world.folders, Installer(world.folders, passes, RecordedService(world)))


def talk(world: World, *requests: bytes) -> list[dict[str, object]]:
    """What the device answers to these requests, the greeting left out."""
    replies = io.BytesIO()
    agent(world).serve(io.BufferedReader(io.BytesIO(b"".join(requests))), replies)  # type: ignore[arg-type]
    return [json.loads(line) for line in replies.getvalue().splitlines()[1:]]


def line(**request: object) -> bytes:
    return json.dumps(request).encode() + b"\n"


HELLO = line(op="hello", names=["anna"], time_s=0, need_bytes=0)


def deploy(world: World, parcel: Path) -> bool:
    """As the workstation does it; whether it ended well."""
    data = parcel.read_bytes()
    key = hashlib.sha256(data).hexdigest()
    hello, begun = talk(world, HELLO, line(op="begin", sha256=key))
    if "ok" not in hello or "ok" not in begun:
        return False
    have = int(str(begun["ok"]))
    upload = line(op="data", sha256=key, offset=have, bytes=len(data) - have) + data[have:] if have < len(data) else b""
    return "ok" in talk(world, upload, line(op="install", sha256=key))[-1]


def content(world: World) -> dict[str, bytes] | None:
    folder = world.folders.bundles / "anna.hvb"
    if not folder.exists():
        assert not folder.is_symlink(), "a link that leads nowhere"
        return None
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "release.sig"}


@pytest.mark.parametrize("kind", ["kill", "ENOSPC", "EROFS"])
@pytest.mark.parametrize(
    "what", ["update", *(pytest.param(what, marks=pytest.mark.long) for what in ("first", "rollback", "remove"))]
)
def test_every_step(what: str, kind: str, tmp_path: Path) -> None:
    world = new_world(tmp_path)
    old, new = world.parcel(1, FILES), world.parcel(2, OTHER_FILES)
    if what != "first":
        assert deploy(world, old)
    if what in ("rollback", "remove"):
        assert deploy(world, new)
    actions: dict[str, Callable[[], bool]] = {
        "rollback": lambda: "ok" in talk(world, HELLO, line(op="rollback", name="anna"))[-1],
        "remove": lambda: "ok" in talk(world, HELLO, line(op="remove", name="anna", nonce="n"))[-1],
    }
    action = actions.get(what, lambda: deploy(world, new))
    after = {"rollback": FILES, "remove": None}.get(what, OTHER_FILES)
    before, kept, root = content(world), tmp_path / "kept", world.folders.root
    shutil.copytree(root, kept, symlinks=True)
    assert in_a_fork(root, "count", 0, action)
    assert content(world) == after
    steps = len(Path(f"{root}.steps").read_text().splitlines())
    failed = 0
    for number in range(1, steps + 1):
        shutil.rmtree(root)
        shutil.copytree(kept, root, symlinks=True)
        failed += not in_a_fork(root, kind, number, action)
        found = content(world)
        assert found in (before, after), f"neither the old nor the new version after {kind} at step {number}"
        if found != after or what != "rollback":
            assert action(), f"the repeat failed after {kind} at step {number}"
        agent(world).installer.recover()
        assert content(world) == after, f"the repeat did not finish after {kind} at step {number}"
        running, current = (root / "running").read_text(), agent(world).installer.store.current("anna")
        assert running == (current or "nobody"), f"another version runs after {kind} at step {number}"
        assert not list(world.folders.incoming.iterdir())
        assert [row["health"] for row in agent(world).installer.inventory()] == ["ok"] * (after is not None)
        names = {path.name for path in (world.folders.versions / "anna").glob("*")}
        assert len(names) <= 2, f"{names} after {kind} at step {number}"
    print(f"{what}: {steps} × {kind}, {failed} failed, 0 losses")
    assert failed >= steps / 3, "the faults did not bite"


def test_a_cut_while_a_failing_version_is_undone(tmp_path: Path) -> None:
    """The service fails with the new version; wherever that is cut off, the old one runs in the end."""
    world = new_world(tmp_path)
    old, new = world.parcel(1, FILES), world.parcel(2, OTHER_FILES)
    assert deploy(world, old)
    before, kept, root = content(world), tmp_path / "kept", world.folders.root
    (root / "poison").touch()
    shutil.copytree(root, kept, symlinks=True)
    assert not in_a_fork(root, "count", 0, lambda: deploy(world, new))
    for number in range(1, len(Path(f"{root}.steps").read_text().splitlines()) + 1):
        shutil.rmtree(root)
        shutil.copytree(kept, root, symlinks=True)
        in_a_fork(root, "kill", number, lambda: deploy(world, new))
        assert not deploy(world, new)
        assert content(world) == before, f"after a kill at step {number}"
        assert (root / "running").read_text() == agent(world).installer.store.current("anna")
