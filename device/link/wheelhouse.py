"""Wheelhouses: every package that a device needs, in one folder, for a device that is offline.

wheelhouse.json     target, Python, machine, and each file with size and SHA-256
requirements.txt    exact versions with hashes, as `pip install --require-hashes` wants them
*.whl               the project's own wheel, built from its source tree; what it needs; and pip itself
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.atomic import folder_atomically
from toolkit.errors import ArtifactError, InputError, MissingError, UsageError

INDEX, REQUIREMENTS = "wheelhouse.json", "requirements.txt"
RUNTIMES = ("litert", "onnxruntime")
SOURCE = ("toolkit", "models", "export", "device", "benchmarks", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
BUILD_TIME_S = "1577836800"  # any fixed one: the same tree gives the same wheel


@dataclass(frozen=True)
class Target:
    """What wheels are chosen for. glibc: minor version of the C library, 2.x."""

    machine: str
    python: str
    glibc: int

    @property
    def platforms(self) -> list[str]:
        """Every manylinux tag that such a device can load; the oldest wheels on PyPI are of glibc 2.17."""
        return [
            f"manylinux2014_{self.machine}",
            *(f"manylinux_2_{n}_{self.machine}" for n in range(17, self.glibc + 1)),
        ]


# 64-bit Raspberry Pi OS of 2023 (Debian 12) and 2025 (Debian 13); and PCs with the same Debian.
MACHINES = {"pi3": "aarch64", "pi4": "aarch64", "pi5": "aarch64", "zero2w": "aarch64", "pc": "x86_64"}
GLIBC = {"3.11": 36, "3.13": 41}
TARGETS = {
    f"{board}-py{python.replace('.', '')}": Target(machine, python, glibc)
    for board, machine in MACHINES.items()
    for python, glibc in GLIBC.items()
}


@dataclass(frozen=True)
class WheelFile:
    """One file of a wheelhouse."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Wheelhouse:
    """A checked wheelhouse. `id` stands for its content."""

    path: Path
    target: str
    python: str
    machine: str
    files: tuple[WheelFile, ...]
    id: str

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def find_target(name: str) -> Target:
    """Raises UsageError."""
    if name not in TARGETS:
        raise UsageError("there is no such target", got=name, expected=", ".join(TARGETS))
    return TARGETS[name]


def build_wheelhouse(folder: Path, target_name: str, runtime: str, source: Path, *, replace: bool) -> Wheelhouse:
    """Build the project's wheel from `source`, fetch what it needs for the target. Raises UsageError, MissingError."""
    target = find_target(target_name)
    if runtime not in RUNTIMES:
        raise UsageError("a wheelhouse cannot bring this runtime", got=runtime, expected=", ".join(RUNTIMES))
    if folder.exists() and not (folder / INDEX).is_file():
        raise UsageError(f"{folder} exists and is no wheelhouse", do="choose another folder")
    with folder_atomically(folder, replace=replace) as temporary:
        own = _build_own_wheel(source, temporary)
        constraints = source / "constraints.txt"
        pins = ["-c", str(constraints)] if constraints.is_file() else []
        platforms = [option for platform in target.platforms for option in ("--platform", platform)]
        pip = f"pip=={importlib.metadata.version('pip')}"
        _pip("download", "--only-binary", ":all:", "--implementation", "cp", "--python-version", target.python,
             *platforms, *pins, "--find-links", str(temporary), "--dest", str(temporary),
             f"{own}[{runtime},link]", pip)  # fmt: skip
        check_complete(temporary, target, {runtime, "link"})
        write_lists(temporary, target_name, target, own.name, runtime)
        temporary.chmod(0o755)
    return read_wheelhouse(folder)


