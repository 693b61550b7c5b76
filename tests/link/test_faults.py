"""Faults at every step of a deploy: after each, the device runs the old or the new version, and a repeat finishes.

The steps are not listed by hand: a first deploy counts every change the device makes to its files, and then each of
them, in turn, is where the device is killed, where its card is full, or where its card turns read-only; and the link or
the workstation dies after so many bytes. `make test-deploy` takes every step, each with one of the three.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hosts import HERE, Host
from link_support import Fleet

from device.link.folders import DeviceFolders
from device.link.install import Installer

Releases = tuple[Path, Path]
EVERY = bool(os.environ.get("HYPERVERIFY_ALL_FAULTS"))
HOSTS = 1
pytestmark = pytest.mark.long  # test_every_step.py is the core of it that every run of the tests takes


def content(host: Host) -> bytes | None:
    """What the service would load: every file of the version that the link points to."""
    folder = host.state / "bundles/anna.hvb"
    if not folder.exists():
        assert not folder.is_symlink(), "a link that leads nowhere"
        return None
    return b"".join((folder / p).read_bytes() for p in sorted(p.name for p in folder.iterdir()) if p != "release.sig")


def expected(release: Path, tmp_path: Path) -> bytes:
    from device.link.keystore import KeyStore
    from device.link.package import Goods

    files = Goods(release, KeyStore(tmp_path)).files
    return b"".join(files[name] for name in sorted(files))


@contextmanager
def fault(host: Host, kind: str, number: int) -> Iterator[None]:
    host.fault_file.write_text(f"{kind} {number}")
    try:
        yield
    finally:
        host.fault_file.unlink()


class Scene:
    """A device with the old version (or none) on it, set up again before every fault."""

    def __init__(self, fleet: Fleet, releases: Releases, tmp_path: Path, update: bool):
        self.fleet, self.host, self.update = fleet, fleet.hosts[0], update
        self.new = releases[1]
        self.kept = tmp_path / "kept"
        if update:
            assert fleet.run("deploy", releases[0], "--to", "device0").code == 0
        self.before, self.after = content(self.host), expected(releases[1], tmp_path)
        shutil.copytree(self.host.root, self.kept, symlinks=True)

    def reset(self) -> None:
        shutil.rmtree(self.host.root)
        shutil.copytree(self.kept, self.host.root, symlinks=True)

    def deploy(self, **environment: str) -> int:
        return int(self.fleet.run("deploy", self.new, "--to", "device0", **environment).code)

    def check(self, what: str) -> None:
        """The promise: old or new, whole; and the repeat ends with the new one."""
        assert content(self.host) in (self.before, self.after), f"neither the old nor the new version after {what}"
        done = self.fleet.run("deploy", self.new, "--to", "device0", "--json")
        assert done.code == 0, f"the repeat failed after {what}: {done.out} {done.err}"
        assert content(self.host) == self.after, f"the repeat did not finish after {what}"
        assert not list((self.host.state / "incoming").iterdir()), f"something is left after {what}"
        versions = list((self.host.state / "versions/anna").iterdir())
        assert len(versions) <= 2, f"{[v.name for v in versions]} after {what}"
        (person,) = Installer(DeviceFolders(self.host.root)).inventory()
        assert person["health"] == "ok"

    def steps(self) -> int:
        with fault(self.host, "count", 0):
            assert self.deploy() == 0
        steps = len(self.host.steps_file.read_text().splitlines())
        self.host.steps_file.unlink()
        assert steps > 30
        return steps


KINDS = ["kill", "ENOSPC", "EROFS"]


def numbers(kind: str, last: int) -> list[int]:
    """Every step by one kind of fault, and the last one by all; test_every_step.py has every step by every kind."""
    chosen = range(1 + KINDS.index(kind), last, len(KINDS)) if EVERY else range(last // 3, last, last // 2)
    return [*chosen, last]


@pytest.mark.parametrize("update", [False, True], ids=["first", "update"])
@pytest.mark.parametrize("kind", KINDS)
def test_faults_at_every_step_on_the_device(
    kind: str, update: bool, fleet: Fleet, releases: Releases, tmp_path: Path
) -> None:
    scene = Scene(fleet, releases, tmp_path, update)
    chosen, failed = numbers(kind, scene.steps()), 0
    for number in chosen:
        scene.reset()
        with fault(scene.host, kind, number):
            failed += scene.deploy() != 0
        scene.check(f"{kind} at step {number}")
    print(f"{len(chosen)} × {kind}: {failed} deploys failed, 0 losses")
    assert failed > len(chosen) / 2, "the faults did not bite"


@pytest.mark.parametrize("mode", ["kill-link", "kill-workstation"])
def test_the_link_or_the_workstation_dies_after_so_many_bytes(
    mode: str, fleet: Fleet, releases: Releases, tmp_path: Path
) -> None:
    scene = Scene(fleet, releases, tmp_path, True)
    size = len(scene.after)
    shares = [i / 20 for i in range(21)] if EVERY else [0.5]
    cuts = [1, *(int(share * size) + 400 for share in shares)]
    for cut in cuts:
        scene.reset()
        relay = f"{sys.executable} {HERE / 'relay.py'} {mode} {cut} {fleet.network.ssh}"
        assert scene.deploy(HYPERVERIFY_SSH=relay) in (6, -9), cut
        scene.check(f"{mode} after {cut} bytes")
    print(f"{len(cuts)} × {mode}: 0 losses")


def test_an_upload_goes_on_where_it_was_cut(fleet: Fleet, releases: Releases, tmp_path: Path) -> None:
    scene = Scene(fleet, releases, tmp_path, False)
    size = len(scene.after)
    relay = f"{sys.executable} {HERE / 'relay.py'} kill-rested-link {size * 3 // 4} {fleet.network.ssh}"
    assert scene.deploy(HYPERVERIFY_SSH=relay) == 6
    done = fleet.run("deploy", scene.new, "--to", "device0", "--json")
    assert done.json["devices"][0]["sent_bytes"] < size / 2


def test_the_network_goes_down_in_the_middle(fleet: Fleet, releases: Releases, tmp_path: Path) -> None:
    """No packet comes through any more, and nobody says so."""
    scene = Scene(fleet, releases, tmp_path, True)
    quick = fleet.network.ssh + " -o ServerAliveInterval=1 -o ServerAliveCountMax=2"
    scene.host.network(up=False)
    try:
        assert scene.deploy(HYPERVERIFY_SSH=quick + " -o ConnectTimeout=2") == 6
    finally:
        scene.host.network(up=True)
    scene.check("the network went down")


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "hvtest", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("free_kb", [0, 1400])
def test_a_card_that_is_really_full(free_kb: int, fleet: Fleet, releases: Releases, tmp_path: Path) -> None:
    with mounted(fleet.hosts[0].state, "40m"):
        assert fleet.run("deploy", releases[0], "--to", "device0").code == 0
        before, filler = content(fleet.hosts[0]), fleet.hosts[0].state / "filler"
        free = shutil.disk_usage(fleet.hosts[0].state).free
        filler.write_bytes(bytes(free - free_kb * 1024))
        full = fleet.run("deploy", releases[1], "--to", "device0")
        assert full.code == 3, "the preflight sees it"
        assert "MB free" in full.out
        assert content(fleet.hosts[0]) == before
        filler.unlink()
        assert fleet.run("deploy", releases[1], "--to", "device0").code == 0
        assert content(fleet.hosts[0]) == expected(releases[1], tmp_path)


def test_a_card_that_is_really_read_only(fleet: Fleet, releases: Releases) -> None:
    state = fleet.hosts[0].state
    with mounted(state, "40m"):
        assert fleet.run("deploy", releases[0], "--to", "device0").code == 0
        before = content(fleet.hosts[0])
        subprocess.run(["mount", "-o", "remount,ro", str(state)], check=True)
        refused = fleet.run("deploy", releases[1], "--to", "device0")
        assert refused.code == 3
        assert "read-only" in refused.out
        assert content(fleet.hosts[0]) == before
        subprocess.run(["mount", "-o", "remount,rw", str(state)], check=True)
        assert fleet.run("deploy", releases[1], "--to", "device0").code == 0
