"""Run the C code on other processors, in emulation, and compare every layer with the integer reference, bit for bit.

    python scripts/test_cross.py [--json] [--only WORD] [--generator h.onnx]

For each target: built by its cross compiler, the same golden faces scored in QEMU, one hash over all layers' outputs
compared, instructions of one inference counted, flash and RAM read from the linked binary. Needs Debian's packages
(PACKAGES below); without them it says so in one line and ends with exit code 0, or 3 with --require.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pictures import made_up
from export.c_writer import HEADER, SOURCE, shown_maps, write_c
from export.integer import IntegerVerifier
from models.generator import SHIPPED, Generator
from models.spec import VerifierSpec
from toolkit.output import note, table

HERE = Path(__file__).parent / "cross"
PACKAGES = "gcc clang gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-none-eabi qemu-user qemu-system-arm"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
FACES = 4  # golden ones
PLUGIN_VERSIONS = (1, 2, 3, 4)  # of QEMU's interface; the first that it accepts is used
TIMEOUT_S = 900


@dataclass(frozen=True)
class Target:
    """`runner` executes the program; `flash` and `ram` are a microcontroller's addresses."""

    name: str
    compiler: tuple[str, ...]
    runner: tuple[str, ...] = ()
    flash: str = ""
    ram: str = ""

    @property
    def bare(self) -> bool:
        return bool(self.flash)


def _cortex(name: str, cpu: str, machine: str, flash: str, ram: str, optimise: str) -> Target:
    compiler = ("arm-none-eabi-gcc", optimise, f"-mcpu={cpu}", "-mthumb", "-mfloat-abi=hard")
    qemu = ("qemu-system-arm", "-M", machine, "-nographic", "-monitor", "none", "-serial", "none")
    return Target(f"{name}, {optimise}", compiler, (*qemu, "-semihosting", "-kernel"), flash, ram)


def _arm64(name: str, cpu: str, *flags: str) -> Target:
    return Target(name, ("aarch64-linux-gnu-gcc", "-O3", "-static", *flags), ("qemu-aarch64", "-cpu", cpu))


TARGETS = (
    Target("x86-64 gcc, portable", ("gcc", "-O3", "-DHV_PORTABLE")),
    Target("x86-64 gcc, this processor", ("gcc", "-O3", "-march=native")),
    Target("x86-64 clang, portable", ("clang", "-O3", "-DHV_PORTABLE")),
    Target("x86-64 clang, this processor", ("clang", "-O3", "-march=native")),
    _arm64("aarch64, portable", "cortex-a53", "-DHV_PORTABLE"),
    _arm64("aarch64, NEON", "cortex-a53", "-mcpu=cortex-a53"),
    _arm64("aarch64, NEON + DotProd", "cortex-a76", "-mcpu=cortex-a76"),
    *(
        _cortex(name, cpu, machine, flash, ram, optimise)
        for name, cpu, machine, flash, ram in (
            ("Cortex-M4", "cortex-m4", "mps2-an386", "0x00000000", "0x20000000"),
            ("Cortex-M7", "cortex-m7", "mps2-an500", "0x00000000", "0x20000000"),
            ("Cortex-M55", "cortex-m55", "mps3-an547", "0x10000000", "0x30000000"),
        )
        for optimise in ("-Os", "-O3")
    ),
)


def golden(spec: VerifierSpec, theta: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Faces, and the line that each target must print of each."""
    faces = made_up(FACES, spec.input_px)
    lines = []
    for face in faces:
        trace: dict[str, np.ndarray] = {}
        score = int(IntegerVerifier(spec, theta).scores(face[None], trace)[0])
        value = 2166136261
        for byte in b"".join(trace[name][number].tobytes() for name, number in shown_maps(spec)):
            value = (value ^ byte) * 16777619 & 0xFFFFFFFF
        lines.append(f"{score} {value}")
    return faces, lines


def run(command: list[str], folder: Path) -> str:
    """What it printed: semihosting prints to stderr. Raises RuntimeError with what it complained of."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {(done.stderr or done.stdout).strip()[:500] or done.returncode}")
    return done.stdout + done.stderr


def build(target: Target, folder: Path) -> dict[str, Path]:
    """Programs by name: "compare" hashes all layers, "once" and "thrice" do not and differ in their repeats.

    The verifier's own code is compiled under strict flags, and as it was written.
    """
    compiler = list(target.compiler)
    strict = [flag for flag in (*compiler, *STRICT) if flag != "-static"]
    look = ["-include", str(HERE / "look.h")]
    main, linker = str(HERE / ("cortex_m.c" if target.bare else "linux.c")), []
    if target.bare:
        addresses = f"-Wl,--defsym=FLASH={target.flash},--defsym=RAM={target.ram},--no-warn-rwx-segments"
        linker = ["-nostdlib", "-T", str(HERE / "cortex_m.ld"), addresses, "-lgcc"]
    run([*strict, *look, "-c", SOURCE, "-o", "looking.o"], folder)
    run([*strict, "-c", SOURCE, "-o", "plain.o"], folder)
    programs = {}
    for name, compiled, repeats in (("compare", "looking.o", 1), ("once", "plain.o", 1), ("thrice", "plain.o", 3)):
        programs[name] = folder / name
        run([*compiler, f"-DREPEATS={repeats}", "-I.", main, compiled, *linker, "-o", name], folder)
    return programs


