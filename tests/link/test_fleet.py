"""Twenty devices at once: one summary, and a failure on some stops no other and is made good by a repeat."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from link_support import Fleet

HOSTS = 20


@pytest.mark.long
def test_twenty_devices_at_once(fleet: Fleet, releases: tuple[Path, Path]) -> None:
    everywhere = [argument for host in fleet.hosts for argument in ("--to", host.name)]
    broken = fleet.hosts[3]
    broken.network(up=False)
    shutil.rmtree(fleet.hosts[7].root / "etc")
    try:
        first = fleet.run("deploy", releases[0], *everywhere, "--json")
    finally:
        broken.network(up=True)
    assert first.code == 6
    assert "2 of 20 devices failed" in first.err
    actions = {
        d["host"]: d["people"][0]["action"] if d["people"] else d["error"]["type"] for d in first.json["devices"]
    }
    assert actions == {h.name: "added" for h in fleet.hosts} | {"device3": "LinkError", "device7": "MissingError"}
    assert fleet.run("devices", "provision", "device7").code == 0
    again = fleet.run("deploy", releases[0], *everywhere, "--json")
    assert again.code == 0, again.err
    actions = {d["host"]: d["people"][0]["action"] for d in again.json["devices"]}
    assert actions == {h.name: "unchanged" for h in fleet.hosts} | {"device3": "added", "device7": "added"}
    ids = {p.read_text() for p in (h.root / "etc/hyperverify/keys/device.key" for h in fleet.hosts)}
    assert len(ids) == 20, "every device has its own key"
