"""Instructions between two marks, counted by QEMU."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.instructions import STAGES, WARM_UP, count, summary
from toolkit.errors import MissingError

PROGRAM = """
#include <unistd.h>
static void spin(long times) { for (volatile long i = 0; i < times; i++); }
int main(void) { getppid(); spin(1000); getppid(); spin(100000); getppid(); return 0; }
"""


def test_what_happens_between_two_marks_is_counted(tmp_path: Path) -> None:
    if not shutil.which("qemu-x86_64") or not shutil.which("gcc"):
        pytest.skip("qemu-user or gcc is not installed")
    (tmp_path / "p.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-O1", tmp_path / "p.c", "-o", tmp_path / "p"], check=True)
    first, second, third = count([str(tmp_path / "p")], tmp_path)
    short, long = second - first, third - second
    assert short > 1000
    assert 90 * short < long < 101 * short, (short, long)
    with pytest.raises(MissingError, match="did not run"):
        count([str(tmp_path / "no such program")], tmp_path)


def test_stages_are_means_over_frames_after_the_warm_up() -> None:
    costs = [[9e6] * len(STAGES)] * WARM_UP + [[2e6, 3e6, 1e6, 20e6, 180e6], [4e6, 3e6, 1e6, 20e6, 180e6]]
    marks = []
    for now, frame in enumerate(costs):
        start = now * 1_000_000_000
        marks += [start + int(sum(frame[:n])) for n in range(len(STAGES) + 1)]
    found = summary(marks)
    assert found["stages"] == dict(zip(STAGES, [3_000_000, 3_000_000, 1_000_000, 20_000_000, 180_000_000], strict=True))
    assert found["frames"] == 2
    assert found["ratio"] == pytest.approx(7 / 200)
    assert found["verifier_share_of_ours"] == pytest.approx(1 / 7)
