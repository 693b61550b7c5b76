"""`toolkit keys`: the signing keys of this workstation."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.options import Json
from toolkit.errors import UsageError
from toolkit.output import emit, table

if TYPE_CHECKING:
    from device.link.keystore import KeyStore

app = typer.Typer(
    help="Signing keys: devices install only what a key that they trust has signed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Passphrase = Annotated[
    bool, typer.Option("--passphrase", help="Ask for a passphrase for the new key (or HYPERVERIFY_PASSPHRASE).")
]


@app.command()
def new(passphrase: Passphrase = False, json: Json = False) -> None:
    """Make the first signing key. Its file is 0600 in the configuration folder; back it up."""
    keys = open_keys()
    made = keys.new(_new_passphrase(passphrase))
    emit(_state(keys), json, lambda: f"key {made} signs from now on; its file: {keys.folder / made}.pem")


@app.command()
def show(json: Json = False) -> None:
    """The keys that devices trust, the one that signs, and those revoked."""
    state = _state(open_keys())
    rows = [(row["key"], row["state"], row["public"]) for row in state["keys"]]
    emit(state, json, lambda: table(rows, ("key", "state", "Ed25519 public key")))


@app.command()
def rotate(passphrase: Passphrase = False, json: Json = False) -> None:
    """Make a new key that signs from now on; the old one vouches for it, and stays trusted until it is revoked.

    Devices hear of it at their next deploy.
    """
    keys = open_keys()
    old, made = keys.active_id(), keys.rotate(_new_passphrase(passphrase))
    emit(
        _state(keys),
        json,
        lambda: f"key {made} signs from now on; {old} stays trusted until `toolkit keys revoke {old}`",
    )


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id, from `toolkit keys show`.", show_default=False)],
    json: Json = False,
) -> None:
    """Have devices refuse everything a key signed, for good. Its private half is deleted here.

    Devices hear of it at their next deploy; until then they still trust the key.
    """
    keys = open_keys()
    keys.revoke(key)
    emit(_state(keys), json, lambda: f"key {key} is revoked; `toolkit deploy` tells each device")


def open_keys() -> KeyStore:
    """This user's keys, asking for passphrases on a terminal only."""
    from device.link.keystore import own_keys

    return own_keys(_ask) if sys.stdin.isatty() else own_keys()


def _ask(question: str) -> str:
    return str(typer.prompt(question, hide_input=True, err=True))


def _new_passphrase(wanted: bool) -> str:
    if not wanted:
        return ""
    if given := os.environ.get("HYPERVERIFY_PASSPHRASE"):
        return given
    if not sys.stdin.isatty():
        raise UsageError("no terminal to ask for a passphrase on", do="set HYPERVERIFY_PASSPHRASE")
    return str(typer.prompt("passphrase of the new key", hide_input=True, confirmation_prompt=True, err=True))


def _state(keys: KeyStore) -> dict[str, Any]:
    keyring, active = keys.keyring(), keys.active_id()
    rows: list[dict[str, Any]] = [
        {"key": key, "state": "signs" if key == active else "trusted", "public": public.hex()}
        for key, public in keyring.trusted.items()
    ]
    rows += [{"key": key, "state": "revoked", "public": ""} for key in sorted(keyring.revoked)]
    return {"serial": keyring.serial, "keys": rows}
