"""Peak memory is the measured process's own."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import subprocess, sys
ballast = bytearray(300_000_000)
print(subprocess.run([sys.executable, "-c", "from benchmarks.memory_probe import peak_bytes; print(peak_bytes())"],
                     capture_output=True, text=True, check=True).stdout)
"""


def test_a_large_parent_does_not_count() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert 1_000_000 < int(done.stdout) < 100_000_000
