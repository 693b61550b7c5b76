"""Android phones by adb, for development: the bundle and its C code to /data/local/tmp, self-tested and timed there.

The phone needs nothing of ours. The person's model.c is compiled here for the phone's processor, statically, so that it
runs on Android as on any Linux; it must give the golden faces exactly the scores of the integer reference before the
bundle takes its place. A phone has no keys of ours: what is sent is plain, and whoever may use adb may read it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device.c_runtime import check_source
from device.link.deploy import Outcome
from device.link.golden import GOLDEN, golden_faces
from device.link.package import Goods
from export.manifest import MODELS, open_bundle
from toolkit.errors import GateError, InputError, LinkError, MissingError, UsageError

PREFIX = "adb:"
BASE = "/data/local/tmp/hyperverify"
REPLY_S = 180
HARNESS = Path(__file__).with_name("phone.c")
FACES, PROGRAM, DIGEST = "golden.rgb", "phone", "digest"
# ABI → compilers that make programs for it; CC replaces them, as with the NDK's clang.
COMPILERS = {
    "arm64-v8a": (("aarch64-linux-gnu-gcc",), "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
    "armeabi-v7a": (("arm-linux-gnueabihf-gcc",), "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"),
    "x86_64": (("x86_64-linux-gnu-gcc", "gcc"), "gcc libc6-dev"),
}
_SERIAL = re.compile(r"[A-Za-z0-9_][\w.:-]*")


@dataclass(frozen=True)
class Measured:
    """What the program on the phone printed: scores in steps, times in ms, peak memory in bytes."""

    scores: list[int]
    times_ms: list[float]
    peak_bytes: int


class Phone:
    """One phone, as `adb -s SERIAL` reaches it. Raises LinkError for whatever adb says."""

    def __init__(self, host: str):
        self.host, self.serial = host, host.removeprefix(PREFIX)
        if not _SERIAL.fullmatch(self.serial):
            raise UsageError("this is no phone", got=repr(host), expected="adb:SERIAL, as `adb devices` lists it")

    def shell(self, *words: str) -> str:
        return self._adb("shell", shlex.join(words))

    def script(self, text: str) -> str:
        return self._adb("shell", text)

    def push(self, folder: Path, target: str) -> None:
        """The files of a folder, without the folder."""
        self._adb("push", *(str(path) for path in sorted(folder.iterdir())), f"{target}/")

    def prop(self, name: str) -> str:
        return self.shell("getprop", name).strip()

    def _adb(self, *words: str) -> str:
        command = ["adb", "-s", self.serial, *words]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=REPLY_S)
        except FileNotFoundError as error:
            raise MissingError("adb is not installed", do="run `sudo apt install adb`") from error
        except subprocess.TimeoutExpired as error:
            raise LinkError(
                f"{self.host} did not answer within {REPLY_S} s", do="check the cable, and repeat"
            ) from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise LinkError(
                f"`adb {words[0]}` failed on {self.host}", got=said[-1] if said else f"exit code {done.returncode}",
                do="look at `adb devices`: it must say `device`, not `unauthorized`",
            )  # fmt: skip
        return done.stdout


def is_phone(host: str) -> bool:
    return host.startswith(PREFIX)


def deploy(host: str, outcome: Outcome, goods: Sequence[Goods], *, dry_run: bool) -> None:
    """Bring bundles to a phone. Raises HyperverifyError; what was done before stays done."""
    phone = Phone(host)
    abi = phone.prop("ro.product.cpu.abi")
    for one in goods:
        outcome.people.append(_bring(phone, abi, one, dry_run))


def _bring(phone: Phone, abi: str, one: Goods, dry_run: bool) -> dict[str, Any]:
    if one.ready:
        raise UsageError(f"{one.path} is sealed for another device", do="give the bundle's folder")
    place = f"{BASE}/{one.name}.hvb"
    row = {"name": one.name, "version": one.digest[:12]}
    _recover(phone, place)
    there = _digest(phone, place)
    if there == one.digest:
        return {**row, "action": "unchanged"}
    if dry_run:
        return {**row, "action": "would replace" if there else "would add", "bytes": one.size_bytes}
    new = f"{place}.new"
    with tempfile.TemporaryDirectory() as folder:
        for name, data in one.files.items():
            Path(folder, name).write_bytes(data)
        spec = open_bundle(one.path).spec
        faces = golden_faces(spec.input_px)
        Path(folder, FACES).write_bytes(faces.tobytes())
        Path(folder, DIGEST).write_text(one.digest)
        compile_program(one.path, abi, Path(folder, PROGRAM))
        phone.script(f"umask 077; rm -rf {shlex.quote(new)} && mkdir -p {shlex.quote(new)} && chmod 700 {BASE}")
        phone.push(Path(folder), new)
    found = run_program(phone, new, 0).scores
    expected = _golden(one)
    if found != expected:
        phone.shell("rm", "-rf", new)
        raise GateError(
            f"{one.name} failed its self-test on {phone.host}", got=found, expected=expected,
            do="the compiled code must equal the reference bit for bit: try another compiler (CC)",
        )  # fmt: skip
    old = shlex.quote(f"{place}.old")
    place, new = shlex.quote(place), shlex.quote(new)
    phone.script(f"rm -rf {old} && if [ -e {place} ]; then mv {place} {old}; fi && mv {new} {place} && rm -rf {old}")
    test = {"runtime": f"c, {abi}", "vectors": len(found), "largest_difference_steps": 0}
    return {**row, "action": "replaced" if there else "added", "self_test": test}


def _recover(phone: Phone, place: str) -> None:
    """Between two renames the old version has another name: give it back."""
    old, place = shlex.quote(f"{place}.old"), shlex.quote(place)
    phone.script(f"if [ -e {old} ] && [ ! -e {place} ]; then mv {old} {place}; fi; rm -rf {old}")


def _digest(phone: Phone, place: str) -> str:
    return phone.script(f"cat {shlex.quote(f'{place}/{DIGEST}')} 2>/dev/null || true").strip()


def _golden(one: Goods) -> list[int]:
    scores: list[int] = json.loads(one.files[GOLDEN])["scores_steps"]
    return scores


def compile_program(bundle: Path, abi: str, out: Path) -> None:
    """The person's C code with `phone.c`, for a phone's processor. Raises MissingError or ArtifactError."""
    if abi not in COMPILERS:
        raise UsageError("there is no compiler for this phone's processor", got=abi, expected=", ".join(COMPILERS))
    names, packages = COMPILERS[abi]
    own = os.environ.get("CC")
    command = shlex.split(own) if own else [next(filter(shutil.which, names), "")]
    if not shutil.which(command[0]):
        raise MissingError(f"the C code needs a compiler for {abi}", do=f"run `sudo apt install {packages}`, or set CC")
    opened = open_bundle(bundle)
    source = opened.read(MODELS["c", "int8"])
    check_source(opened.spec, source)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "phone.c")
        file.write_bytes(b"#define _POSIX_C_SOURCE 200112L\n" + source + HARNESS.read_bytes())
        done = subprocess.run([*command, "-std=c99", "-O3", "-static", str(file), "-o", str(out)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        raise MissingError(
            f"{command[0]} cannot make a program for {abi}", got=done.stderr.strip()[:300],
            do=f"run `sudo apt install {packages}`, or set CC",
        )  # fmt: skip


def run_program(phone: Phone, place: str, runs: int) -> Measured:
    quoted = shlex.quote(place)
    said = phone.script(f"cd {quoted} && chmod 700 {PROGRAM} && ./{PROGRAM} {FACES} {runs}").split()
    try:
        times, peak = said.index("times"), said.index("peak")
        ms = [int(word) / 1e6 for word in said[times + 1 : peak]]
        return Measured([int(word) for word in said[:times]], ms, int(said[peak + 1]) * 1024)
    except (ValueError, IndexError) as error:
        raise LinkError(f"{phone.host} answered something else", got=" ".join(said)[:80], do="deploy again") from error


def bench(host: str, one: Goods, runs: int) -> dict[str, Any]:
    """As `benchmarks.on_device` returns it, for the verifier alone: detection and alignment are Python's."""
    phone = Phone(host)
    place = f"{BASE}/{one.name}.hvb"
    if _digest(phone, place) != one.digest:
        raise InputError(f"this bundle of {one.name} is not on {host}", do="deploy it first")
    before = _conditions(phone)
    found = run_program(phone, place, runs)
    return {
        "samples_ms": {"verify/c/int8": found.times_ms}, "peak_memory_bytes": {"c": found.peak_bytes},
        "cold_start_ms": {},
        "device": {"processor": phone.prop("ro.soc.model") or phone.prop("ro.board.platform"),
                   "model": phone.prop("ro.product.model"),
                   "system": f"Android {phone.prop('ro.build.version.release')}",
                   "abi": phone.prop("ro.product.cpu.abi")},
        "conditions": {"before": before, "after": _conditions(phone)},
    }  # fmt: skip


