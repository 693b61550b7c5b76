"""Deploy over real SSH to a device in a network namespace: what arrives, is sent, goes back, is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from pathlib import Path

import pytest
from link_support import Fleet

from device.open import open_pipeline
from export.manifest import open_bundle

Releases = tuple[Path, Path]


def model(fleet: Fleet) -> bytes:
    return (fleet.hosts[0].state / "bundles/anna.hvb/model.int8.tflite").read_bytes()


def test_a_bundle_arrives_verified_tested_and_ready_to_use(fleet: Fleet, releases: Releases) -> None:
    done = fleet.run("deploy", releases[0], "--to", "device0", "--json")
    assert done.code == 0, done.err
    (person,) = done.json["devices"][0]["people"]
    assert (person["name"], person["action"]) == ("anna", "added")
    assert person["self_test"]["vectors"] == 8
    folder = fleet.hosts[0].state / "bundles/anna.hvb"
    assert stat.S_IMODE(folder.resolve().stat().st_mode) == 0o700
    with open_pipeline(open_bundle(folder), "auto", "int8"):
        pass
    assert not list((fleet.hosts[0].state / "incoming").iterdir())
    listed = fleet.run("devices", "--json").json["devices"][0]
    assert [(p["name"], p["counter"], p["health"]) for p in listed["people"]] == [("anna", 1, "ok")]
    assert "anna" in fleet.run("devices").out


def test_only_what_changed_is_sent(fleet: Fleet, releases: Releases) -> None:
    fleet.run("deploy", releases[0], "--to", "device0")
    before = fleet.network.received_bytes(fleet.hosts[0])
    same = fleet.run("deploy", releases[0], "--to", "device0", "--json").json["devices"][0]
    wire = fleet.network.received_bytes(fleet.hosts[0]) - before
    assert same["people"][0]["action"] == "unchanged"
    assert same["sent_bytes"] <= 4096
    print(f"unchanged: {same['sent_bytes']} bytes, {wire} on the wire with SSH's own handshake")
    changed = fleet.run("deploy", releases[1], "--to", "device0", "--json").json["devices"][0]
    size = sum(path.stat().st_size for path in releases[1].iterdir())
    print(f"changed: {changed['sent_bytes'] - size} bytes more than the bundle")
    assert changed["people"][0]["action"] == "replaced"
    assert changed["sent_bytes"] <= size + 8192


@pytest.mark.long
def test_dry_run_changes_nothing(fleet: Fleet, releases: Releases) -> None:
    done = fleet.run("deploy", releases[0], "--to", "device0", "--dry-run")
    assert done.code == 0, done.err
    assert "would add" in done.out
    assert not list((fleet.hosts[0].state / "bundles").iterdir())


@pytest.mark.long
def test_rollback_goes_back_and_forth(fleet: Fleet, releases: Releases) -> None:
    nothing = fleet.run("deploy", "--rollback", "anna", "--to", "device0")
    assert nothing.code == 4
    for release in releases:
        fleet.run("deploy", release, "--to", "device0")
    new = model(fleet)
    assert fleet.run("deploy", "--rollback", "anna", "--to", "device0").code == 0
    assert model(fleet) == (releases[0] / "model.int8.tflite").read_bytes() != new
    assert fleet.run("deploy", releases[1], "--to", "device0").code == 0
    assert model(fleet) == new


@pytest.mark.long
def test_an_older_release_needs_a_signed_exception(fleet: Fleet, releases: Releases) -> None:
    for release in releases:
        fleet.run("deploy", release, "--to", "device0")
    refused = fleet.run("deploy", releases[0], "--to", "device0")
    assert refused.code == 7
    assert "newer" in refused.out
    assert fleet.run("deploy", releases[0], "--to", "device0", "--allow-older").code == 0
    assert model(fleet) == (releases[0] / "model.int8.tflite").read_bytes()


def test_removal_is_proven_by_a_signed_receipt(fleet: Fleet, releases: Releases) -> None:
    for release in releases:
        fleet.run("deploy", release, "--to", "device0")
    done = fleet.run("deploy", "--remove", "anna", "--to", "device0", "--json")
    assert done.code == 0, done.err
    (person,) = done.json["devices"][0]["people"]
    assert person["left"] == []
    assert person["files_removed"] >= 12
    templates = {(release / "model.int8.tflite").read_bytes() for release in releases}
    left = [p for p in fleet.hosts[0].root.rglob("*") if p.is_file() and p.read_bytes() in templates]
    assert not left
    assert not list(fleet.hosts[0].root.rglob("*anna*"))
    assert json.loads(person["receipt"])["device_id"] == person["device_id"]


def test_a_bundle_that_fails_its_self_test_never_runs(fleet: Fleet, releases: Releases, tmp_path: Path) -> None:
    """Golden scores of another person: what a broken runtime or wrong weights look like."""
    from device.link.golden import write_golden

    fleet.run("deploy", releases[0], "--to", "device0")
    wrong = json.loads(write_golden(releases[1]))
    wrong["scores_steps"] = [-score for score in wrong["scores_steps"]]
    key = hashlib.sha256((releases[1] / "manifest.json").read_bytes()).hexdigest()
    kept = tmp_path / "cache" / "golden" / f"{key}.json"
    kept.write_text(json.dumps(wrong))
    refused = fleet.run("deploy", releases[1], "--to", "device0")
    assert refused.code == 5
    assert "failed its self-test" in refused.out
    assert model(fleet) == (releases[0] / "model.int8.tflite").read_bytes()
    versions = [p.name for p in (fleet.hosts[0].state / "versions/anna").iterdir()]
    assert len(versions) == 1


SYSTEMCTL = """#!/bin/sh
# systemd's answers about a service that fails for one bundle.
root={root}
case "$1" in
cat) exit 0 ;;
is-active) [ ! -e "$root/down" ] ;;
restart) echo restart >>"$root/restarts"
    if cmp -s "$root/var/lib/hyperverify/bundles/anna.hvb/model.int8.tflite" "$root/poison"; then touch "$root/down"
    else rm -f "$root/down"; fi ;;