def examine(
    target: Target, folder: Path, faces: np.ndarray, expected: list[str], plugin: Path | None
) -> dict[str, Any]:
    """Equality over all faces, then size and instructions of the build without the comparison."""
    (folder / "faces").write_bytes(faces.tobytes())
    programs = build(target, folder)
    found = run([*target.runner, str(programs["compare"])], folder).split("\n")
    result: dict[str, Any] = {"target": target.name, "bit_exact": found[: len(expected)] == expected}
    (folder / "faces").write_bytes(faces[:1].tobytes())
    if target.bare:
        result |= _sizes(programs["once"], folder)
        result["stack_bytes"] = int(run([*target.runner, str(programs["once"])], folder).split("stack ")[1])
    if plugin and target.runner:
        once, thrice = (count(target, programs[name], folder, plugin) for name in ("once", "thrice"))
        result["instructions"] = (thrice - once) // 2
    return result


def _sizes(program: Path, folder: Path) -> dict[str, int]:
    """Bytes of the whole image: start-up and the reading of faces are a few hundred of them."""
    sections = {}
    for line in run(["arm-none-eabi-size", "-A", str(program)], folder).splitlines():
        words = line.split()
        if len(words) == 3 and words[0].startswith("."):
            sections[words[0]] = int(words[1])
    return {"flash_bytes": sections[".flash"] + sections.get(".exidx", 0), "ram_bytes": sections[".bss"]}


def count(target: Target, program: Path, folder: Path, plugin: Path) -> int:
    name, *options = target.runner
    run([name, "-plugin", f"{plugin},out=count", *options, str(program)], folder)
    return int((folder / "count").read_text())


def build_plugin(folder: Path) -> Path | None:
    """None when no version of the interface fits the installed QEMU."""
    for version in PLUGIN_VERSIONS:
        plugin = folder / f"count{version}.so"
        flags = ["-O2", "-shared", "-fPIC", f"-DPLUGIN_VERSION={version}"]
        run(["gcc", *flags, str(HERE / "count.c"), "-o", str(plugin)], folder)
        if not subprocess.run(["qemu-aarch64", "-plugin", f"{plugin},out=count", "/nonexistent"],
                              cwd=folder, capture_output=True, text=True).stderr.count("plugin"):  # fmt: skip
            return plugin
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--only", default="", metavar="WORD", help="targets whose name has this in it")
    parser.add_argument("--generator", type=Path, default=SHIPPED, metavar="H", help="of another form, perhaps: h.onnx")
    parser.add_argument("--require", action="store_true", help="fail when a tool is missing")
    arguments = parser.parse_args()
    targets = [target for target in TARGETS if arguments.only.lower() in target.name.lower()]
    tools = {t for target in targets for t in (target.compiler[0], *target.runner[:1])} | {"gcc", "qemu-aarch64"}
    if missing := sorted(tool for tool in tools if not shutil.which(tool)):
        note(f"skipped: no {', '.join(missing)}; run `sudo apt-get install {PACKAGES}`")
        sys.exit(3 if arguments.require else 0)
    h = Generator(arguments.generator)
    spec, template = h.info.spec, np.random.default_rng(7).standard_normal((1, h.template_dim)).astype(np.float32)
    theta = h.weights(template / np.linalg.norm(template))[0]
    faces, expected = golden(spec, theta)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_c(spec, theta)
        for file, data in files.items():
            (folder / file).write_bytes(data)
        plugin = build_plugin(folder)
        if plugin is None:
            note("this QEMU takes no plugin of ours: instructions are not counted")
        for target in targets:
            note(target.name)
            rows.append(examine(target, folder, faces, expected, plugin))
    report(rows, files[HEADER], arguments.json)
    sys.exit(0 if all(row["bit_exact"] for row in rows) else 5)


def report(rows: list[dict[str, Any]], header: bytes, as_json: bool) -> None:
    arena = int(header.split(b"#define HV_ARENA_BYTES ")[1].split()[0])
    if as_json:
        print(json.dumps({"schema_version": 1, "arena_bytes": arena, "faces": FACES, "targets": rows}, indent=2))
        return
    numbers = ("instructions", "flash_bytes", "ram_bytes", "stack_bytes")
    cells = [
        (row["target"], "equal" if row["bit_exact"] else "DIFFERENT",
         *(f"{row[key]:,}" if key in row else "" for key in numbers))
        for row in rows
    ]  # fmt: skip
    print(f"{FACES} faces, all layers, against the integer reference; the arena has {arena:,} bytes of the RAM\n")
    print(table(cells, ("target", "layers", "instructions", "flash bytes", "RAM bytes", "stack bytes")))


if __name__ == "__main__":
    main()