def _conditions(phone: Phone) -> dict[str, Any]:
    """Temperatures and clocks, as far as the phone's shell may read them."""
    zones = phone.script("cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null || true").split()
    clocks = phone.script("cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq 2>/dev/null || true").split()
    celsius = [int(zone) / 1000 for zone in zones if zone.lstrip("-").isdigit()]
    mhz = [int(clock) / 1000 for clock in clocks if clock.isdigit()]
    return {"temperature_c": max(celsius, default=None), "clock_mhz": max(mhz, default=None),
            "throttled": None, "throttled_since_boot": None}  # fmt: skip


def remove(host: str, outcome: Outcome, name: str) -> None:
    """Take a person off a phone, and look. Raises InputError (not there) or LinkError (still there)."""
    phone = Phone(host)
    place = f"{BASE}/{name}.hvb"
    names = [f"{place}{suffix}" for suffix in ("", ".new", ".old")]
    if not _digest(phone, place):
        raise InputError(f"{name} is not on {host}", do="look with `adb shell ls`")
    phone.shell("rm", "-rf", *names)
    left = [one for one in names if phone.script(f"[ ! -e {shlex.quote(one)} ] || echo left").strip()]
    if left:
        raise LinkError(f"{name} is not gone from {host}", got=", ".join(left), do="repeat")
    outcome.people.append({"name": name, "action": "removed", "left": left})
