"""`toolkit eval templates`: sets in which a person is enrolled from several photos and shown in several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.evaluate_tables import pairs_table
from toolkit.commands.evaluating import BackboneFile, EvalPrecision, generator_facts, prepare
from toolkit.commands.options import GeneratorFile, Json, RuntimeName, Threads
from toolkit.output import emit


def templates(
    folder: Annotated[
        Path, typer.Argument(help="A set in InsightFace's layout: loose_crop/, meta/.", show_default=False)
    ],
    precision: EvalPrecision = "int8",
    runtime: RuntimeName = "auto",
    generator: GeneratorFile = None,
    backbone: BackboneFile = None,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """Template sets such as IJB-B and IJB-C: photos aligned by their landmarks, frames of one video averaged first.

    `one_sided`: the first template of each pair enrolled, the second shown; `both_sides` adds the other direction.
    """
    h, way, scorer = prepare(generator, precision, runtime, None)
    from benchmarks.pairs import summarise
    from benchmarks.template_sets import load_photos, read_template_set, score_templates
    from models.backbone import load_backbone

    source = read_template_set(folder)
    faces = load_photos(source, h.info.spec.framing, load_backbone(h.info.backbone, backbone, threads))
    scores = score_templates(source, faces, way, scorer)
    unknown = faces.identity[: len(source.rows())]  # of the templates
    sides = {"one_sided": scores.forward, "both_sides": scores.forward + scores.backward}
    summary = {side: summarise(values, source.pairs, unknown) for side, values in sides.items()}
    counts = {"photos": len(faces), "templates": len(source.rows())}
    result = {
        **generator_facts("pairs", h, way, scorer),
        "faces": folder.name,
        "protocol": "templates",
        **counts,
        **summary,
    }
    emit(result, json, lambda: pairs_table(result))
