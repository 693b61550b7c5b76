"""`make test-cross`, the part that is quick: one 64-bit and one microcontroller target, where the tools are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("aarch64-linux-gnu-gcc", "qemu-aarch64", "arm-none-eabi-gcc", "qemu-system-arm", "clang")


def cross(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/test_cross.py", *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("target", ["DotProd", "Cortex-M4, -Os"])
def test_other_processors_compute_the_same_layers(target: str) -> None:
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        pytest.skip(f"no {', '.join(missing)}")
    done = cross("--only", target, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (row,) = document["targets"]
    assert row["bit_exact"]
    assert 500_000 < row["instructions"] < 100_000_000
    if "Cortex" in target:  # the promises of docs/export.md
        assert row["flash_bytes"] <= 40_000
        assert document["arena_bytes"] <= 48_000


def test_missing_tools_are_one_clear_line(tmp_path: Path) -> None:
    done = cross(PATH=str(tmp_path))
    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr.startswith("skipped: no ")
    assert done.stderr.count("\n") == 1
    assert "sudo apt-get install gcc clang" in done.stderr
    assert cross("--require", PATH=str(tmp_path)).returncode == 3
