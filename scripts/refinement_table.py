"""What personal refinement gains, and what each of its settings is worth: writes docs/results/refinement.json.

    python scripts/refinement_table.py --faces FACES --bank BANK [--people 60] [--photos 5]

FACES is a Parquet file, or a folder of them, with a `val` split; BANK is made by
`toolkit bank build FACES --split train`. Every row enrols the same people, evenly spread over those with ten photos
more than are enrolled, and scores the same faces, everybody's. `python scripts/tables.py` then writes the table of
docs/enrolment.md.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.enrolling import Generated
from benchmarks.household import compare, enrolment_sets, summarise
from benchmarks.scoring import FileScorer
from models.backbone import load_backbone
from models.bank import Bank, open_bank
from models.faceset import FaceSet, load_faces
from models.generator import SHIPPED as WEIGHTS
from models.generator import Generator
from models.normalisation import as_learned
from models.refine import RefineConfig, Refinement, refine
from toolkit.atomic import write_atomically
from toolkit.output import note

RESULT = Path(__file__).parents[1] / "docs" / "results" / "refinement.json"
REST = 10  # photos left to verify: a person with few says little
PROBES = 5  # fused to one decision
SHIPPED = RefineConfig()
AS_LEARNED = "as learned"  # by the generator, whose users are not made alike after training
VARIANTS: dict[str, RefineConfig | None] = {
    AS_LEARNED: None,
    "generated": None,
    "refined, as shipped": SHIPPED,
    "twice the share": replace(SHIPPED, share=2 * SHIPPED.share),
    "four times the share": replace(SHIPPED, share=4 * SHIPPED.share),
}


def main(
    faces: Annotated[Path, typer.Option()],
    bank: Annotated[Path, typer.Option()],
    people: Annotated[int, typer.Option(help="Enrol so many people.")] = 60,
    photos: Annotated[int, typer.Option(help="Enrolment photos.")] = 5,
    only: Annotated[str, typer.Option(help="Rows whose name contains this.")] = "",
) -> None:
    """Measure the variants; rows in docs/results/refinement.json of the same generator, bank and people are kept."""
    h, learned = Generator(), _as_learned(WEIGHTS)
    backbone = load_backbone(h.info.backbone)
    held_out = load_faces([faces], "val", h.info.spec.framing, backbone)
    strangers = open_bank(bank, h.info.spec, backbone.name, backbone.sha256)
    result = {"schema_version": 1, "generator": {"version": h.info.version, "sha256": h.sha256},
              "bank_faces": len(strangers), "people": people, "enrolment_photos": photos, "rows": {}}  # fmt: skip
    before = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    if {**before, "rows": {}} == result:
        result = before
    for name, config in VARIANTS.items():
        if only in name and name not in result["rows"]:
            used = learned if name == AS_LEARNED else h
            result["rows"][name] = _row(used, held_out, _some_people(held_out, photos, people), strangers, config)
            result["rows"] = {row: result["rows"][row] for row in VARIANTS if row in result["rows"]}
            write_atomically(RESULT, (json.dumps(result, indent=2) + "\n").encode(), mode=0o644)
            note(f"{name}: {result['rows'][name]}")


def _as_learned(weights: Path) -> Generator:
    """The generator without what `models.normalisation` put behind it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "h.onnx")
        path.write_bytes(as_learned(weights.read_bytes()))
        shutil.copy(weights.with_suffix(".json"), path.with_suffix(".json"))
        return Generator(path)


@dataclass(frozen=True)
class Timed:
    """A way to enrol that keeps its own count of seconds."""

    enrol: Callable[[np.ndarray, np.ndarray], np.ndarray]
    method: str = "timed"

    def __call__(self, pixels: np.ndarray, templates: np.ndarray) -> np.ndarray:
        return self.enrol(pixels, templates)


def _some_people(faces: FaceSet, photos: int, people: int) -> list[tuple[int, np.ndarray]]:
    """Number and enrolled rows of `people` of those who have REST more than `photos`, evenly spread."""
    sets = enrolment_sets(faces.identity, photos, 1)
    enough = [(person, rows) for person, rows in sets if (faces.identity == person).sum() >= photos + REST]
    return [enough[i] for i in np.linspace(0, len(enough) - 1, min(people, len(enough))).astype(int)]


def _row(
    h: Generator, faces: FaceSet, people: list[tuple[int, np.ndarray]], bank: Bank, config: RefineConfig | None
) -> dict[str, Any]:
    scorer, photos = FileScorer(h.info.spec, "int8", "litert"), len(people[0][1])
    refinements: list[Refinement] = []
    seconds: list[float] = []

    def enrol(pixels: np.ndarray, templates: np.ndarray) -> np.ndarray:
        started = time.process_time()
        theta = Generated(h)(pixels, templates)
        if config is not None:
            refinements.append(refine(h, pixels, templates, bank, scorer.scores, config))
            theta = refinements[-1].theta
        seconds.append(time.process_time() - started)
        return theta

    trials = compare(faces, people, np.flatnonzero(faces.identity >= 0), faces, Timed(enrol), scorer)
    summary = summarise(trials, h.info.points_for(photos)[1], PROBES)
    return {
        "people": summary["people"],
        "genuine_pairs": summary["genuine_pairs"],
        "impostor_pairs": summary["impostor_pairs"],
        "fnmr": {name: at["fnmr"] for name, at in summary["at_fmr"].items()},
        "fused_fnmr": summary["fused"]["likelihood_ratio"]["at_fmr"]["fmr1e-3"]["fnmr"],
        "fmr_at_shipped": {name: at["fmr"]["rate"] for name, at in summary["at_shipped_threshold"].items()},
        "fnmr_at_shipped": {name: at["fnmr"]["rate"] for name, at in summary["at_shipped_threshold"].items()},
        "kept": sum(r.kept for r in refinements),
        "seconds": round(statistics.median(seconds), 1),
    }


if __name__ == "__main__":
    typer.run(main)