esac
"""


@pytest.mark.long
def test_a_service_that_fails_with_the_new_version_gets_the_old_one_back(fleet: Fleet, releases: Releases) -> None:
    root = fleet.hosts[0].root
    program = root / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(SYSTEMCTL.format(root=root))
    program.chmod(0o755)
    assert fleet.run("deploy", releases[0], "--to", "device0").code == 0
    shutil.copy(releases[1] / "model.int8.tflite", root / "poison")
    failed = fleet.run("deploy", releases[1], "--to", "device0")
    (root / "poison").unlink()
    assert failed.code == 6
    assert "rolled back" in failed.out
    assert model(fleet) == (releases[0] / "model.int8.tflite").read_bytes()
    assert not (root / "down").exists(), "the service runs again"
    assert fleet.run("deploy", releases[1], "--to", "device0").code == 0


@pytest.mark.long
def test_key_rotation_and_revocation_reach_devices_with_the_next_deploy(fleet: Fleet, releases: Releases) -> None:
    fleet.run("deploy", releases[0], "--to", "device0")
    old = fleet.run("keys", "show", "--json").json["keys"][0]["key"]
    assert fleet.run("keys", "rotate").code == 0
    assert fleet.run("keys", "revoke", old).code == 0
    again = fleet.run("deploy", releases[0], "--to", "device0", "--json")
    assert again.json["devices"][0]["people"][0]["action"] == "replaced", "its signature counts no more"
    assert fleet.run("deploy", releases[1], "--to", "device0").code == 0
    trust = json.loads((fleet.hosts[0].root / "etc/hyperverify/keys/trust.json").read_text())
    assert trust["keyring"]["revoked"] == [old]


@pytest.mark.long
def test_a_device_that_took_anothers_place_is_refused(fleet: Fleet, releases: Releases, tmp_path: Path) -> None:
    shutil.rmtree(fleet.hosts[0].root / "etc")
    unknown = fleet.run("deploy", releases[0], "--to", "device0")
    assert unknown.code == 3
    assert "not provisioned" in unknown.out
    assert fleet.run("keys", "rotate").code == 0
    assert fleet.run("devices", "provision", "device0").code == 0
    inventory = tmp_path / "config" / "devices.json"
    known = json.loads(inventory.read_text())
    shutil.rmtree(fleet.hosts[0].root / "etc")
    assert fleet.run("devices", "provision", "device0").code == 0
    inventory.write_text(json.dumps(known))
    other = fleet.run("deploy", releases[0], "--to", "device0")
    assert other.code == 7
    assert "another device" in other.out


@pytest.mark.long
def test_plain_bundles_go_to_development_devices_only(fleet: Fleet, releases: Releases) -> None:
    refused = fleet.run("deploy", releases[0], "--to", "device0", "--plain")
    assert refused.code == 7
    assert "plain" in refused.out
    shutil.rmtree(fleet.hosts[0].root / "etc")
    assert fleet.run("devices", "provision", "device0", "--development").code == 0
    assert fleet.run("deploy", releases[0], "--to", "device0", "--plain").code == 0
    assert fleet.run("devices", "--json").json["devices"][0]["people"][0]["plain"] is True


def test_what_is_in_the_way_is_told_with_its_remedy(fleet: Fleet, releases: Releases) -> None:
    nobody = fleet.run("deploy", releases[0], "--to", "elsewhere")
    assert nobody.code == 3
    assert "toolkit devices provision elsewhere" in nobody.out
    for usage in (["--to", "device0"], [releases[0], "--to", "-oProxyCommand=x"], [releases[0], "--remove", "anna"]):
        assert fleet.run("deploy", *usage).code == 2
    no_key = fleet.run("deploy", releases[0], "--to", "device0", HYPERVERIFY_SSH=fleet.network.ssh + " -i /dev/null")
    assert no_key.code in (0, 6)
    dead = fleet.run("deploy", releases[0], "--to", "device0", HYPERVERIFY_SSH="false")
    assert dead.code == 6
    assert "repeat" in dead.out
