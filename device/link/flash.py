"""Put a whole device onto a card: keys, people, packages, service, and what the first boot does with them.

What is on the card is first made as a tree of files here, by the very code that runs on a device (provision, verify,
unseal, self-test, switch); then the tree is put onto the card and read back. What starts it all at boot goes last.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device.link.card import Card, described, differences, refuse
from device.link.folders import DeviceFolders
from device.link.identity import is_provisioned, provision, read_identity, read_trust
from device.link.install import Installer
from device.link.inventory import Device
from device.link.keystore import KeyStore
from device.link.package import Goods
from device.link.service import NoService
from device.link.wheelhouse import Wheelhouse
from device.settings import TEMPLATE, read_settings
from device.unit import CONFIG, ENVIRONMENT, unit_text
from toolkit.errors import ArtifactError, InputError, MissingError, UsageError

HERE = Path(__file__).parents[1]
STATE, KEYS, BASE = "var/lib/hyperverify", "etc/hyperverify", "opt/hyperverify"
LIST = f"{KEYS}/card.json"  # every file that was put there, with its mode and hash
PLAN = f"{BASE}/first-boot.json"
UNITS = "etc/systemd/system"
WANTS = f"{UNITS}/multi-user.target.wants"
PROGRAM = f"{ENVIRONMENT}/bin/python -m toolkit"
NOT_BEFORE = "[Unit]\nConditionPathExists=!/opt/hyperverify/first-boot.json\n"  # until the packages are there
WIFI = """[connection]
id={ssid}
type=wifi
[wifi]
ssid={ssid}
[wifi-security]
key-mgmt=wpa-psk
psk={psk}
[ipv4]
method=auto
[ipv6]
method=auto
"""


@dataclass(frozen=True)
class Wifi:
    """A network with WPA2. `country`: two letters; a Pi's radio stays off until it knows them."""

    ssid: str
    password: str
    country: str

    def check(self) -> None:
        """Raises UsageError."""
        plain = self.ssid.isprintable() and not set(self.ssid) & set('"\\;') and self.ssid.strip() == self.ssid
        if not plain or not 1 <= len(self.ssid.encode()) <= 32:
            raise UsageError("this cannot be a Wi-Fi's name here", got=repr(self.ssid), expected="1 to 32 bytes")
        if not 8 <= len(self.password) <= 63 or not self.password.isascii():
            raise UsageError("a Wi-Fi password has 8 to 63 characters of ASCII", got=f"{len(self.password)} characters")
        if len(self.country) != 2 or not (self.country.isascii() and self.country.isalpha() and self.country.isupper()):
            raise UsageError("--country wants two capital letters", got=self.country, expected="for example DE")

    def connection(self) -> str:
        """For NetworkManager; the key that the password stands for (IEEE 802.11i, H.4), not the password."""
        psk = hashlib.pbkdf2_hmac("sha1", self.password.encode(), self.ssid.encode(), 4096, 32).hex()
        return WIFI.format(ssid=self.ssid, psk=psk)


@dataclass(frozen=True)
class Contents:
    """What a new device is to be. `host`: what this workstation will call it."""

    host: str
    house: Wheelhouse
    goods: Sequence[Goods]
    keys: KeyStore
    hostname: str = ""
    config: Path | None = None
    ssh_key: str = ""
    wifi: Wifi | None = None
    development: bool = False


def look(card: Card, house: Wheelhouse | None, any_target: bool) -> None:
    """Is this Raspberry Pi OS, and one for these packages? Raises UsageError or MissingError."""
    pi = card.read_boot("config.txt") is not None and card.read_boot("cmdline.txt") is not None
    if not (pi and card.has("etc/rpi-issue")) and not any_target:
        raise UsageError(f"{card.name} is not a card with Raspberry Pi OS", do="--any-target writes there anyway")
    if house is None:
        return
    for path in (f"usr/lib/{house.machine}-linux-gnu", f"usr/bin/python{house.python}"):
        if not card.has(path):
            raise UsageError(
                f"the wheelhouse {house.path.name} is not for this card", got=f"no /{path} there",
                expected=f"{house.machine} and Python {house.python}",
                do="take another image, or another `toolkit wheelhouse --target …`",
            )  # fmt: skip
    if card.free_bytes() < 1.2 * house.size_bytes:
        raise MissingError(
            "there is too little space on the card's root partition", got=f"{card.free_bytes() / 1e6:.0f} MB free",
            expected=f"{1.2 * house.size_bytes / 1e6:.0f} MB", do="start the Pi with it once, so that it grows",
        )  # fmt: skip