def _build_own_wheel(source: Path, folder: Path) -> Path:
    """From a copy: the tree stays as it is, and what earlier builds left there does not get in."""
    if not (source / "pyproject.toml").is_file():
        raise MissingError(
            f"{source} is not the project's source tree", expected="a folder with pyproject.toml",
            do="clone the project and name it: --source FOLDER",
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        for name in SOURCE:
            path, copy = source / name, Path(work) / name
            if path.is_dir():
                shutil.copytree(path, copy, ignore=shutil.ignore_patterns("__pycache__"))
            elif path.is_file():
                shutil.copy(path, copy)
        _pip("wheel", "--no-deps", "--wheel-dir", str(folder), work)
    return next(folder.glob("hyperverify-*.whl"))


def _pip(command: str, *arguments: str) -> None:
    """pip's progress goes to stderr; its last words become the error."""
    call = [sys.executable, "-m", "pip", command, "--disable-pip-version-check", *arguments]
    environment = os.environ | {"SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", BUILD_TIME_S)}
    with tempfile.TemporaryFile("w+") as said:
        code = subprocess.run(call, stdout=sys.stderr, stderr=said, env=environment).returncode
        said.seek(0)
        errors = [line.strip() for line in said if line.startswith("ERROR:") or "No module named pip" in line]
    if code:
        last = errors[-1].removeprefix("ERROR: ") if errors else f"pip ended with {code}"
        raise MissingError(f"`pip {command}` failed", got=last, do="check the network and the versions, and repeat")


def check_complete(folder: Path, target: Target, extras: Iterable[str]) -> None:
    """pip judges conditions such as `python_version < "3.13"` by this machine; judge them by the target.

    Raises MissingError with every package that a wheel here needs there and that is not here.
    """
    try:
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name, parse_wheel_filename
    except ImportError as error:
        raise MissingError("packaging is not installed", do="run `pip install 'hyperverify[link]'`") from error
    there = {"python_version": target.python, "python_full_version": f"{target.python}.0",
             "platform_machine": target.machine}  # fmt: skip
    versions = {name: version for name, version, *_ in (parse_wheel_filename(p.name) for p in folder.glob("*.whl"))}
    missing = set()
    for wheel in sorted(folder.glob("*.whl")):
        metadata = next(iter(importlib.metadata.distributions(path=[str(wheel)])))
        wanted = ["", *extras] if parse_wheel_filename(wheel.name)[0] == "hyperverify" else [""]
        for line in metadata.requires or ():
            need = Requirement(line)
            if need.marker and not any(need.marker.evaluate({**there, "extra": extra}) for extra in wanted):
                continue
            version = versions.get(canonicalize_name(need.name))
            if version is None or not need.specifier.contains(version, prereleases=True):
                missing.add(f"{need.name}{need.specifier} for {wheel.name.split('-')[0]}")
    if missing:
        raise MissingError(
            f"packages for Python {target.python} are missing", got="; ".join(sorted(missing)),
            do=f"make the wheelhouse with Python {target.python}",
        )  # fmt: skip


def write_lists(folder: Path, target_name: str, target: Target, own: str, runtime: str) -> None:
    """requirements.txt and the index of a folder of wheels; `own` is the project's."""
    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        extras = f"[{runtime},link]" if wheel.name == own else ""
        lines.append(f"{name}{extras}=={version} --hash=sha256:{_sha256(wheel)}\n")
    (folder / REQUIREMENTS).write_text("".join(lines))
    files = [[p.name, p.stat().st_size, _sha256(p)] for p in sorted(folder.iterdir())]
    document = {"schema_version": 1, "target": target_name, "python": target.python, "machine": target.machine}
    (folder / INDEX).write_text(json.dumps({**document, "files": files}, indent=1) + "\n")


def read_wheelhouse(folder: Path) -> Wheelhouse:
    """Raises InputError (no wheelhouse) or ArtifactError (a file is not as it was listed)."""
    try:
        data = (folder / INDEX).read_bytes()
    except OSError as error:
        raise InputError(
            f"{folder} is not a wheelhouse", got=error.strerror, do="make one: `toolkit wheelhouse --target …`"
        ) from error
    try:
        document: dict[str, Any] = json.loads(data)
        if document["schema_version"] != 1:
            raise ValueError("another schema: update hyperverify")
        files = tuple(WheelFile(*row) for row in document["files"])
        identity = hashlib.sha256(data).hexdigest()[:16]
        house = Wheelhouse(folder, document["target"], document["python"], document["machine"], files, identity)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{folder / INDEX} is damaged", got=str(error), do="make the wheelhouse again") from error
    for file in files:
        path = folder / file.name
        if Path(file.name).name != file.name or not path.is_file() or _sha256(path) != file.sha256:
            raise ArtifactError(f"{path} was changed or is missing", do="make the wheelhouse again")
    return house


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
