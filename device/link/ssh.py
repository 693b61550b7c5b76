"""The link over the system's OpenSSH: the user's configuration, agent and known_hosts decide who is who.

One connection, one agent on the device, requests and replies as lines of JSON (`device/link/agent.py`).
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any

from device.link.agent import GREETING
from toolkit import errors
from toolkit.errors import HyperverifyError, LinkError, UsageError

CONNECT_S = 30
START_S = 120  # from the login to the agent's greeting: Python from a cold card, or twenty of them on one machine
REPLY_S = 180  # a self-test on the slowest board, with time to spare
CHUNK_BYTES = 1 << 15
OPTIONS = ("-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_S}",
           "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")  # fmt: skip
_HOST = re.compile(r"(?:[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9_\[][\w.:\]-]*")

# The device's own environment first, then the system's Python; with sudo where the account needs and has it.
START = """
p=${HYPERVERIFY_PYTHON:-${HYPERVERIFY_DEVICE_ROOT:-}/opt/hyperverify/venv/bin/python}
[ -x "$p" ] || p=python3
d=${HYPERVERIFY_DEVICE_ROOT:-}/var/lib/hyperverify
if [ "$(id -u)" != 0 ] && [ ! -w "$d" ] && sudo -n true 2>/dev/null; then exec sudo -n "$p" -P -m device.link; fi
exec "$p" -P -m device.link
"""


def check_host(host: str) -> str:
    """A host as ssh understands it, that cannot be taken for an option. Raises UsageError."""
    if not _HOST.fullmatch(host):
        raise UsageError("this is no host", got=repr(host), expected="HOST or USER@HOST")
    return host


def ssh_command(host: str, command: str) -> list[str]:
    """`HYPERVERIFY_SSH` replaces "ssh", as git's GIT_SSH_COMMAND does."""
    ssh = shlex.split(os.environ.get("HYPERVERIFY_SSH") or "ssh")
    return [*ssh, *OPTIONS, "--", check_host(host), f"sh -c {shlex.quote(command)}"]


class SshLink(AbstractContextManager["SshLink"]):
    """An open connection to the agent of one device. Counts what it sends."""

    lacks, remedy = (
        "hyperverify",
        "install it: `toolkit wheelhouse`, then `toolkit deploy --wheelhouse FOLDER --to HOST`",
    )

    def start(self) -> str:
        """The shell's command that starts what answers."""
        return START

    def __init__(self, host: str):
        self.host, self.sent_bytes = host, 0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the link)
        # A socket, not a pipe: writing to an ssh that died is then an error here, and never a signal that ends us.
        self._in, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                ssh_command(host, self.start()), stdin=theirs.fileno(), stdout=subprocess.PIPE, stderr=self._errors
            )
        except FileNotFoundError as error:
            self._in.close()
            raise errors.MissingError("ssh is not installed", do="run `sudo apt install openssh-client`") from error
        finally:
            theirs.close()
        assert self._process.stdout is not None
        self._lines = _Lines(self._process.stdout)

    def __enter__(self) -> SshLink:
        try:
            while self._read_line(START_S) != GREETING:  # a login may print a banner first
                pass
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._in.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._lines.close()
        self._errors.close()

    def ask(self, operation: str, within_s: float = REPLY_S, **request: Any) -> Any:
        """One request, its answer. Raises the device's error as its own class, or LinkError."""
        self._send(json.dumps({"op": operation, **request}).encode() + b"\n")
        return self._reply(within_s)

    def upload(self, sha256: str, data: bytes, progress: Callable[[int], None] = lambda done: None) -> int:
        """Send what the device does not have yet of these bytes; how many that were."""
        have = int(self.ask("begin", sha256=sha256))
        if have >= len(data):
            return 0
        header = {"op": "data", "sha256": sha256, "offset": have, "bytes": len(data) - have}
        self._send(json.dumps(header).encode() + b"\n")
        for at in range(have, len(data), CHUNK_BYTES):
            self._send(data[at : at + CHUNK_BYTES])
            progress(min(at + CHUNK_BYTES, len(data)))
        self._reply()
        return len(data) - have

    def _send(self, data: bytes) -> None:
        try:
            self._in.sendall(data, socket.MSG_NOSIGNAL)
        except OSError as error:
            raise self._lost() from error
        self.sent_bytes += len(data)

    def _reply(self, within_s: float = REPLY_S) -> Any:
        try:
            reply = json.loads(self._read_line(within_s))
        except ValueError as error:
            raise LinkError(
                f"{self.host} answered something else than the device part", do="update it there"
            ) from error
        if "error" in reply:
            raise _raised(reply["error"])
        return reply["ok"]

    def _read_line(self, timeout_s: float) -> bytes:
        line = self._lines.read(timeout_s)
        if line is None:
            self._process.kill()
            raise LinkError(f"{self.host} did not answer within {timeout_s:.0f} s", do="check the device, and repeat")
        if not line.endswith(b"\n"):
            raise self._lost()
        return line

    def _lost(self) -> HyperverifyError:
        """Why the connection ended, in the words of whoever ended it."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = -1
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        last = said[-1] if said else f"ssh ended with {code}"
        if code != 255 and any("No module named" in line or "not found" in line for line in said):
            return errors.MissingError(f"{self.host} has no {self.lacks}", got=last, do=self.remedy)
        return LinkError(f"the link to {self.host} failed", got=last, do=_remedy(last))


class _Lines:
    """Lines of a pipe, with a time limit."""

    def __init__(self, stream: IO[bytes]):
        self._stream, self._buffer = stream, b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(stream, selectors.EVENT_READ)

    def read(self, timeout_s: float) -> bytes | None:
        """A line with its end; without it at the end of the stream; None when the time is up."""
        end = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            if not self._selector.select(max(0.0, end - time.monotonic())):
                return None
            chunk = os.read(self._stream.fileno(), 1 << 16)
            if not chunk:
                return b""
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"

    def close(self) -> None:
        self._selector.close()
        self._stream.close()


def _raised(error: dict[str, Any]) -> HyperverifyError:
    """The device's error here, with its exit code."""
    kind = getattr(errors, str(error.get("type")), LinkError)
    if not (isinstance(kind, type) and issubclass(kind, HyperverifyError)) or kind is errors.FaceError:
        kind = LinkError
    return kind(str(error.get("message")))


def _remedy(said: str) -> str:
    known = {
        "Permission denied": "put your key there: `ssh-copy-id HOST`",
        "Host key verification failed": "connect once with `ssh HOST` and check its key",
        "Could not resolve": "check the name",
        "Connection refused": "start its SSH server: `sudo systemctl enable --now ssh`",
    }
    return next((remedy for words, remedy in known.items() if words in said), "repeat: it goes on where it stopped")
