"""Decisions that int8 changes: counted by hand, and as the report shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.flips import _flips

ROOT = Path(__file__).parents[2]


def test_each_sort_of_flip_is_counted_on_its_side() -> None:
    real = np.array([0.30, 0.26, 0.20, 0.10, 0.27, 0.20, 0.25])
    steps = np.array([0.28, 0.24, 0.30, 0.12, 0.24, 0.26, 0.25])  # the last lies on the threshold: accepted by both
    mated = np.array([True, True, True, True, False, False, False])
    found = _flips(real, steps, mated, 0.25)
    assert (found["flips"]["errors"], found["flips"]["trials"]) == (4, 7)
    assert (found["genuine_lost"], found["genuine_won"]) == (1, 1)
    assert (found["impostors_admitted"], found["impostors_refused"]) == (1, 1)


def test_the_report_shows_the_shipped_measurement(toolkit: Callable[..., Any], tmp_path: Path) -> None:
    file = ROOT / "docs" / "results" / "flips.json"
    done = toolkit("report", file, "--out", "r.md")
    assert done.code == 0, done.err
    rows = [line for line in (tmp_path / "r.md").read_text().splitlines() if line.startswith("| flips at ")]
    assert len(rows) == len(json.loads(file.read_text())["at"])