def flash(
    card: Card, contents: Contents, *, replace: bool, say: Callable[[str], None]
) -> tuple[Device, dict[str, Any]]:
    """Make the device, put it on the card, read it back. Returns what the inventory keeps, and a report."""
    if card.has(f"{KEYS}/keys"):
        if not replace:
            raise UsageError("this card is a device already", do="pass --replace to make it a new one, with new keys")
        for path in (f"{WANTS}/hyperverify-setup.service", f"{WANTS}/hyperverify.service", KEYS, STATE, BASE):
            card.delete(path)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "card")
        tree.mkdir()
        say("making keys, testing everybody")
        device = _people(tree, contents)
        _service(tree, contents)
        _packages(tree, contents.house)
        _access(card, tree, contents)
        _write_list(tree)
        paths = _paths(tree)
        last = [path for path in paths if path.startswith(f"{WANTS}/")]
        first = [path for path in paths if path not in last]
        say(f"writing {sum(p.lstat().st_size for p in tree.rglob('*')) / 1e6:.0f} MB, and reading them back")
        card.put(tree, first)
        refuse(differences(card, tree, first), card.name)
        _boot(card, contents)
        card.put(tree, last)
        refuse(differences(card, tree, last), card.name)
    if problem := card.problem():
        raise ArtifactError(f"the card's file system is damaged: {problem}", do="write the card again")
    return device, check(card)


def _people(tree: Path, contents: Contents) -> Device:
    """Provision and install as a device does, self-test included."""
    folders = DeviceFolders(tree)
    _folder(tree, STATE)
    identity = provision(folders, contents.keys.keyring(), development=contents.development)
    device = Device(host=contents.host, **identity.public())
    installer = Installer(folders, service=NoService())
    installer.store.prepare()
    for goods in contents.goods:
        parcel = goods.parcel(device, 0)
        installer.install(parcel)
        goods.installed(parcel)
    (folders.state / "lock").unlink(missing_ok=True)
    return device


def _service(tree: Path, contents: Contents) -> None:
    config = (contents.config or TEMPLATE).read_bytes()
    settings = read_settings(contents.config or TEMPLATE)
    _file(tree, str(CONFIG.relative_to("/")), config, 0o600)
    _file(tree, f"{UNITS}/hyperverify.service", unit_text(settings, PROGRAM, CONFIG).encode(), 0o644)
    _file(tree, f"{UNITS}/hyperverify.service.d/first-boot.conf", NOT_BEFORE.encode(), 0o644)
    _file(tree, f"{UNITS}/hyperverify-setup.service", (HERE / "hyperverify-setup.service").read_bytes(), 0o644)
    _folder(tree, WANTS)
    for unit in ("hyperverify.service", "hyperverify-setup.service"):
        (tree / WANTS / unit).symlink_to(f"/{UNITS}/{unit}")


def _packages(tree: Path, house: Wheelhouse) -> None:
    _file(tree, f"{BASE}/bootstrap.py", (HERE / "link" / "bootstrap.py").read_bytes(), 0o644)
    for file in house.files:
        _file(tree, f"{BASE}/incoming/{file.sha256}", (house.path / file.name).read_bytes(), 0o644)
    plan = {"id": house.id, "python": house.python, "files": [[file.name, file.sha256] for file in house.files]}
    _file(tree, PLAN, json.dumps(plan).encode(), 0o644)


