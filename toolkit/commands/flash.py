"""`toolkit flash`: a card with Raspberry Pi OS becomes a whole device before it ever starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.keys import open_keys
from toolkit.commands.options import Json
from toolkit.errors import UsageError
from toolkit.output import emit, note, table

if TYPE_CHECKING:
    from device.link.card import Card
    from device.link.flash import Contents, Wifi

Target = Annotated[
    Path,
    typer.Argument(metavar="CARD", help="An image file, a card reader (/dev/sdX), or the folder of a mounted root.",
                   show_default=False),
]  # fmt: skip
Bundles = Annotated[list[Path] | None, typer.Argument(metavar="[BUNDLE]...", help="Bundle folders NAME.hvb.")]
As = Annotated[str, typer.Option("--as", metavar="HOST", help="What this workstation will call it: root@door.")]
House = Annotated[
    Path | None, typer.Option("--wheelhouse", metavar="FOLDER", help="Packages for its first boot; see wheelhouse.")
]
Boot = Annotated[
    Path | None, typer.Option("--boot", metavar="FOLDER", help="Of a mounted card: its boot partition's folder.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="Leave the image file as it is, write this one.")
]
Config = Annotated[Path | None, typer.Option(help="The device's configuration; default: that of init-device.")]
SshKey = Annotated[
    Path | None, typer.Option("--ssh-key", metavar="FILE", help="A public key that may log in as root, over SSH.")
]
WifiName = Annotated[
    str,
    typer.Option("--wifi", metavar="NAME", help="A WPA2 network; its password: asked, or HYPERVERIFY_WIFI_PASSWORD."),
]
Country = Annotated[str, typer.Option(help="Two letters, with --wifi: a Pi's radio is off until it knows them.")]
Hostname = Annotated[str, typer.Option(help="The name it gives itself; default: as it is on the card.")]
Development = Annotated[bool, typer.Option("--development", help="Take plain parcels too; never at a real door.")]
Check = Annotated[bool, typer.Option("--check", help="Only read the card back, and say what is on it.")]
Replace = Annotated[
    bool, typer.Option("--replace", help="Make a card that is a device already a new one; overwrite --out.")
]
Any_ = Annotated[bool, typer.Option("--any-target", help="Also what is neither removable nor Raspberry Pi OS.")]


def flash(
    card: Target,
    bundles: Bundles = None,
    host: As = "",
    wheelhouse: House = None,
    boot: Boot = None,
    out: Out = None,
    config: Config = None,
    hostname: Hostname = "",
    ssh_key: SshKey = None,
    wifi: WifiName = "",
    country: Country = "",
    development: Development = False,
    check: Check = False,
    replace: Replace = False,
    any_target: Any_ = False,
    json: Json = False,
) -> None:
    """Put people, keys, packages and service onto a card with Raspberry Pi OS; at its first boot it is a device.

    Needs sfdisk, mtools and e2fsprogs; neither a loop device nor, for image files, root. The card is read back before
    what starts it at boot is put there. An image file is edited as a copy that takes its place at the end, 0600.
    """
    from device.link import flash as link
    from device.link.card import check_removable
    from device.link.inventory import Inventory

    _check_usage(card, boot, out, host, wheelhouse, check, replace)
    if check:
        return _read_back(card, boot, json)
    contents = _contents(host, wheelhouse, bundles or [], hostname, config, ssh_key, _wifi(wifi, country), development)
    if not any_target:
        check_removable(card)
    with _opened(card, boot, out, write=True) as opened:
        link.look(opened, contents.house, any_target)
        device, report = link.flash(opened, contents, replace=replace, say=note)
    Inventory().add(device)
    report = {**report, "host": host}
    hint = "next: put it into the Pi; after some minutes `toolkit devices`"
    return emit(report, json, lambda: f"{_human(report)}\n{hint}")


def _read_back(card: Path, boot: Path | None, json: bool) -> None:
    from device.link.flash import check

    with _opened(card, boot, None, write=False) as opened:
        emit(report := check(opened), json, lambda: _human(report))


@contextmanager
def _opened(card: Path, boot: Path | None, out: Path | None, *, write: bool) -> Iterator[Card]:
    from device.link.card import FolderCard
    from device.link.card_image import ImageCard, check_tools, edited

    if boot:
        yield FolderCard(card, boot)
        return
    check_tools()
    if write:
        with edited(card, out) as opened:
            yield opened
    else:
        yield ImageCard(card)


def _check_usage(
    card: Path, boot: Path | None, out: Path | None, host: str, wheelhouse: Path | None, check: bool, replace: bool
) -> None:
    if not card.exists():
        raise UsageError(f"{card} does not exist")
    if card.is_dir() and boot is None:
        raise UsageError(f"{card} is a folder", do="name the folder of its boot partition too: --boot FOLDER")
    if boot is not None and not (card.is_dir() and boot.is_dir()):
        raise UsageError("--boot goes with a card that is mounted", expected="two folders")
    if out is not None and not card.is_file():
        raise UsageError("--out is for image files")
    if out is not None and out.exists() and not replace:
        raise UsageError(f"{out} exists already", do="choose another name or pass --replace")
    if not check and not (host and wheelhouse):
        raise UsageError("a new device needs a name and its packages: --as HOST and --wheelhouse FOLDER")


def _contents(
    host: str, wheelhouse: Path | None, bundles: list[Path], hostname: str, config: Path | None, ssh_key: Path | None,
    wifi: Wifi | None, development: bool,
) -> Contents:  # fmt: skip
    """Everything is checked, and a passphrase asked for, before the card is touched."""
    import re

    from device.link.flash import Contents
    from device.link.package import Goods
    from device.link.ssh import check_host
    from device.link.wheelhouse import read_wheelhouse
    from device.settings import read_settings

    if hostname and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", hostname):
        raise UsageError("this is no host name", got=hostname, expected="letters, digits, dashes")
    if config:
        read_settings(config)
    keys = open_keys()
    keys.active()
    goods = [Goods(path, keys) for path in bundles]
    if any(one.ready for one in goods):
        raise UsageError("a parcel is sealed for a device that exists", do="give the bundle's folder")
    if len({one.name for one in goods}) != len(goods):
        raise UsageError("two of these bundles are of one person", got=", ".join(sorted(one.name for one in goods)))
    assert wheelhouse is not None
    return Contents(
        check_host(host), read_wheelhouse(wheelhouse), goods, keys, hostname, config, _public_key(ssh_key), wifi,
        development,
    )  # fmt: skip


def _public_key(path: Path | None) -> str:
    if path is None:
        return ""
    text = path.read_text(errors="replace").strip() if path.is_file() else ""
    if "\n" in text or not text.startswith(("ssh-", "ecdsa-", "sk-")):
        raise UsageError(f"{path} is no public SSH key", expected="one line, as in ~/.ssh/id_ed25519.pub")
    return text


def _wifi(name: str, country: str) -> Wifi | None:
    from device.link.flash import Wifi

    if not name:
        return None
    password = os.environ.get("HYPERVERIFY_WIFI_PASSWORD", "")
    if not password and sys.stdin.isatty():
        password = str(typer.prompt(f"password of {name}", hide_input=True, err=True))
    wifi = Wifi(name, password, country)
    wifi.check()
    return wifi


def _human(report: dict[str, Any]) -> str:
    state = "has started already" if report["started"] else "waits for its first boot"
    head = f"{report['card']}: device {report['device_id']}, {state}; {report['files']} files as they were put there; "
    head += f"file system {report['file_system']}; trusts {', '.join(report['trusted'])}"
    rows = [(person["name"], person["version"], person["health"]) for person in report["people"]]
    return head + ("\n" + table(rows, ("person", "version", "health")) if rows else "\nnobody on it yet")
