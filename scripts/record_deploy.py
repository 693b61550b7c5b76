"""Record the terminal pictures of docs/deploy.md from real runs: a card, a deploy, an opened door.

    python scripts/record_deploy.py [FOLDER]        default: docs/img

The device is an OpenSSH server in a network namespace of this machine, with a root folder of its own; the card an image
file with Raspberry Pi OS's outline, and a wheelhouse of stand-ins; the person the astronaut of scikit-image. Needs root
and `apt install openssh-server iproute2 fdisk dosfstools mtools e2fsprogs`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/link")]

from cards import boot_files, make_card, outline  # noqa: E402
from hosts import Network, why_not  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.text import Text  # noqa: E402
from wheels import HERE, small_wheelhouse  # noqa: E402

COLUMNS = 100


class Terminal:
    """Runs commands, keeps what a person would see; paths of this machine are told as the device's."""

    def __init__(self, folder: Path, environment: dict[str, str], hidden: dict[str, str]):
        self.folder, self.hidden, self.lines = folder, hidden, list[str]()
        self.environment = os.environ | environment | {"PYTHONPATH": str(ROOT), "COLUMNS": str(COLUMNS)}

    def run(self, shown: str, command: list[str] | None = None) -> None:
        actual = command or [sys.executable, "-m", *shown.replace("\\\n", " ").split()]
        done = subprocess.run(actual, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)  # fmt: skip
        said = done.stdout.rstrip()
        for path, name in self.hidden.items():
            said = said.replace(path, name)
        if done.returncode:
            sys.exit(f"{shown}: exit code {done.returncode}\n{said}")
        self.lines += [f"$ {shown}", said]
        print(f"$ {shown}\n{said}", flush=True)

    def save(self, path: Path, title: str) -> None:
        """An SVG that fetches nothing: rich's, without its web fonts."""
        console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
        for line in "\n".join(self.lines).splitlines():
            console.print(Text(line, style="bold green" if line.startswith("$ ") else ""))
        svg = console.export_svg(title=title, unique_id=path.stem)
        path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))
        self.lines.clear()


def portrait(folder: Path) -> None:
    """The astronaut to enrol, and at the door: the same picture smaller, brighter and further to the side."""
    import cv2
    import numpy as np
    from skimage.data import astronaut

    picture = cv2.cvtColor(astronaut(), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(folder / "astronaut.png"), picture)
    visit = np.full((480, 640, 3), 100, np.uint8)
    small = cv2.convertScaleAbs(cv2.resize(picture, (440, 440), interpolation=cv2.INTER_AREA), alpha=1.1)
    visit[40:480, 120:560] = small
    (folder / "visit").mkdir()
    cv2.imwrite(str(folder / "visit" / "frame.png"), visit)


def record(images: Path, work: Path) -> None:
    network = Network(work, 1)
    host, clients = network.hosts[0], work / "ssh_config"
    clients.write_text(clients.read_text().replace("Host device0", "Host door"))
    try:
        portrait(work)
        house = small_wheelhouse(work / "pi5", "1.0")
        make_card(work / "raspios.img", outline(work / "pi", HERE.machine, HERE.python), boot_files(work / "boot"))
        (work / "key.pub").write_text((work / "user.pub").read_text())
        environment = {"HYPERVERIFY_SSH": network.ssh, "HYPERVERIFY_CONFIG": str(work / "config"),
                       "HYPERVERIFY_CACHE": str(work / "cache"),
                       "HYPERVERIFY_WIFI_PASSWORD": "correct horse"}  # fmt: skip
        hidden = {str(work / "config"): "~/.config/hyperverify", str(host.root): "", str(house): "pi5", str(work): "~"}
        terminal = Terminal(work, environment, hidden)
        terminal.run("toolkit keys new")
        terminal.run("toolkit enroll astronaut astronaut.png")
        terminal.save(images / "deploy-enrol.svg", "a key and a person")
        terminal.run(
            "toolkit flash raspios.img astronaut.hvb --as root@card --wheelhouse pi5 \\\n"
            "    -o door.img --hostname door --ssh-key key.pub --wifi Hall --country DE"
        )
        terminal.run("toolkit flash door.img --check")
        terminal.save(images / "deploy-flash.svg", "a card becomes a device")
        terminal.run("toolkit devices provision door")
        for _ in range(2):
            terminal.run("toolkit deploy astronaut.hvb --to door")
        bundle = host.state / "bundles/astronaut.hvb"
        door = f"{sys.executable} -m toolkit run {bundle} --source {work / 'visit'} --once && echo the door opens"
        shown = "ssh door 'toolkit run /var/lib/hyperverify/bundles/astronaut.hvb --source visit --once'"
        terminal.run(f"{shown} && echo the door opens", [*network.ssh.split(), "door", door])
        terminal.run("toolkit devices forget root@card")  # which never started
        terminal.run("toolkit devices")
        terminal.save(images / "deploy-door.svg", "over SSH to a device, and the door")
    finally:
        network.close()


def main() -> None:
    if reason := why_not():
        sys.exit(reason)
    images = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "img"
    memory = Path("/dev/shm")
    work = Path(tempfile.mkdtemp(prefix="hyperverify-record-", dir=memory if memory.is_dir() else None))
    try:
        record(images, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
