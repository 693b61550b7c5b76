"""The device's end while its packages are installed: sent over SSH, run by the system's Python, standard library alone.

    /opt/hyperverify/incoming/           files of a wheelhouse, each under its SHA-256
    /opt/hyperverify/environments/NAME/  a virtual environment; never changed once its mark COMPLETE is there
    /opt/hyperverify/venv                -> environments/NAME, switched by one rename: old or new, never neither
    /opt/hyperverify/unfinished.json     a switch whose service is not restarted yet; the next call finishes it

Run as `bootstrap.py first-boot` it installs the wheelhouse that came with the card; else it speaks the protocol of
`device/link/agent.py`. An environment is used only after the verifiers on the device passed their self-tests in it.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

GREETING = b"HYPERVERIFY-LINK 1\n"
COMPLETE = "COMPLETE"  # holds the id of the wheelhouse
CHUNK_BYTES = 1 << 16
UNIT = "hyperverify.service"
BY_HAND = "by-hand"  # an environment that somebody made before, kept under this name
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class SetupError(Exception):
    """An error of `toolkit/errors.py`, by its name."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class Bootstrap:
    """Environments below `base`, and the link that says which one is used."""

    def __init__(self, base: Path):
        self.base = base
        self.incoming, self.environments, self.link = base / "incoming", base / "environments", base / "venv"
        self.unfinished = base / "unfinished.json"

    def do_look(self, id: str, python: str) -> dict[str, Any]:
        """Facts for the preflight; `current`: the wheelhouse in use, if its environment still passes its test."""
        there = next(p for p in (self.base, *self.base.parents) if p.exists())
        current = _id_of(self.link)
        if current == id and self._test(self.link):
            current = None
        return {
            "machine": platform.machine(), "python": _interpreter(python) is not None,
            "system_python": platform.python_version(), "free_bytes": shutil.disk_usage(there).free,
            "writable": os.access(there, os.W_OK | os.X_OK) and not os.statvfs(there).f_flag & os.ST_RDONLY,
            "folder": str(self.base), "current": current, "any": self.link.exists(),
            "unfinished": self.unfinished.exists(),
        }  # fmt: skip

    def do_begin(self, sha256: str) -> int:
        """How many bytes of this file are here already."""
        self.incoming.mkdir(mode=0o755, parents=True, exist_ok=True)
        part = self._part(sha256)
        return part.stat().st_size if part.exists() else 0

    def do_data(self, requests: IO[bytes], sha256: str, offset: int, bytes: int) -> int:
        """Append what follows the request. What arrived before a cut stays, for a resume."""
        left, problem = bytes, None
        with self._part(sha256).open("ab") as stream:
            if stream.tell() != offset:
                raise SetupError("LinkError", "this upload does not continue the one before; repeat")
            while left and (chunk := requests.read1(min(left, CHUNK_BYTES))):  # type: ignore[attr-defined]
                left -= len(chunk)
                try:
                    stream.write(chunk)
                    stream.flush()
                except OSError as error:  # read on, or the reply is lost in unread data
                    problem = error
        if problem:
            self._part(sha256).unlink(missing_ok=True)
            raise problem
        return offset + bytes - left

    def do_install(self, id: str, python: str, files: list[list[str]]) -> dict[str, Any]:
        """Build the environment beside the one in use, test it, switch to it; older than the one before go."""
        with self._locked():
            wheels = self._wheels(files)
            old = self.link.resolve() if self.link.exists() else None
            environment = self._free_name(id, old)
            try:
                self._build(environment, wheels, python)
                if said := self._test(environment):
                    raise SetupError(
                        "GateError", f"the new packages do not work on this device: {said}; the old ones stay"
                    )
                (environment / COMPLETE).write_text(id)
                _flush(self.base)
            except BaseException:
                shutil.rmtree(environment, ignore_errors=True)
                raise
            self._switch(environment)
            self._finish()
        return {"environment": environment.name}

    def do_finish(self) -> None:
        """What a cut left undone after the switch."""
        with self._locked():
            self._finish()

    def first_boot(self) -> None:
        """Install what came with the card. The list goes last: until then every boot tries again."""
        listed = self.base / "first-boot.json"
        plan = json.loads(listed.read_text())
        if _id_of(self.link) != plan["id"]:
            self.do_install(**plan)
        listed.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.base / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SetupError("LinkError", "another deploy to this device is under way; wait and repeat") from None
            yield

    def _free_name(self, id: str, used: Path | None) -> Path:
        self.environments.mkdir(mode=0o755, exist_ok=True)
        environment = self.environments / id
        while environment == used:  # what is in use is never touched
            environment = environment.with_name(environment.name + "r")
        shutil.rmtree(environment, ignore_errors=True)
        return environment

    def _wheels(self, files: list[list[str]]) -> Path:
        """A folder with the files under their names, each as it was sent."""
        wheels = self.incoming / "wheels"
        shutil.rmtree(wheels, ignore_errors=True)
        wheels.mkdir()
        for name, sha256 in files:
            part = self._part(sha256)
            if not _NAME.fullmatch(name) or not part.is_file():
                raise SetupError("LinkError", f"{name} did not arrive; repeat the deploy")
            with part.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != sha256:
                part.unlink()
                raise SetupError("LinkError", f"{name} did not arrive as it was sent; repeat the deploy")
            (wheels / name).symlink_to(Path("..") / part.name)
        return wheels

    def _build(self, environment: Path, wheels: Path, python: str) -> None:
        """pip comes with the wheelhouse and runs from its wheel: Debian's Python has none."""
        _run([_interpreter(python), "-I", "-m", "venv", "--without-pip", "--system-site-packages", environment])
        pip = next(wheels.glob("pip-*.whl"))
        _run([environment / "bin/python", "-I", pip / "pip", "install", "--no-index", "--find-links", wheels,
              "--no-cache-dir", "--disable-pip-version-check", "--root-user-action", "ignore", "--ignore-installed",
              "--quiet", "--require-hashes", "-r", wheels / "requirements.txt"])  # fmt: skip

    def _test(self, environment: Path) -> str:
        """What is wrong with an environment, or nothing."""
        try:
            _run([environment / "bin/python", "-I", "-m", "device.link", "test"])
        except (SetupError, OSError) as error:
            return str(error)
        return ""

    def _switch(self, environment: Path) -> None:
        """Note what is to be done afterwards, then point the link there."""
        by_hand = self.link.is_dir() and not self.link.is_symlink()
        old = BY_HAND if by_hand else self.link.resolve().name if self.link.exists() else None
        before = json.loads(self.unfinished.read_text()) if self.unfinished.exists() else {"ran": False}
        ran = before["ran"] or _systemctl("is-active", "--quiet") == 0
        self._note({"old": old, "ran": ran})
        self._point(environment)

    def _note(self, what: dict[str, Any]) -> None:
        new = self.unfinished.with_suffix(".new")
        new.write_text(json.dumps(what))
        _flush(self.base)
        new.replace(self.unfinished)

    def _finish(self) -> None:
        """Restart the service into the environment that the link points to; the old one is put back if it fails."""
        if not self.unfinished.exists():
            return
        note = json.loads(self.unfinished.read_text())
        environment, old = self.link.resolve(), note["old"] and self.environments / note["old"]
        try:
            if note["ran"]:
                _run([environment / "bin/python", "-I", "-m", "device.link", "restart"])
        except SetupError as problem:
            if old and old != environment:
                self._point(old)
            _systemctl("restart")
            self.unfinished.unlink()
            raise SetupError(
                "LinkError", f"the service fails with the new packages: {problem}; the old ones are back"
            ) from None
        self._prune({environment, old})
        self.unfinished.unlink()

    def _point(self, environment: Path) -> None:
        new = self.base / ".venv.new"
        self._set_aside(new)
        new.symlink_to(environment.relative_to(self.base))
        if self.link.is_symlink() or not self.link.exists():
            new.replace(self.link)
        else:  # a folder: no rename puts a link in its place, but an exchange does
            _exchange(new, self.link)
            self._set_aside(new)
        _flush(self.base)

    def _set_aside(self, path: Path) -> None:
        """What an exchange left: the environment that was made by hand; or a link that never got its place."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(self.environments / BY_HAND, ignore_errors=True)
            path.rename(self.environments / BY_HAND)
        path.unlink(missing_ok=True)

    def _prune(self, keep: set[Path | None]) -> None:
        self._set_aside(self.base / ".venv.new")
        for path in self.environments.iterdir():
            if path not in keep and path.name != BY_HAND:
                shutil.rmtree(path)
        shutil.rmtree(self.incoming, ignore_errors=True)

    def _part(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise SetupError("UsageError", "this is no SHA-256")
        return self.incoming / sha256

    def serve(self, requests: IO[bytes], replies: IO[bytes]) -> None:
        replies.write(GREETING)
        replies.flush()
        while line := requests.readline():
            try:
                request = json.loads(line)
                handler = getattr(self, "do_" + request.pop("op"))
                first = (requests,) if handler.__name__ == "do_data" else ()
                reply: dict[str, Any] = {"ok": handler(*first, **request)}
            except SetupError as problem:
                reply = {"error": {"type": problem.kind, "message": str(problem)}}
            except OSError as error:
                message = f"the device cannot write {error.filename or 'its files'}: {error.strerror}"
                reply = {"error": {"type": "LinkError", "message": message}}
            replies.write(json.dumps(reply).encode() + b"\n")
            replies.flush()


def _exchange(one: Path, other: Path) -> None:
    """Swap two names in one step (renameat2, Linux)."""
    here, exchange = -100, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))


def _id_of(environment: Path) -> str | None:
    try:
        return (environment / COMPLETE).read_text()
    except OSError:
        return None


def _interpreter(version: str) -> str | None:
    """A Python of this version ("3.11") on the device."""
    if platform.python_version().startswith(version + "."):
        return sys.executable
    return shutil.which(f"python{version}")


def _run(command: list[Any]) -> None:
    done = subprocess.run(
        [str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/"
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SetupError("LinkError", said[-1] if said else f"{command[0]} ended with {done.returncode}")


def _flush(folder: Path) -> None:
    """Put everything on the card, before and after the switch; of this file system alone."""
    _run(["sync", "-f", folder])


def _systemctl(*arguments: str) -> int:
    if shutil.which("systemctl") is None:
        return -1
    return subprocess.run(["systemctl", *arguments, UNIT], stdin=subprocess.DEVNULL, capture_output=True).returncode


if __name__ == "__main__":
    root = Path(os.environ.get("HYPERVERIFY_DEVICE_ROOT") or "/")
    device = Bootstrap(root / "opt" / "hyperverify")
    if sys.argv[1:] == ["first-boot"]:
        try:
            device.first_boot()
        except (SetupError, OSError) as problem:
            sys.exit(str(problem))
    else:
        device.serve(sys.stdin.buffer, sys.stdout.buffer)
