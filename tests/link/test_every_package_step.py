"""An update of the packages, cut off at each change that it makes to files: the old environment or the new one.

pip and the service are stand-ins, so that every step can be met in a second; `test_setup.py` has the real ones.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from link_support import in_a_fork

from device.link import bootstrap
from device.link.bootstrap import COMPLETE, Bootstrap, SetupError

WHEEL = b"the new packages"
SHA256 = hashlib.sha256(WHEEL).hexdigest()


class Device(Bootstrap):
    """Its service runs from the environment that the link led to when it was last started."""

    def _build(self, environment: Path, wheels: Path, python: str) -> None:
        (environment / "bin").mkdir(parents=True)
        (environment / "bin/python").write_bytes((wheels / "new.whl").read_bytes())

    def _test(self, environment: Path) -> str:
        return "" if (environment / "bin/python").exists() else "incomplete"

    def running(self) -> str:
        return (self.base / "running").read_text()

    def restarted(self, command: list[Any]) -> None:
        if command[-1] == "restart":
            content = Path(command[0]).read_bytes()
            if (self.base / "poison").exists() and content == WHEEL:
                raise SetupError("LinkError", "it stopped again")
            (self.base / "running").write_bytes(content)


@pytest.fixture(params=["update", pytest.param("by-hand", marks=pytest.mark.long)])
def device(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device(tmp_path / "device")
    old = made.base / "venv" if request.param == "by-hand" else made.environments / "old"
    (old / "bin").mkdir(parents=True)
    (old / "bin/python").write_bytes(b"the old packages")
    if request.param == "update":
        (old / COMPLETE).write_text("old")
        made._point(old)
    (made.base / "running").write_bytes(b"the old packages")
    monkeypatch.setattr(bootstrap, "_run", made.restarted)

    def systemctl(*words: str) -> int:
        if words == ("restart",):
            made.restarted([made.link / "bin/python", "restart"])
        return 0

    monkeypatch.setattr(bootstrap, "_systemctl", systemctl)
    return made


def update(device: Device) -> bool:
    """As the workstation does it; whether it ended well."""

    def talk(*requests: bytes) -> Any:
        replies = io.BytesIO()
        device.serve(io.BufferedReader(io.BytesIO(b"".join(requests))), replies)  # type: ignore[arg-type]
        return json.loads(replies.getvalue().splitlines()[-1])

    def line(op: str, **request: object) -> bytes:
        return json.dumps({"op": op, **request}).encode() + b"\n"

    facts = talk(line("look", id="new", python="3"))["ok"]
    if facts["current"] == "new":
        return "ok" in talk(line("finish")) if facts["unfinished"] else True
    begun = talk(line("begin", sha256=SHA256))
    if "ok" not in begun:
        return False
    rest = WHEEL[begun["ok"] :]
    sent = line("data", sha256=SHA256, offset=begun["ok"], bytes=len(rest)) + rest if rest else b""
    install = line("install", id="new", python=f"{sys.version_info[0]}.{sys.version_info[1]}",
                   files=[["new.whl", SHA256]])  # fmt: skip
    return "ok" in talk(sent + install)


def content(device: Device) -> bytes:
    """What the link leads to, which must be whole."""
    return (device.link / "bin/python").read_bytes()


@pytest.mark.parametrize("kind", ["kill", "ENOSPC", "EROFS"])
def test_every_step_of_an_update_of_the_packages(kind: str, device: Device, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(device.base, kept, symlinks=True)
    assert in_a_fork(device.base, "count", 0, lambda: update(device))
    assert content(device) == device.running().encode() == WHEEL
    steps, failed = len(Path(f"{device.base}.steps").read_text().splitlines()), 0
    for number in range(1, steps + 1):
        shutil.rmtree(device.base)
        shutil.copytree(kept, device.base, symlinks=True)
        failed += not in_a_fork(device.base, kind, number, lambda: update(device))
        assert content(device) in (b"the old packages", WHEEL), f"neither after {kind} at step {number}"
        assert update(device), f"the repeat failed after {kind} at step {number}"
        assert content(device) == WHEEL, f"the repeat did not finish after {kind} at step {number}"
        assert device.running().encode() == WHEEL, f"the old packages run on after {kind} at step {number}"
        assert len(list(device.environments.iterdir())) == 2, f"after {kind} at step {number}"
        assert not device.unfinished.exists()
        assert not device.incoming.exists()
    print(f"packages: {steps} × {kind}, {failed} failed, 0 losses")
    assert failed >= steps / 3, "the faults did not bite"


def test_a_cut_while_the_old_packages_are_put_back(device: Device, tmp_path: Path) -> None:
    """The service fails with the new ones; whatever happens then, it ends with the old ones running."""
    (device.base / "poison").touch()
    kept = tmp_path / "kept"
    shutil.copytree(device.base, kept, symlinks=True)
    assert not in_a_fork(device.base, "count", 0, lambda: update(device))
    steps = len(Path(f"{device.base}.steps").read_text().splitlines())
    for number in range(1, steps + 1):
        shutil.rmtree(device.base)
        shutil.copytree(kept, device.base, symlinks=True)
        in_a_fork(device.base, "kill", number, lambda: update(device))
        assert content(device) in (b"the old packages", WHEEL), f"neither after a kill at step {number}"
        update(device)
        assert content(device) == device.running().encode() == b"the old packages", f"after a kill at step {number}"
