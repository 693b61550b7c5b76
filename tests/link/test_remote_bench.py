"""The bench on a device: its own raw samples come back, and a regression against a baseline is exit code 5."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from link_support import Fleet


@pytest.mark.long
def test_a_device_measures_what_was_deployed_to_it(fleet: Fleet, releases: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, raw = releases[0], tmp_path / "baseline.json"
    early = fleet.run("bench", bundle, "--on", "device0", "--runs", 20)
    assert early.code == 4
    assert "deploy it first" in early.err
    assert fleet.run("deploy", bundle, "--to", "device0").code == 0
    done = fleet.run("bench", bundle, "--on", "device0", "--runs", 20, "--raw", raw, "--json")
    assert done.code == 0, done.err
    assert {"detect", "align", "verify/litert/int8"} <= set(done.json["latency"])
    assert set(done.json["conditions"]) == {"before", "after"}
    document = json.loads(raw.read_text())
    assert len(document["samples_ms"]["align"]) == 20
    document["samples_ms"] = {name: [s / 50 for s in samples] for name, samples in document["samples_ms"].items()}
    raw.write_text(json.dumps(document))
    slower = fleet.run("bench", bundle, "--on", "device0", "--runs", 20, "--baseline", raw)
    assert slower.code == 5
    assert "slower than" in slower.err
