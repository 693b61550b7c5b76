"""Real SSH servers, each in a network namespace of its own, with a root folder of its own: the devices of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
TOOLS = ("ip", "sshd", "ssh", "ssh-keygen", "nsenter")


def why_not() -> str:
    """What these tests lack on this machine, or nothing."""
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt install openssh-server iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"hvprobe{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True).returncode != 0:
        return "network namespaces are not allowed here"
    _run("ip", "netns", "del", probe)
    return ""


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


@dataclass
class Host:
    """One device: `root` is its file system, `name` what the workstation calls it."""

    name: str
    namespace: str
    root: Path
    server: subprocess.Popen[bytes] | None = None

    @property
    def fault_file(self) -> Path:
        return Path(f"{self.root}.fault")

    @property
    def steps_file(self) -> Path:
        return Path(f"{self.root}.steps")

    @property
    def state(self) -> Path:
        return self.root / "var/lib/hyperverify"

    def network(self, up: bool) -> None:
        _run("nsenter", f"--net=/run/netns/{self.namespace}", "ip", "link", "set", "eth0", "up" if up else "down")


class Network:
    """A workstation's namespace with a bridge, and one namespace a host; nothing of it is seen outside."""

    def __init__(self, folder: Path, count: int, blank: bool = False):
        self.blank = blank  # devices on which nothing of the project is installed
        self.folder, self.tag = folder, f"hv{os.getpid()}"
        self.workstation = f"{self.tag}w"
        self.namespaces = [self.workstation]
        _run("ip", "netns", "add", self.workstation)
        self._inside("ip", "link", "add", "br0", "type", "bridge")
        self._inside("ip", "addr", "add", "10.213.0.1/16", "dev", "br0")
        self._inside("ip", "link", "set", "br0", "up")
        for key in ("user", "host"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key)
        self.hosts = [self._add(number) for number in range(count)]
        self._write_client()

    def _inside(self, *command: object) -> None:
        _run("nsenter", f"--net=/run/netns/{self.workstation}", *command)

    def _add(self, number: int) -> Host:
        space, address = f"{self.tag}d{number}", f"10.213.1.{number + 1}"
        _run("ip", "netns", "add", space)
        self.namespaces.append(space)
        link = ("ip", "link", "add", f"d{number}", "type", "veth", "peer", "name", "eth0", "netns", space)
        self._inside(*link)
        self._inside("ip", "link", "set", f"d{number}", "master", "br0", "up")
        for command in (("addr", "add", f"{address}/16", "dev", "eth0"), ("link", "set", "eth0", "up")):
            _run("nsenter", f"--net=/run/netns/{space}", "ip", *command)
        host = Host(f"device{number}", space, self.folder / f"device{number}")
        host.root.mkdir()
        self.start(host, address)
        return host

    def start(self, host: Host, address: str) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)
        environment = {
            "HYPERVERIFY_DEVICE_ROOT": host.root, "OMP_NUM_THREADS": 1, "PATH": f"{host.root}/bin:/usr/bin:/bin",
            "HOME": host.root,  # or bash, started by sshd, reads the .bashrc of whoever runs the tests
        }  # fmt: skip
        if not self.blank:
            environment |= {"HYPERVERIFY_PYTHON": sys.executable, "PYTHONPATH": f"{HERE / 'faults'}:{ROOT}"}
        lines = [
            f"ListenAddress {address}", f"HostKey {self.folder / 'host'}", "UsePAM no", "StrictModes no",
            f"AuthorizedKeysFile {self.folder / 'user.pub'}", "PermitRootLogin prohibit-password", "MaxStartups 50",
            f"PidFile {host.root}.pid", "SetEnv " + " ".join(f"{k}={v}" for k, v in environment.items()),
        ]  # fmt: skip
        config = Path(f"{host.root}.sshd")
        config.write_text("\n".join(lines) + "\n")
        sshd = shutil.which("sshd") or ""
        command = ["nsenter", f"--net=/run/netns/{host.namespace}", sshd, "-D", "-e", "-f", str(config)]
        with Path(f"{host.root}.log").open("ab") as log:
            host.server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _write_client(self) -> None:
        public = (self.folder / "host.pub").read_text().split()
        known = [f"10.213.1.{number + 1} {public[0]} {public[1]}" for number in range(len(self.hosts))]
        (self.folder / "known_hosts").write_text("\n".join(known) + "\n")
        lines = [f"Host device{number}\n  HostName 10.213.1.{number + 1}" for number in range(len(self.hosts))]
        lines += [f"Host *\n  User root\n  IdentityFile {self.folder / 'user'}\n  IdentitiesOnly yes",
                  f"  UserKnownHostsFile {self.folder / 'known_hosts'}\n  StrictHostKeyChecking yes"]  # fmt: skip
        (self.folder / "ssh_config").write_text("\n".join(lines) + "\n")

    @property
    def ssh(self) -> str:
        """For HYPERVERIFY_SSH."""
        return f"nsenter --net=/run/netns/{self.workstation} ssh -F {self.folder / 'ssh_config'}"

    def received_bytes(self, host: Host) -> int:
        """On the wire, everything that came to this device."""
        command = ["nsenter", f"--net=/run/netns/{host.namespace}", "cat", "/proc/net/dev"]
        table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        line = next(line for line in table.splitlines() if line.strip().startswith("eth0:"))
        return int(line.split(":")[1].split()[0])

    def close(self) -> None:
        for host in self.hosts:
            if host.server:
                host.server.kill()
                host.server.wait()
        for space in self.namespaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)
