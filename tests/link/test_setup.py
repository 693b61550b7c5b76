"""Packages from a wheelhouse to a device over real SSH: the old environment or the new one, never neither."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts import HERE, Host, Network
from link_support import Toolkit
from wheels import bundled_pip, small_wheelhouse

from device.link.wheelhouse import Target

BLANK = True
Deploy = Callable[..., Any]


@pytest.fixture
def host(network: Network) -> Host:
    """A device with a Python and nothing else."""
    if bundled_pip() is None:
        pytest.skip("this Python brings no wheel of pip for the small wheelhouses")
    (host,) = network.hosts
    shutil.rmtree(host.root)
    (host.root / "bin").mkdir(parents=True)
    python = host.root / "bin" / "python3"
    python.write_text(f'#!/bin/sh\nexec {Path(sys.executable).resolve()} "$@"\n')
    python.chmod(0o755)
    return host


@pytest.fixture
def deploy(network: Network, toolkit: Toolkit) -> Deploy:
    def run(house: Path, *arguments: object, **environment: str) -> Any:
        command = ("deploy", "--wheelhouse", house, "--to", "device0", *arguments, "--json")
        return toolkit(*command, **{"HYPERVERIFY_SSH": network.ssh} | environment)

    return run


def version(host: Host) -> str:
    """Of what the device would run."""
    python = host.root / "opt/hyperverify/venv/bin/python"
    command = [str(python), "-I", "-c", "import device, helper; print(device.VERSION)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.long
def test_packages_are_added_kept_and_replaced(host: Host, deploy: Deploy, tmp_path: Path) -> None:
    houses = [small_wheelhouse(tmp_path / number, number) for number in ("1.0", "2.0", "3.0")]
    planned = deploy(houses[0], "--dry-run")
    assert planned.json["devices"][0]["packages"] == "would add"
    assert not (host.root / "opt").exists()
    added = deploy(houses[0])
    assert added.code == 0, added.out
    assert added.json["devices"][0]["packages"] == "added"
    assert version(host) == "1.0"
    same = deploy(houses[0]).json["devices"][0]
    assert (same["packages"], same["sent_bytes"] < 500) == ("unchanged", True)
    for house, number in zip(houses[1:], ("2.0", "3.0"), strict=True):
        assert deploy(house).json["devices"][0]["packages"] == "replaced"
        assert version(host) == number
    base = host.root / "opt/hyperverify"
    assert len(list((base / "environments").iterdir())) == 2, "the one in use and the one before"
    assert not (base / "incoming").exists()


def test_an_environment_that_fails_its_test_is_never_used(host: Host, deploy: Deploy, tmp_path: Path) -> None:
    assert deploy(small_wheelhouse(tmp_path / "1", "1.0")).code == 0
    failed = deploy(small_wheelhouse(tmp_path / "2", "2.0", ["test"]))
    assert failed.code == 5
    assert "it does not work" in failed.json["devices"][0]["error"]["message"]
    assert version(host) == "1.0"
    assert len(list((host.root / "opt/hyperverify/environments").iterdir())) == 1


@pytest.mark.long
def test_the_power_fails_and_the_link_is_cut(network: Network, host: Host, deploy: Deploy, tmp_path: Path) -> None:
    assert deploy(small_wheelhouse(tmp_path / "1", "1.0")).code == 0
    house = small_wheelhouse(tmp_path / "2", "2.0")
    size = sum(path.stat().st_size for path in house.iterdir())
    for cut in (1, size // 3, size // 3):  # of what is sent then: it goes on
        relay = f"{sys.executable} {HERE / 'relay.py'} kill-link {cut} {network.ssh}"
        assert deploy(house, HYPERVERIFY_SSH=relay).code == 6
        assert version(host) == "1.0"
    (host.root / "power-cut").touch()
    assert deploy(house).code == 6
    assert version(host) == "1.0"
    done = deploy(house)
    assert done.code == 0, done.out
    assert done.json["devices"][0]["sent_bytes"] < size / 10, "what had arrived is not sent again"
    assert version(host) == "2.0"


@pytest.mark.long
def test_a_damaged_environment_is_made_again(host: Host, deploy: Deploy, tmp_path: Path) -> None:
    house = small_wheelhouse(tmp_path / "1", "1.0")
    assert deploy(house).code == 0
    next((host.root / "opt/hyperverify/venv").glob("lib/*/site-packages/helper.py")).unlink()
    assert deploy(house).json["devices"][0]["packages"] == "replaced"
    assert version(host) == "1.0"


@pytest.mark.long
def test_an_environment_made_by_hand_is_kept_aside(host: Host, deploy: Deploy, tmp_path: Path) -> None:
    base = host.root / "opt/hyperverify"
    (base / "venv" / "bin").mkdir(parents=True)
    assert deploy(small_wheelhouse(tmp_path / "1", "1.0")).json["devices"][0]["packages"] == "replaced"
    assert version(host) == "1.0"
    assert (base / "environments/by-hand/bin").is_dir()


SYSTEMCTL = """#!/bin/sh
# systemd's answers about a service that runs.
echo "$1" >>"{root}/systemctl"
"""


@pytest.mark.long
def test_a_service_that_fails_with_new_packages_gets_the_old_ones_back(
    host: Host, deploy: Deploy, tmp_path: Path
) -> None:
    program = host.root / "bin" / "systemctl"
    program.write_text(SYSTEMCTL.format(root=host.root))
    program.chmod(0o755)
    assert deploy(small_wheelhouse(tmp_path / "1", "1.0")).code == 0
    failed = deploy(small_wheelhouse(tmp_path / "2", "2.0", ["restart"]))
    assert failed.code == 6
    assert "the old ones are back" in failed.json["devices"][0]["error"]["message"]
    assert version(host) == "1.0"
    assert (host.root / "systemctl").read_text().endswith("restart\n")


def test_a_wheelhouse_for_another_device_is_refused(host: Host, deploy: Deploy, tmp_path: Path) -> None:
    other = small_wheelhouse(tmp_path / "1", "1.0", target=Target("riscv64", "3.11", 36))
    refused = deploy(other)
    assert refused.code == 2
    assert "riscv64" in refused.json["devices"][0]["error"]["message"]
    (host.root / "bin" / "python3").write_text("#!/bin/sh\necho python3: not found >&2; exit 127\n")
    bare = deploy(small_wheelhouse(tmp_path / "2", "1.0"))
    assert bare.code == 3
    assert "sudo apt install python3" in bare.json["devices"][0]["error"]["message"]


@pytest.mark.long
def test_from_nothing_to_a_verifier_that_passes_its_self_test(
    network: Network, host: Host, deploy: Deploy, toolkit: Toolkit, releases: tuple[Path, Path], tmp_path: Path
) -> None:
    """The real packages, from PyPI; the device has none of them before."""
    python = f"py{sys.version_info[0]}{sys.version_info[1]}"
    house = tmp_path / "house"
    made = toolkit("wheelhouse", "--target", f"pc-{python}", "-o", house)
    if made.code == 2 and "no such target" in made.err:
        pytest.skip(f"no wheelhouse target has {python}")
    assert made.code == 0, made.err
    first = deploy(house)
    assert first.code == 0, first.out
    ssh = {"HYPERVERIFY_SSH": network.ssh}
    assert toolkit("keys", "new").code == 0
    provisioned = toolkit("devices", "provision", "device0", **ssh)
    assert provisioned.code == 0, provisioned.err
    done = deploy(house, releases[0])
    assert done.code == 0, done.out
    (device,) = done.json["devices"]
    assert (device["packages"], device["people"][0]["action"]) == ("unchanged", "added")
    size = sum(path.stat().st_size for path in house.iterdir())
    print(f"wheelhouse: {size / 1e6:.0f} MB; packages installed offline, then {device['people'][0]['self_test']}")
