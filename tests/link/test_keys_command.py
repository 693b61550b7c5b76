"""`toolkit keys`, as a person uses it."""

from __future__ import annotations

import stat
from pathlib import Path

from link_support import Toolkit


def test_new_rotate_revoke_show(toolkit: Toolkit, tmp_path: Path) -> None:
    none = toolkit("keys", "show", "--json")
    assert none.code == 3
    assert "toolkit keys new" in none.err
    first = toolkit("keys", "new", "--json").json["keys"][0]
    assert first["state"] == "signs"
    assert toolkit("keys", "new").code == 2
    second = next(k for k in toolkit("keys", "rotate", "--json").json["keys"] if k["state"] == "signs")
    assert toolkit("keys", "revoke", second["key"]).code == 2
    assert toolkit("keys", "revoke", "0123").code == 2
    assert toolkit("keys", "revoke", first["key"]).code == 0
    shown = toolkit("keys", "show", "--json").json
    assert {k["key"]: k["state"] for k in shown["keys"]} == {second["key"]: "signs", first["key"]: "revoked"}
    folder = tmp_path / "config" / "keys"
    assert sorted(p.name for p in folder.iterdir()) == sorted([f"{second['key']}.pem", "keyring.json"])
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {0o600}


def test_a_passphrase_is_asked_for_once_the_key_has_one(toolkit: Toolkit) -> None:
    assert toolkit("keys", "new", "--passphrase").code == 2, "no terminal to ask on"
    assert toolkit("keys", "new", "--passphrase", HYPERVERIFY_PASSPHRASE="x").code == 0
    refused = toolkit("keys", "rotate")
    assert refused.code == 2
    assert "HYPERVERIFY_PASSPHRASE" in refused.err
    assert toolkit("keys", "rotate", HYPERVERIFY_PASSPHRASE="x").code == 0
