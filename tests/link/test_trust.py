"""Trust: what a device installs, and everything it refuses, with the reason."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from link_support import FILES, OTHER_FILES, World, new_world

from device.link.folders import DeviceFolders
from device.link.identity import DEVICE_KEY, provision, read_trust
from device.link.keystore import KeyStore
from device.link.parcel import MAGIC, SIGNATURE_BYTES, read_parcel
from device.link.seal import Release, pack_plain, pack_sealed
from device.link.trust import Keyring, signed_update
from toolkit.errors import ArtifactError, MissingError, UsageError


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path)


def test_a_signed_parcel_is_installed_private_and_whole(world: World) -> None:
    done = world.installer.install(world.parcel())
    assert done["changed"]
    folder = (world.folders.bundles / "anna.hvb").resolve()
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "release.sig"} == FILES
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {0o600}
    assert [row["health"] for row in world.installer.inventory()] == ["ok"]
    assert not world.installer.install(world.parcel())["changed"]


def test_a_bundle_that_was_copied_there_is_not_touched(world: World) -> None:
    copied = world.folders.bundles / "anna.hvb"
    copied.mkdir(parents=True)
    (copied / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=r"not deployed but copied there; .*delete it"):
        world.installer.install(world.parcel())
    assert (copied / "manifest.json").read_text() == "{}"
    assert not list((world.folders.versions / "anna").glob("*")), "nothing is unpacked for it"


def test_every_flipped_byte_is_refused(world: World) -> None:
    """One bit of each byte, one byte at a time, over the whole parcel."""
    data, damaged = world.parcel().read_bytes(), world.tmp / "damaged.hvp"
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        damaged.write_bytes(changed)
        with pytest.raises(ArtifactError, match=r"refused|another schema"):
            world.installer.install(damaged)
    assert not list(world.folders.bundles.iterdir())
    assert world.installer.install(world.parcel())["changed"]


def test_every_length_but_the_right_one_is_refused(world: World) -> None:
    data, damaged = world.parcel().read_bytes(), world.tmp / "damaged.hvp"
    for length in range(len(data)):
        damaged.write_bytes(data[:length])
        with pytest.raises(ArtifactError, match="refused"):
            world.installer.install(damaged)
    damaged.write_bytes(data + b"\0")
    with pytest.raises(ArtifactError, match="length"):
        world.installer.install(damaged)


def test_a_signature_is_worth_nothing_on_another_parcel(world: World) -> None:
    one, two = (world.parcel(n, f).read_bytes() for n, f in ((1, FILES), (2, OTHER_FILES)))
    at = read_parcel(world.tmp / "anna-1.hvp").offset
    swapped = world.tmp / "swapped.hvp"
    swapped.write_bytes(one[: at - SIGNATURE_BYTES] + two[at - SIGNATURE_BYTES : at] + one[at:])
    with pytest.raises(ArtifactError, match="signature is wrong"):
        world.installer.install(swapped)


def test_a_replayed_old_version_is_refused_unless_signed_for(world: World) -> None:
    old = world.parcel(1)
    world.installer.install(old)
    world.installer.install(world.parcel(2, OTHER_FILES))
    with pytest.raises(ArtifactError, match="had a newer one"):
        world.installer.install(old)
    with pytest.raises(ArtifactError, match="had a newer one"):
        world.installer.install(world.parcel(2, FILES))  # the same counter for other content
    assert world.content() == OTHER_FILES["model.bin"]
    exception = world.parcel(1, FILES, replaces=2)
    world.installer.install(exception)
    assert world.content() == FILES["model.bin"]
    world.installer.install(world.parcel(3, OTHER_FILES))
    with pytest.raises(ArtifactError, match="had a newer one"):
        world.installer.install(exception)  # good for one counter only
    assert world.content() == OTHER_FILES["model.bin"]


def test_replay_is_refused_even_after_the_person_was_removed(world: World) -> None:
    old = world.parcel(1)
    world.installer.install(old)
    world.installer.install(world.parcel(2, OTHER_FILES))
    world.installer.remove("anna", "nonce")
    assert "anna" not in (world.folders.state / "state.json").read_text()
    with pytest.raises(ArtifactError, match="had a newer one"):
        world.installer.install(old)


def test_a_parcel_for_another_device_is_refused(world: World, tmp_path: Path) -> None:
    other = DeviceFolders(tmp_path / "other")
    identity = provision(other, world.keys.keyring())
    data = pack_sealed(FILES, Release("anna", 1), world.keys.active(), identity.sealing_public)
    (tmp_path / "other.hvp").write_bytes(data)
    with pytest.raises(ArtifactError, match="sealed for another device"):
        world.installer.install(tmp_path / "other.hvp")


def test_a_strangers_signature_is_refused(world: World, tmp_path: Path) -> None:
    stranger = KeyStore(tmp_path / "stranger")
    stranger.new()
    data = pack_sealed(FILES, Release("anna", 1), stranger.active(), world.identity.sealing_public)
    (tmp_path / "stranger.hvp").write_bytes(data)
    with pytest.raises(ArtifactError, match="not provisioned with its key"):
        world.installer.install(tmp_path / "stranger.hvp")


def test_rotation_and_revocation_reach_the_device_by_a_chain_of_signatures(world: World) -> None:
    old_parcel, old = world.parcel(1), world.keys.active_id()
    new = world.keys.rotate()
    with pytest.raises(ArtifactError, match=f"key {new}"):
        world.installer.install(world.parcel(2, OTHER_FILES))
    world.keys.revoke(old)  # the device hears of both steps at once
    assert world.installer.update_trust(world.keys.chain()) == 3
    with pytest.raises(ArtifactError, match=f"key {old} was revoked"):
        world.installer.install(old_parcel)
    world.installer.install(world.parcel(3))
    assert set(read_trust(world.folders).keyring.trusted) == {new}
    assert not (world.keys.folder / f"{old}.pem").exists()


def with_a_revoked_key(world: World) -> str:
    """The key that signed what is installed, revoked, and the device knows it."""
    world.installer.install(world.parcel(1))
    old = world.keys.active_id()
    world.keys.rotate()
    world.keys.revoke(old)
    world.installer.update_trust(world.keys.chain())
    return old


def test_a_rollback_does_not_bring_back_what_a_revoked_key_signed(world: World) -> None:
    stolen = with_a_revoked_key(world)
    world.installer.install(world.parcel(2, OTHER_FILES))
    with pytest.raises(ArtifactError, match=f"earlier version of anna is refused.* {stolen} was revoked"):
        world.installer.rollback("anna")
    assert world.content() == OTHER_FILES["model.bin"]


def test_folders_that_are_links_are_not_followed(world: World, tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "precious").touch()
    world.folders.state.mkdir(parents=True, exist_ok=True)
    world.folders.incoming.symlink_to(elsewhere)
    with pytest.raises(ArtifactError, match="is a link"):
        world.installer.install(world.parcel())
    assert (elsewhere / "precious").exists()


def test_a_revoked_key_shows_in_the_health_of_what_it_signed(world: World) -> None:
    with_a_revoked_key(world)
    (row,) = world.installer.inventory()
    assert "revoked" in row["health"]
    assert world.installer.install(world.parcel(1))["changed"], "signing it again mends it"
    assert world.installer.inventory()[0]["health"] == "ok"


def test_key_updates_cannot_be_forged_skipped_or_replayed(world: World, tmp_path: Path) -> None:
    stranger = KeyStore(tmp_path / "stranger")
    stranger.new()
    keyring = read_trust(world.folders).keyring
    forged = signed_update(keyring.with_key(bytes(32)), stranger.active())
    with pytest.raises(ArtifactError, match="not provisioned"):
        world.installer.update_trust([forged])
    for _ in range(2):
        world.keys.rotate()
    with pytest.raises(ArtifactError, match=r"not provisioned|does not follow"):
        world.installer.update_trust(world.keys.chain()[2:])
    world.installer.update_trust(world.keys.chain())
    assert world.installer.update_trust(world.keys.chain()[:1]) == 3, "an old update changes nothing"
    for damage in ({}, {"keyring": "zz"}, {"keyring": "00", "signed_by": 1, "signature": ""}):
        with pytest.raises(ArtifactError, match="damaged"):
            world.installer.update_trust([damage])


def test_plain_parcels_are_for_development_devices_only(world: World, tmp_path: Path) -> None:
    path = tmp_path / "plain.hvp"
    path.write_bytes(pack_plain(FILES, Release("anna", 1)))
    with pytest.raises(ArtifactError, match="plain, neither signed nor sealed"):
        world.installer.install(path)
    folders = DeviceFolders(tmp_path / "bench")
    provision(folders, Keyring(), development=True)
    bench = World(world.keys, folders, world.identity, tmp_path)
    bench.installer.install(path)
    assert bench.installer.inventory()[0]["plain"] is True
    assert bench.content() == FILES["model.bin"]


def test_templates_cannot_be_read_from_a_sealed_parcel(world: World) -> None:
    data = world.parcel().read_bytes()
    assert FILES["model.bin"][:16] not in data
    assert world.parcel().read_bytes() != data, "sealing is never the same twice"


def test_a_damaged_file_on_the_device_shows_and_a_repeat_mends_it(world: World) -> None:
    world.installer.install(world.parcel())
    (world.folders.bundles / "anna.hvb" / "model.bin").write_bytes(b"x")
    assert "model.bin was changed" in world.installer.inventory()[0]["health"]
    assert world.installer.install(world.parcel())["changed"]
    assert world.installer.inventory()[0]["health"] == "ok"


def test_provisioning_happens_once(world: World, tmp_path: Path) -> None:
    assert provision(world.folders, world.keys.keyring()).device_id == world.identity.device_id
    stranger = KeyStore(tmp_path / "stranger")
    stranger.new()
    with pytest.raises(UsageError, match="provisioned with other keys"):
        provision(world.folders, stranger.keyring())
    assert stat.S_IMODE((world.folders.keys / DEVICE_KEY).stat().st_mode) == 0o600
    with pytest.raises(MissingError, match="not provisioned"):
        read_trust(DeviceFolders(tmp_path / "nowhere"))


def test_key_files_are_private_and_may_have_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyStore(tmp_path / "keys")
    with pytest.raises(MissingError, match="toolkit keys new"):
        keys.active()
    key = keys.new("open sesame")
    path = keys.folder / f"{key}.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"ENCRYPTED" in path.read_bytes()
    with pytest.raises(UsageError, match="passphrase"):
        keys.active()
    monkeypatch.setenv("HYPERVERIFY_PASSPHRASE", "wrong")
    with pytest.raises(UsageError, match="does not open"):
        keys.active()
    monkeypatch.setenv("HYPERVERIFY_PASSPHRASE", "open sesame")
    keys.active()
    path.chmod(0o644)
    with pytest.raises(UsageError, match="can be read by others"):
        keys.active()
    with pytest.raises(UsageError, match="already"):
        keys.new()
    with pytest.raises(UsageError, match="cannot revoke itself"):
        keys.revoke(key)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300), tail=st.binary(max_size=100))
def test_anything_at_all_is_refused_and_nothing_crashes(world: World, body: bytes, tail: bytes) -> None:
    path = world.tmp / "junk.hvp"
    path.write_bytes(MAGIC + len(body).to_bytes(4, "big") + body + tail)
    with pytest.raises(ArtifactError):
        world.installer.install(path)


HOSTILE = [
    [["../../etc/passwd", 1, "0" * 64]],
    [["/etc/passwd", 1, "0" * 64]],
    [["a/b", 1, "0" * 64]],
    [["..", 1, "0" * 64]],
    [["a\0b", 1, "0" * 64]],
    [["", 1, "0" * 64]],
    [["model.bin", 1 << 50, "0" * 64]],
    [["model.bin", -1, "0" * 64]],
    [["model.bin", True, "0" * 64]],
    [["a", 1, "0" * 64], ["A", 1, "0" * 64]],
    [[f"f{i}", 0, "0" * 64] for i in range(65)],
    [["a", 1]],
    [],
    {},
]


@pytest.mark.parametrize("files", HOSTILE, ids=range(len(HOSTILE)))
def test_paths_bombs_and_doubles_in_a_header_are_refused(world: World, files: object) -> None:
    from device.link import canonical

    path = world.parcel()
    document = canonical.decode(read_parcel(path).header.to_bytes())
    body = canonical.encode(document | {"files": files})
    path.write_bytes(MAGIC + len(body).to_bytes(4, "big") + body + bytes(SIGNATURE_BYTES + 300))
    before = {p for p in world.tmp.rglob("*") if p != path}
    with pytest.raises(ArtifactError, match="header is damaged"):
        world.installer.install(path)
    made = {p.name for p in world.tmp.rglob("*") if p != path} - {p.name for p in before}
    assert made <= {"lock", "versions", "bundles", "incoming", "lib", "var", "hyperverify"}
    assert os.path.realpath(world.folders.state).startswith(str(world.tmp))
