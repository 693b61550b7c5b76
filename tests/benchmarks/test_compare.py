"""Regressions: found when they are there, not found in noise, and baselines that are none are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare import compare, read_baseline
from benchmarks.conditions import conditions, read_throttled
from toolkit.errors import ArtifactError, InputError


def times(seed: int, scale: float = 1.0) -> list[float]:
    return list(scale * np.random.default_rng(seed).lognormal(0, 0.1, 300))


def test_a_fifth_slower_is_found() -> None:
    (row,) = compare({"verify": times(0)}, {"verify": times(1, 1.2)}, 0.1)
    assert row["slower"]
    assert row["low"] < 1.2 < row["high"]


def test_noise_and_what_nobody_minds_are_not() -> None:
    for seed in range(40):
        assert not compare({"verify": times(seed)}, {"verify": times(seed + 100)}, 0.0)[0]["slower"]
    (row,) = compare({"verify": times(0)}, {"verify": times(1, 1.05)}, 0.1)
    assert row["p"] < 0.01
    assert not row["slower"]


def test_faster_is_not_slower_and_stages_of_one_side_are_left_out() -> None:
    rows = compare({"verify": times(0), "gone": times(0)}, {"verify": times(1, 0.5), "new": times(0)}, 0.1)
    assert [(row["stage"], row["slower"]) for row in rows] == [("verify", False)]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 1, "samples_ms": {"a": [0, 1]}, "device": {}}',
                                  '{"schema_version": 1, "samples_ms": {"a": "x"}, "device": {}}'])  # fmt: skip
def test_what_is_no_baseline_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    with pytest.raises(InputError):
        read_baseline(path)
    path.write_text(text)
    with pytest.raises(ArtifactError, match="no baseline"):
        read_baseline(path)


def test_conditions_are_json_and_the_firmwares_bits_have_names() -> None:
    assert set(json.loads(json.dumps(conditions()))) == {
        "temperature_c", "clock_mhz", "throttled", "throttled_since_boot",
    }  # fmt: skip
    assert read_throttled(0x50005) == (["under-voltage", "throttled"], ["under-voltage", "throttled"])
