"""The commands of an unattended device: cameras, its configuration and unit, logins."""

from __future__ import annotations

from pathlib import Path

from test_commands import Toolkit, make_video


def test_cameras_says_when_there_is_none_and_lists_what_there_is(toolkit: Toolkit) -> None:
    done = toolkit("cameras", "--json")
    if list(Path("/dev").glob("video*")):
        assert done.code in (0, 3)
    else:
        assert done.code == 3
        assert "no camera found; connect one" in done.json["error"]["message"]


def test_run_checks_a_configuration(toolkit: Toolkit, bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "device.toml"
    assert toolkit("init-device", config).code == 0
    assert toolkit("init-device", config).code == 2, "never overwritten"
    done = toolkit("run", bundle, "--config", config, "--check", "--json")
    assert done.code == 0, done.err
    assert done.json["users"] == ["obama"]
    config.write_text("[users]\nbundle = 'x'\n")
    done = toolkit("run", "--config", config)
    assert done.code == 2
    assert "did you mean bundles?" in done.err
    assert toolkit("run").code == 2
    assert "no bundle given" in toolkit("run").err


def test_options_cannot_open_what_the_configuration_keeps_shut(toolkit: Toolkit, bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "device.toml"
    config.write_text(f'[users]\nbundles = "{bundle}"\n[preview]\naddress = "0.0.0.0"\n')
    assert toolkit("run", "--config", config, "--check").code == 0
    done = toolkit("run", "--config", config, "--check", "--preview", "web")
    assert (done.code, "needs a token" in done.err) == (2, True), done.err


def test_init_device_writes_a_unit_that_fits(toolkit: Toolkit, tmp_path: Path) -> None:
    unit = tmp_path / "hyperverify.service"
    done = toolkit("init-device", tmp_path / "device.toml", "--unit", unit, "--json")
    assert done.code == 0, done.err
    assert len(done.json["written"]) == 2
    text = unit.read_text()
    assert f"run --config {tmp_path / 'device.toml'}" in text
    for line in ("ExecStartPre", "ExecReload"):
        assert f"{line}=+/bin/chgrp hyperverify {tmp_path / 'device.toml'}" in text, "the service's user can read it"
    assert (tmp_path / "device.toml").stat().st_mode & 0o077 == 0


def test_pam_lets_in_only_who_logs_in(toolkit: Toolkit, bundle: Path, photos: Path, tmp_path: Path) -> None:
    for name, codes in (("obama", (0,)), ("biden", (4, 10))):
        video = make_video(tmp_path / f"{name}.avi", [photos / f"{name}.jpg"], frames=20)
        config = tmp_path / f"{name}.toml"
        config.write_text(f'[camera]\nsource = "{video}"\n[users]\nbundles = "{bundle}"\n')
        assert toolkit("pam", "--config", config, PAM_USER="obama").code in codes
    assert toolkit("pam", "--config", config, PAM_USER="root").code == 4
    assert toolkit("pam", "--config", config).code == 2