def _access(card: Card, tree: Path, contents: Contents) -> None:
    """Its name, who may log in, and its Wi-Fi."""
    if contents.hostname:
        _file(tree, "etc/hostname", f"{contents.hostname}\n".encode(), 0o644)
        lines = (card.read("etc/hosts") or b"127.0.0.1\tlocalhost\n").decode(errors="replace").splitlines()
        lines = [line for line in lines if not line.startswith("127.0.1.1")] + [f"127.0.1.1\t{contents.hostname}"]
        _file(tree, "etc/hosts", ("\n".join(lines) + "\n").encode(), 0o644)
    if contents.ssh_key:
        known = (card.read("root/.ssh/authorized_keys") or b"").decode(errors="replace").splitlines()
        lines = [*(line for line in known if line != contents.ssh_key), contents.ssh_key]
        _folder(tree, "root").chmod(0o700)
        _folder(tree, "root/.ssh").chmod(0o700)
        _file(tree, "root/.ssh/authorized_keys", ("\n".join(lines) + "\n").encode(), 0o600)
    if contents.wifi:
        place = "etc/NetworkManager/system-connections/hyperverify.nmconnection"
        _file(tree, place, contents.wifi.connection().encode(), 0o600)


def _boot(card: Card, contents: Contents) -> None:
    """The boot partition: an empty file `ssh` has Raspberry Pi OS start its SSH server."""
    if contents.ssh_key:
        card.write_boot("ssh", b"")
    if contents.wifi:
        words = (card.read_boot("cmdline.txt") or b"").decode(errors="replace").split()
        kept = [word for word in words if not word.startswith("cfg80211.ieee80211_regdom=")]
        line = " ".join([*kept, f"cfg80211.ieee80211_regdom={contents.wifi.country}"]) + "\n"
        card.write_boot("cmdline.txt", line.encode())
        if card.read_boot("cmdline.txt") != line.encode():
            raise ArtifactError("cmdline.txt is not on the card as it was written", do="write the card again")


def _write_list(tree: Path) -> None:
    rows = {path: described(tree / path) for path in _paths(tree) if described(tree / path)}
    _file(tree, LIST, (json.dumps({"schema_version": 1, "files": rows}, indent=1) + "\n").encode(), 0o600)


def _paths(tree: Path) -> list[str]:
    return sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))


def _folder(tree: Path, path: str) -> Path:
    """With the modes that an installed system has."""
    folder = tree
    for part in Path(path).parts:
        folder = folder / part
        if not folder.is_dir():
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)
    return folder


def _file(tree: Path, path: str, data: bytes, mode: int) -> None:
    target = _folder(tree, str(Path(path).parent)) / Path(path).name
    target.write_bytes(data)
    target.chmod(mode)


@contextmanager
def _copy(card: Card, paths: Sequence[str]) -> Iterator[Path]:
    """These paths of a card as a private tree here."""
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            place = Path(folder, path).parent
            place.mkdir(parents=True, exist_ok=True)
            card.fetch(path, place)
        yield Path(folder)


def check(card: Card) -> dict[str, Any]:
    """Read a card back. Raises InputError (nothing of ours there) or ArtifactError (not as it was put there)."""
    with _copy(card, [KEYS, STATE, PLAN]) as tree:
        folders = DeviceFolders(tree)
        if not is_provisioned(folders) or not (tree / LIST).is_file():
            raise InputError(f"{card.name} holds no device of hyperverify", do="make one: `toolkit flash`")
        try:
            listed: dict[str, Any] = json.loads((tree / LIST).read_bytes())["files"]
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"/{LIST} on the card is damaged", do="write the card again") from error
        started = not (tree / PLAN).is_file()
        if not started:
            refuse(_changed(card, listed), card.name)
        people = Installer(folders, service=NoService()).inventory()
        sick = [f"{person['name']}: {person['health']}" for person in people if person["health"] != "ok"]
        refuse(sick, card.name)
        plan = {} if started else json.loads((tree / PLAN).read_bytes())
        return {
            "card": card.name, "started": started, "device_id": read_identity(folders).device_id,
            "trusted": sorted(read_trust(folders).keyring.trusted), "people": people, "wheelhouse": plan.get("id"),
            "files": len(listed), "file_system": card.problem() or "clean",
        }  # fmt: skip


def _changed(card: Card, listed: dict[str, Any]) -> list[str]:
    with _copy(card, sorted(listed)) as tree:
        return [path for path, found in listed.items() if described(tree / path) != found]
