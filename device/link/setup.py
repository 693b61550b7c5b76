"""A device's packages from a wheelhouse: look, send what is missing, have the device build, test and switch."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device.link.deploy import Outcome
from device.link.ssh import SshLink
from device.link.wheelhouse import Wheelhouse
from toolkit.errors import MissingError, UsageError

INSTALL_S = 1800  # unpacking OpenCV onto a slow card, and the self-tests
ROOM = 5  # times the wheelhouse: the wheels, the files in them, and the environment before stays

# With sudo where the account needs and has it; -I: nobody's PYTHONPATH gets a say in what root installs.
START = """
d=${{HYPERVERIFY_DEVICE_ROOT:-}}/opt/hyperverify
s=
if [ "$(id -u)" != 0 ] && [ ! -w "$d" ] && sudo -n true 2>/dev/null; then s="sudo -n"; fi
exec $s python3 -I -c {program}
"""


class SetupLink(SshLink):
    """A link to a device that has nothing but Python: it is given the program that answers."""

    lacks, remedy = "Python", "on the device: `sudo apt install python3`"

    def start(self) -> str:
        program = Path(__file__).with_name("bootstrap.py").read_text()
        return START.format(program=shlex.quote(program))


def set_up(host: str, outcome: Outcome, house: Wheelhouse, dry_run: bool, say: Callable[[str], None]) -> bool:
    """Install or update the packages of one host; False if there are none yet and none were installed (`dry_run`)."""
    with SetupLink(host) as link:
        try:
            facts = link.ask("look", id=house.id, python=house.python)
            _check(host, facts, house)
            if facts["current"] == house.id and not (facts["unfinished"] and not dry_run):
                outcome.packages = "unchanged"
            elif facts["current"] == house.id:
                link.ask("finish", within_s=INSTALL_S)
                outcome.packages = "finished"
            elif dry_run:
                outcome.packages = "would replace" if facts["any"] else "would add"
            else:
                _install(link, house, say)
                outcome.packages = "replaced" if facts["any"] else "added"
        finally:
            outcome.sent_bytes += link.sent_bytes
    return bool(facts["any"]) or not dry_run


def _check(host: str, facts: dict[str, Any], house: Wheelhouse) -> None:
    if facts["machine"] != house.machine or not facts["python"]:
        raise UsageError(
            f"the wheelhouse {house.path.name} is not for {host}",
            got=f"{facts['machine']}, Python {facts['system_python']}",
            expected=f"{house.machine}, Python {house.python}", do="make one for it: `toolkit wheelhouse --target …`",
        )  # fmt: skip
    if facts["current"] == house.id:
        return
    if not facts["writable"]:
        raise MissingError(
            f"{facts['folder']} on {host} is not writable",
            do="log in as root, or allow the account sudo without password",
        )
    if facts["free_bytes"] < ROOM * house.size_bytes:
        raise MissingError(
            f"there is too little space on {host}", got=f"{facts['free_bytes'] / 1e6:.0f} MB free",
            expected=f"{ROOM * house.size_bytes / 1e6:.0f} MB", do="free some: `sudo apt clean`",
        )  # fmt: skip


def _install(link: SshLink, house: Wheelhouse, say: Callable[[str], None]) -> None:
    say(f"{link.host}: sending {len(house.files)} packages, {house.size_bytes / 1e6:.0f} MB")
    for file in house.files:
        link.upload(file.sha256, (house.path / file.name).read_bytes())
    say(f"{link.host}: installing and testing them")
    files = [[file.name, file.sha256] for file in house.files]
    link.ask("install", within_s=INSTALL_S, id=house.id, python=house.python, files=files)
