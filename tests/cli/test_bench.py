"""`toolkit bench` as people use it: what it counts and times, and what it compares with what."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from device.c_runtime import compiler

Toolkit = Callable[..., object]


def test_everything_is_counted_and_timed(toolkit: Toolkit, bundle: Path, tmp_path: Path) -> None:
    asked = ("--runs", "20", "--sustained", "1", "--raw", tmp_path / "raw.json")
    done = toolkit("bench", bundle, *asked, "--json")
    assert done.code == 0, done.err
    result = done.json
    assert result["params"] <= 23_000
    assert result["flops"] <= 5_000_000
    counts = {k: result[k] for k in ("params", "macs", "flops")}
    assert result["counted_from_onnx"] == result["counted_by_profiler"] == counts
    assert {"detect", "align", "verify/litert/int8", "end_to_end/litert/int8", "backbone/sface"} <= set(
        result["latency"]
    )
    raw = json.loads((tmp_path / "raw.json").read_text())["samples_ms"]
    assert len(raw["verify/litert/int8"]) == 20
    assert np.percentile(raw["detect"], 50) == pytest.approx(result["latency"]["detect"]["p50_ms"])
    assert result["times_faster_than_sface"]["litert/int8"] == pytest.approx(
        result["latency"]["backbone/sface"]["p50_ms"] / result["latency"]["verify/litert/int8"]["p50_ms"]
    )
    if compiler():
        assert result["int8_peak"]["macs_per_s"] > 0
        assert 0 < result["int8_peak"]["share_of_peak"] < 1
    assert result["peak_memory_bytes"]["litert"] > 1_000_000
    assert result["cold_start_ms"]["litert"] > result["latency"]["end_to_end/litert/int8"]["p50_ms"]
    assert f"verify on {os.cpu_count()} threads/litert/int8" in result["latency"]
    assert len(result["sustained"]["windows"]) == 10
    assert all(window["runs"] >= 2 for window in result["sustained"]["windows"])
    again = toolkit("bench", "compare", tmp_path / "raw.json", tmp_path / "raw.json", "--json")
    assert again.code == 0, again.err
    assert {(row["ratio"], row["slower"]) for row in again.json["comparison"]} == {(1.0, False)}


def test_two_measurements_are_compared(toolkit: Toolkit, bundle: Path, tmp_path: Path) -> None:
    samples = {"detect": [2.0, 2.1, 1.9] * 7, "verify/litert/int8": [0.1, 0.11, 0.09] * 7}
    document = {"schema_version": 1, "threads": 1, "samples_ms": samples, "device": {"processor": "made up"}}

    def written(name: str, **changes: object) -> Path:
        (tmp_path / name).write_text(json.dumps(document | changes))
        return tmp_path / name

    raw, other = written("raw.json"), written("two.json", threads=2)
    later = written("slow.json", samples_ms={stage: [3 * ms for ms in times] for stage, times in samples.items()})
    slower = toolkit("bench", "compare", raw, later)
    assert slower.code == 5
    assert "slower than" in slower.err
    assert "verify/litert/int8" in slower.out
    for words in ((bundle, "--threads", "2", "--baseline", raw), ("compare", raw, other)):
        done = toolkit("bench", *words)
        assert done.code == 2
        assert "another number of threads; got 1; expected 2" in done.err
    del document["threads"]  # as files of before
    assert toolkit("bench", "compare", written("old.json"), other).code == 0
    assert toolkit("bench", "compare", raw, tmp_path / "none.json").code == 4
