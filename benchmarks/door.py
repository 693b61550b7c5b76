"""A door, measured: `python -m benchmarks.door PEOPLE OUT.json`, with a folder of photos for each person in PEOPLE.

Each person is enrolled from half of their photos. Every photo becomes a visit on video (benchmarks/scenes.py) that all
verifiers watch at once; each verifier's scores then go through a session of its own, as on a device with one user.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import attacks, scenes
from benchmarks.facts import device_facts, install_bytes
from benchmarks.metrics import Rate
from device.decision import ACCEPTED, Rates, SequentialTest
from device.detector import FaceDetector
from device.open import open_pipeline
from device.pipeline import Observation
from device.score_model import ScoreModel
from device.session import Session
from export.bundle import BundleContent, write_bundle
from export.manifest import Bundle, open_bundle
from models.backbone import load_backbone
from models.enrolment import Enroller, find_photos
from models.files import find_model
from models.fold import detector_file
from models.generator import Generator
from toolkit.atomic import write_atomically
from toolkit.errors import InputError
from toolkit.progress import track

VISIT_S = 3.0
CPU_FRAMES = 60
SOON_MS = 500.0
OPERATING_POINTS = {"fmr1e-2": 1e-2, "fmr1e-3": 1e-3, "fmr1e-4": 1e-4}


@dataclass(frozen=True)
class Visit:
    """Whose photo, whether it was enrolled from, and what the pipeline saw of every frame."""

    person: str
    enrolled: bool
    seen: list[Observation]


def enrol_everybody(people: Path, detector: bytes, folder: Path) -> tuple[list[Bundle], dict[Path, str], set[Path]]:
    """Bundles from the first half of each person's photos; all photos and their people; those enrolled from."""
    h = Generator()
    enroller = Enroller(detector, load_backbone(h.info.backbone), h.info.spec.framing)
    bundles: list[Bundle] = []
    owners: dict[Path, str] = {}
    used: set[Path] = set()
    for person in track(sorted(p for p in people.iterdir() if p.is_dir()), "enrolling"):
        photos = find_photos([str(person)])
        half = photos[: len(photos) // 2]
        enrolment = enroller.enrol(half)
        number, points = h.info.points_for(enrolment.accepted)
        content = BundleContent(
            person.name, h.info.spec, h.weights(enrolment.template[None])[0], {"version": h.info.version},
            enrolment.accepted, {name: vars(point) for name, point in points.items()}, number, detector, {},
            h.info.visits_for(number),
        )  # fmt: skip
        write_bundle(content, folder / f"{person.name}.hvb", replace=False)
        bundles.append(open_bundle(folder / f"{person.name}.hvb"))
        owners |= dict.fromkeys(photos, person.name)
        used |= set(half)
    return bundles, owners, used


def film_visits(bundles: list[Bundle], owners: dict[Path, str], used: set[Path], finder: FaceDetector) -> list[Visit]:
    visits = []
    for seed, (photo, person) in enumerate(track(owners.items(), "visits", len(owners))):
        try:
            subject = scenes.portrait(photo, finder)
        except InputError:
            continue
        with open_pipeline(bundles, "auto", "int8") as pipeline:
            seen = [pipeline.follow(frame)[0] for frame in scenes.film(subject, VISIT_S, seed)]
        visits.append(Visit(person, photo in used, [replace(one, crop=None) for one in seen]))
    return visits


def decide(visit: Visit, user: str, test: SequentialTest) -> tuple[str, float]:
    """How a visit ends for one user's device, and the seconds from its first usable frame to that."""
    session, first = Session(test), None
    for number, seen in enumerate(visit.seen):
        time_s = number / scenes.FPS
        first = time_s if first is None and seen.scores else first
        mine = replace(seen, scores={user: seen.scores[user]} if seen.scores else {})
        if (made := session.update([mine], time_s).decision) and first is not None:
            return made.outcome, time_s - first
    return "none", 0.0


def outcomes(visits: list[Visit], bundles: list[Bundle], false_accept: float) -> dict[str, Any]:
    """Accepts among enrolled people's new photos and among strangers, and how long the accepted waited."""
    counts: dict[str, dict[str, int]] = {"genuine": defaultdict(int), "impostor": defaultdict(int)}
    waits: list[float] = []
    for bundle in bundles:
        model = ScoreModel.from_manifest(bundle.manifest)
        test = SequentialTest({bundle.name: model}, Rates(false_accept=false_accept))
        for visit in visits:
            if visit.person == bundle.name and visit.enrolled:
                continue
            kind = "genuine" if visit.person == bundle.name else "impostor"
            outcome, waited_s = decide(visit, bundle.name, test)
            counts[kind][outcome] += 1
            if kind == "genuine" and outcome == ACCEPTED:
                waits.append(waited_s * 1000)
    result: dict[str, Any] = {}
    for kind, found in counts.items():
        trials = sum(found.values())
        rate = Rate.of(found[ACCEPTED], trials)
        result[kind] = {"trials": trials, "outcomes": dict(sorted(found.items())), "accepted": vars(rate)}
    result["impostor"]["rule_of_three"] = 3 / result["impostor"]["trials"]
    # Over everybody who was enrolled, who is not let in waits for ever.
    everybody = sorted(waits) + [np.inf] * (result["genuine"]["trials"] - len(waits))
    soon = Rate.of(sum(wait <= SOON_MS for wait in everybody), len(everybody))
    wait_ms = {"accepted": _quantiles(waits), "everybody": _quantiles(everybody), "within_500_ms": vars(soon)}
    return result | {"wait_ms": wait_ms}


def _quantiles(waits: list[float]) -> dict[str, float | None]:
    """Medians and 95th percentiles, as waits that occurred; None where that is for ever."""
    found = np.quantile(waits, [0.5, 0.95], method="higher") if waits else [np.inf] * 2
    return {name: float(ms) if np.isfinite(ms) else None for name, ms in zip(("p50", "p95"), found, strict=True)}


def correlation_of_frames(visits: list[Visit], users: list[str]) -> float:
    """The share of strangers' score variance that lies between visits: how alike frames of one visit are."""
    between, within = [], []
    for user in users:
        rows = [[s.scores[user] for s in v.seen if s.scores] for v in visits if v.person != user]
        rows = [row for row in rows if len(row) > 5]
        between.append(np.var([np.mean(row) for row in rows]))
        within.append(np.mean([np.var(row) for row in rows]))
    return float(np.mean(between) / (np.mean(between) + np.mean(within)))


def cpu_per_frame(bundle: Bundle, subject: scenes.Portrait) -> dict[str, float]:
    """Median processor milliseconds a frame at 640×480, one thread: ours, and YuNet on every frame with SFace."""
    from device.alignment import align

    frames = list(scenes.film(subject, CPU_FRAMES / scenes.FPS, 1))
    sface, ours, theirs, verify = load_backbone("sface", threads=1), [], [], []
    with open_pipeline(bundle, "auto", "int8") as pipeline:
        for measured in (False, True):  # the first pass warms up
            for frame in frames:
                start = time.process_time_ns()
                seen = pipeline.follow(frame)[0]
                middle = time.process_time_ns()
                faces = pipeline.detector.detect(frame)
                if faces:
                    sface.embed(align(frame, faces[0].landmarks)[None])
                end = time.process_time_ns()
                if measured:
                    ours.append((middle - start) / 1e6)
                    theirs.append((end - middle) / 1e6)
                    verify.append(seen.times_ms.get("verify", 0.0))
        searched = pipeline.tracker.searches / (2 * len(frames))
    mean_ours, mean_theirs = float(np.mean(ours)), float(np.mean(theirs))
    return {
        "ours_ms": mean_ours,
        "every_frame_ms": mean_theirs,
        "ratio": mean_ours / mean_theirs,
        "verifier_share_of_ours": float(np.mean(verify)) / mean_ours,
        "verifier_share_of_every_frame": float(np.mean(verify)) / mean_theirs,
        "frames_searched": searched,
        "frames": len(ours),
    }


def main(people: Path, out: Path) -> None:
    detector = detector_file(find_model("yunet"))
    finder, h = scenes.portrait_detector(detector), Generator()
    with tempfile.TemporaryDirectory() as folder:
        bundles, owners, used = enrol_everybody(people, detector, Path(folder))
        visits = film_visits(bundles, owners, used, finder)
        subjects = [scenes.portrait(photo, finder) for photo in sorted(owners) if photo not in used][:24]
        result = {
            "schema_version": 1,
            "people": len(bundles),
            "visit_s": VISIT_S,
            "generator": {"version": h.info.version, "sha256": h.sha256},
            "cpu_per_frame": cpu_per_frame(bundles[0], subjects[0]),
            "frame_correlation": correlation_of_frames(visits, [bundle.name for bundle in bundles]),
            "sequential": {n: outcomes(visits, bundles, rate) for n, rate in OPERATING_POINTS.items()},
            "liveness": attacks.report(subjects, FaceDetector(detector)),
            "install_bytes": {extra: install_bytes(extra) for extra in ("litert", "onnxruntime")},
            "device": device_facts(),
        }
    write_atomically(out, (json.dumps(result, indent=2) + "\n").encode(), mode=0o644)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
