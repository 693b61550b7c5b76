"""Instructions between two marks, counted by QEMU."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import peer_instructions
from benchmarks.instructions import STAGES, WARM_UP, count, summary
from benchmarks.peer_instructions import FACES, per_face
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


def test_networks_are_medians_shared_by_the_faces_of_a_batch() -> None:
    marks = [100, 1_100, 9_000_100, 9_001_300]
    assert len(marks) == FACES + 1
    assert per_face(marks, 1) == 1_200
    assert per_face(marks, 2) == 600


def test_what_is_not_here_cannot_be_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise MissingError("no such network")

    monkeypatch.setattr(peer_instructions, "open_peer", missing)
    monkeypatch.setattr(peer_instructions, "open_bundle", lambda path: path)
    with pytest.raises(MissingError, match="no network could be counted"):
        peer_instructions.main(tmp_path, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()
