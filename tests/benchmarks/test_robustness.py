"""Photos made worse, and raw photographs against the clock: what is changed, what is counted, the whole commands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.photographs import Shown, _decisions
from benchmarks.robustness import CONDITIONS

Toolkit = Callable[..., Any]


@pytest.mark.parametrize("name", CONDITIONS)
def test_each_step_takes_more_away_than_the_one_before(name: str, noise_faces: np.ndarray) -> None:
    import cv2

    crop = np.asarray(cv2.resize(noise_faces[0], (112, 112), interpolation=cv2.INTER_CUBIC))
    condition = CONDITIONS[name]
    changed = [condition.change(crop, level, np.random.default_rng(1)) for level in condition.levels]
    away = [float(np.abs(c.astype(float) - crop).mean()) for c in changed]
    assert all(c.shape == crop.shape and c.dtype == np.uint8 for c in changed)
    assert 0 < away[0] < away[-1]
    assert name == "occlusion" or away == sorted(away)


def test_an_occluded_share_is_the_share_that_was_asked_for() -> None:
    crop = np.full((112, 112, 3), 77, np.uint8)
    covered = CONDITIONS["occlusion"].change(crop, 0.2, np.random.default_rng(0))
    assert (covered != 77).all(2).mean() == pytest.approx(0.2, abs=0.01)


def test_robustness_from_the_command_line_to_the_report(data: Path, toolkit: Toolkit, tmp_path: Path) -> None:
    lines = (data / "lfw" / "pairsDevTest.txt").read_text().splitlines()
    half, few = int(lines[0]), 100
    chosen = [*lines[1 : 1 + few], *lines[1 + half : 1 + half + 3 * few : 3]]
    people = {word for line in chosen for word in line.split("\t")}
    table = pq.read_table(data / "lfw" / "view1.parquet")
    rows = [i for i, name in enumerate(table["file"].to_pylist()) if name[:-9] in people]
    pq.write_table(table.take(rows), faces := tmp_path / "faces.parquet")
    (pairs := tmp_path / "pairs.txt").write_text("\n".join([str(few), *chosen]) + "\n")
    done = toolkit("eval", "robustness", "--faces", faces, "--pairs", pairs, "--json")
    assert done.code == 0, done.err
    r = done.json
    clean = r["unchanged"]["eer"]
    assert clean <= 0.15
    assert set(r["conditions"]) == set(CONDITIONS)
    for name, condition in r["conditions"].items():
        assert len(condition["levels"]) == 4
        assert condition["levels"][-1]["eer"] >= clean - 0.03, name
    assert max(found["levels"][-1]["eer"] for found in r["conditions"].values()) > clean
    assert r["conditions"]["blur"]["levels"][-1]["refused"]["rate"] > 0.9, "the quality check refuses σ = 4"
    turned = sum(one["at"]["fmr1e-2"]["fnmr"]["trials"] for one in r["pose"]["ranges"])
    assert turned + r["pose"]["beyond"] + r["pose"]["unknown"] == few
    assert r["pose"]["unknown"] < few / 4
    (result := tmp_path / "robustness.json").write_text(done.out)
    assert toolkit("report", result, "-o", tmp_path / "report.html").code == 0
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 6
    assert "turned by" in page
    assert toolkit("eval", "robustness", "--faces", faces).code == 2


@pytest.mark.parametrize("command", ["peers", "robustness"])
def test_a_folder_of_several_sets_is_refused_before_any_work(command: str, toolkit: Toolkit, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").touch()
    done = toolkit("eval", command, "--faces", tmp_path, "--pairs", tmp_path / "pairs.txt")
    assert (done.code, "holds several files of crops" in done.err) == (2, True), done.err


def test_every_failure_rejects() -> None:
    quick, slow = {"detect": 3.0, "verify": 1.0}, {"detect": 99.0, "verify": 2.0}
    shown = [
        Shown("anna", "", {"anna": 0.9, "ben": 0.8}, quick),  # ben's verifier takes her for him
        Shown("anna", "too_dark", {}, {"detect": 3.0}),
        Shown("ben", "", {"anna": 0.1, "ben": 0.9}, slow),
        Shown("carl", "", {"anna": 0.0, "ben": 0.1}, quick),  # could not be enrolled
    ]
    thresholds = {"anna": 0.5, "ben": 0.5}
    fast, patient = (_decisions(shown, ["anna", "ben", "carl"], thresholds, limit) for limit in (50, 500))
    assert (fast["false_rejection"]["errors"], fast["false_rejection"]["trials"]) == (3, 4)
    assert patient["false_rejection"]["errors"] == 2
    assert (fast["false_acceptance"]["errors"], fast["false_acceptance"]["trials"]) == (1, 8)
    assert (fast["late"]["errors"], patient["late"]["errors"]) == (1, 0)


def test_photographs_from_the_command_line_to_the_report(photos: Path, toolkit: Toolkit, tmp_path: Path) -> None:
    folder = tmp_path / "people"
    shots = {"obama": ["obama2.jpg", "obama3.jpg", "obama.jpg"], "biden": ["biden.jpg", "biden.jpg", "obama.jpg"]}
    for person, files in shots.items():
        (folder / person).mkdir(parents=True)
        for number, file in enumerate(files):
            shutil.copy(photos / file, folder / person / f"{number}.jpg")
    (folder / "nobody").mkdir()
    for number in range(2):
        (folder / "nobody" / f"{number}.jpg").write_bytes(b"no picture")
    done = toolkit("eval", "photographs", folder, "--enrol", 1, "--within", "1,60000", "--json")
    assert done.code == 0, done.err
    r = done.json
    assert (r["failure_to_enrol"]["errors"], r["failure_to_enrol"]["trials"]) == (1, 3)
    assert r["failure_to_enrol"]["reasons"] == {"no_usable_photo": 1}
    assert (r["failure_to_acquire"]["errors"], r["failure_to_acquire"]["trials"]) == (1, 5)
    assert r["failure_to_acquire"]["reasons"] == {"unreadable": 1}
    hurried, patient = r["within_ms"]["1"], r["within_ms"]["60000"]
    assert (hurried["false_rejection"]["rate"], hurried["false_acceptance"]["errors"]) == (1, 0)
    # Of five genuine claims: nobody's unreadable photo, and biden's second one, which shows obama.
    assert patient["false_rejection"]["errors"] in (2, 3)
    assert patient["false_acceptance"]["trials"] == 10
    assert set(r["times"]) == {"decode", "detect", "align", "verify", "photograph to decision"}
    (result := tmp_path / "photographs.json").write_text(done.out)
    assert toolkit("report", result, "-o", tmp_path / "report.md").code == 0
    assert "unreadable 1" in (tmp_path / "report.md").read_text()
    assert toolkit("eval", "photographs", folder, "--within", "soon").code == 2
    assert toolkit("eval", "photographs", folder, "--enrol", 5).code == 4
