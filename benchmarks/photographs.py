"""Raw photographs through the whole pipeline: who can be enrolled, what can be used, and what is decided in time.

In the manner of FRUITS, "Face Recognition Under Inference Time conStraint" (Zhu et al., "WebFace260M", CVPR 2021):
detection, alignment and verification within a limit, on one core. Everything that fails on the way is an error of the
system: a person who could not be enrolled, a photo without a usable face, and a late decision all reject.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.conditions import one_core
from benchmarks.latency import Timing
from benchmarks.metrics import Rate
from benchmarks.scoring import FileScorer
from device.detector import PHOTO_SIDES_PX, FaceDetector
from device.image import IMAGE_SUFFIXES, read_image
from device.pipeline import Pipeline
from device.runtimes import RUNTIMES, load_verifier
from export.bundle import write_model
from models.enrolment import Enroller
from models.generator import Generator
from toolkit.errors import FaceError, InputError
from toolkit.progress import track


@dataclass(frozen=True)
class Shown:
    """One photograph before every verifier: `scores` by enrolled person, or the `reason` why there are none."""

    person: str
    reason: str
    scores: Mapping[str, float]
    times_ms: Mapping[str, float]  # by stage; "verify" is of one verifier

    @property
    def total_ms(self) -> float:
        return sum(self.times_ms.values())


def photographs(folder: Path, enrol: int) -> dict[str, list[Path]]:
    """The photos of each person's sub-folder, by name. Raises InputError unless two people have more than `enrol`."""
    people = {
        inside.name: sorted(p for p in inside.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        for inside in sorted(folder.iterdir() if folder.is_dir() else ())
        if inside.is_dir()
    }
    found = {name: files for name, files in people.items() if len(files) > enrol}
    if len(found) < 2:
        raise InputError(
            f"{folder} holds too few photographs", got=f"{len(found)} people with more than {enrol}",
            expected="one sub-folder a person, two people or more",
        )  # fmt: skip
    return found


def evaluate_photographs(
    people: Mapping[str, Sequence[Path]],
    enrol: int,
    h: Generator,
    enroller: Enroller,
    detector: bytes,
    scorer: FileScorer,
    point: str,
    limits_ms: Sequence[float],
) -> dict[str, Any]:
    """Enrol everyone from their first `enrol` photos; show everyone's other photos to every verifier."""
    thresholds, models, failed = _enrol_all(people, enrol, h, enroller, scorer, point)
    with one_core(), ExitStack() as stack:
        verifiers = {name: stack.enter_context(load_verifier(scorer.runtime, data, scorer.precision))
                     for name, data in models.items()}  # fmt: skip
        pipeline = Pipeline(FaceDetector(detector, PHOTO_SIDES_PX), verifiers, scorer.spec.framing)
        files = [(name, file) for name, photos in people.items() for file in photos[enrol:]]
        shown = [_show(pipeline, name, file) for name, file in track(files, "photographs", len(files))]
    unusable = Counter(one.reason for one in shown if one.reason)
    return {
        "people": len(people),
        "enrolment_photos": enrol,
        "operating_point": point,
        "failure_to_enrol": _rate(len(failed), len(people), Counter(failed)),
        "failure_to_acquire": _rate(unusable.total(), len(shown), unusable),
        "within_ms": {f"{limit:g}": _decisions(shown, list(people), thresholds, limit) for limit in limits_ms},
        "times": {stage: Timing(tuple(values)).summary() for stage, values in _times(shown).items()},
    }


def _enrol_all(
    people: Mapping[str, Sequence[Path]], enrol: int, h: Generator, enroller: Enroller, scorer: FileScorer, point: str
) -> tuple[dict[str, float], dict[str, bytes], list[str]]:
    """Thresholds and model files by person, and the reasons of those who could not be enrolled."""
    thresholds, models, failed = {}, {}, []
    for name, photos in track(people.items(), "enrolment", len(people)):
        try:
            enrolment = enroller.enrol(photos[:enrol])
        except FaceError as error:
            failed.append(error.reason)
            continue
        theta = h.weights(enrolment.template[None])[0]
        thresholds[name] = h.info.points_for(enrolment.accepted)[1][point].threshold
        models[name] = write_model(scorer.spec, theta, RUNTIMES[scorer.runtime].kind, scorer.precision)
    return thresholds, models, failed


def _show(pipeline: Pipeline, person: str, file: Path) -> Shown:
    """As `toolkit verify` sees a photo, timed from the file on."""
    start = time.perf_counter_ns()
    try:
        rgb = read_image(file)
    except InputError:
        return Shown(person, "unreadable", {}, {"decode": (time.perf_counter_ns() - start) / 1e6})
    decode_ms = (time.perf_counter_ns() - start) / 1e6
    seen = pipeline.observe(rgb, alone=True)
    times = {"decode": decode_ms, **seen.times_ms}
    if "verify" in times:
        times["verify"] /= len(pipeline.verifiers)  # a claim is checked by one
    return Shown(person, seen.reason, seen.scores, times)


def _decisions(shown: list[Shown], people: list[str], thresholds: dict[str, float], limit_ms: float) -> dict[str, Any]:
    """Every photo claims to be everybody once."""
    errors, trials = {True: 0, False: 0}, {True: 0, False: 0}
    for one in shown:
        for claimed in people:
            genuine = claimed == one.person
            usable = claimed in thresholds and claimed in one.scores and one.total_ms <= limit_ms
            accepted = usable and one.scores[claimed] >= thresholds[claimed]
            trials[genuine] += 1
            errors[genuine] += accepted != genuine
    late = sum(one.total_ms > limit_ms for one in shown)
    return {
        "false_rejection": asdict(Rate.of(errors[True], trials[True])),
        "false_acceptance": asdict(Rate.of(errors[False], trials[False])),
        "late": asdict(Rate.of(late, len(shown))),
    }


def _rate(errors: int, trials: int, reasons: Counter[str]) -> dict[str, Any]:
    return asdict(Rate.of(errors, trials)) | {"reasons": dict(reasons.most_common())}


def _times(shown: list[Shown]) -> dict[str, list[float]]:
    """Samples of each stage, and of all together for the photos that came to a decision."""
    found: dict[str, list[float]] = {}
    for one in shown:
        for stage, value in one.times_ms.items():
            found.setdefault(stage, []).append(value)
    found["photograph to decision"] = [one.total_ms for one in shown if not one.reason] or [0.0]
    return found
