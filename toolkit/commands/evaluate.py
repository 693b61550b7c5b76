"""`toolkit eval`: error rates of the generator, measured on the model files that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.evaluate_tables import (
    flips_table,
    groups_table,
    household_table,
    kin_table,
    pairs_table,
    peers_table,
    scores_table,
)
from toolkit.commands.evaluating import (
    BackboneFile,
    EnrolCounts,
    EvalPrecision,
    PairList,
    Plot,
    Split,
    check_one_source,
    check_packages,
    check_pairs,
    counts,
    load,
    plots,
    prepare,
    provenance,
    refined_or_generated,
)
from toolkit.commands.options import Faces, GeneratorFile, Json, RuntimeName, Threads
from toolkit.commands.photographs import photographs
from toolkit.commands.robustness import robustness
from toolkit.commands.template_sets import templates
from toolkit.errors import UsageError
from toolkit.output import command_line, emit, note
from toolkit.refiner import BankFile, load_refiner

app = typer.Typer(
    help="Error rates: every enrolled photo becomes a real model file, and that file scores the probes.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command()(robustness)
app.command()(photographs)
app.command()(templates)


@app.command()
def pairs(
    faces: Faces,
    pairs: PairList = None,
    precision: EvalPrecision = "fp32",
    runtime: RuntimeName = "auto",
    generator: GeneratorFile = None,
    backbone: BackboneFile = None,
    plot: Plot = None,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """Pair verification: one photo enrolled, one photo shown (`one_sided`), and both directions added (`both_sides`).

    Accuracy by the list's folds (threshold from the other folds), EER, and FNMR at FMR 1e-2 and 1e-3 with
    Clopper-Pearson 95 % intervals; those thresholds are set on the same impostor pairs.
    """
    check_pairs(faces, pairs)
    h, enrol, scorer = prepare(generator, precision, runtime, plot)
    from benchmarks.pairs import evaluate_pairs
    from benchmarks.protocols import pairs_of_pack, read_pairs

    loaded = load(h, faces, "", backbone, threads)
    protocol = read_pairs(pairs, loaded) if pairs else pairs_of_pack(faces)
    summary, scores = evaluate_pairs(loaded, protocol, enrol, scorer)
    result = {**provenance("pairs", h, enrol, scorer, faces), "pairs": (pairs or faces).name, **summary}
    if plot:
        both = {"one-sided": scores.forward, "both sides": scores.forward + scores.backward}
        sides = {label: (s[protocol.same], s[~protocol.same]) for label, s in both.items()}
        result["plots"] = plots(
            sides, f"{(pairs or faces).name}, {scorer.precision}", plot, f"pairs-{scorer.precision}"
        )
    emit(result, json, lambda: pairs_table(result))


@app.command()
def household(
    faces: Faces,
    enrol: EnrolCounts = "1,3,5",
    fuse: Annotated[int, typer.Option(min=0, max=100, help="Probes fused to one decision; 0: none.")] = 5,
    split: Split = "",
    precision: EvalPrecision = "fp32",
    runtime: RuntimeName = "auto",
    generator: GeneratorFile = None,
    backbone: BackboneFile = None,
    refine: BankFile = None,
    plain_mean: Annotated[bool, typer.Option(help="Fuse enrolment photos without regard to sharpness.")] = False,
    plot: Plot = None,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """Enrol everyone from their first K photos; the rest of theirs are genuine, everyone else's are impostors.

    EER, FNMR at FMR 1e-2, 1e-3 and 1e-4 with intervals and pair counts, the spread over people, the rates at the
    thresholds that travel with the generator; and all that for decisions on several photos of one person, fused by
    likelihood ratio (fitted on other people) and by mean, as `toolkit run` does.
    """
    numbers = counts(enrol)
    if plain_mean and refine:
        raise UsageError("--refine fuses photos as `toolkit enroll` does", got="--plain-mean", do="leave one out")
    h, _, scorer = prepare(generator, precision, runtime, plot)
    way = refined_or_generated(h, load_refiner(h, refine), plain_mean)
    from benchmarks.household import evaluate_household

    loaded = load(h, faces, split, backbone, threads)
    summary, trials = evaluate_household(loaded, h.info, way, scorer, numbers, fuse)
    result = {**provenance("household", h, way, scorer, faces), "split": split or None, "enrolment_photos": summary}
    if plot:
        sides = {f"{n} photos": (t.genuine, t.impostor) for n, t in trials.items()}
        result["plots"] = plots(sides, f"household, {scorer.precision}", plot, f"household-{scorer.precision}")
    emit(result, json, lambda: household_table(result))


@app.command()
def kin(
    faces: Faces,
    enrol: EnrolCounts = "1,3",
    split: Split = "",
    precision: EvalPrecision = "fp32",
    runtime: RuntimeName = "auto",
    generator: GeneratorFile = None,
    backbone: BackboneFile = None,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """How often the verifier of a person accepts that person's relatives, at the threshold that keeps strangers out.

    Identities name the family: FAMILY/PERSON, as in Families in the Wild. Everyone with a relative in the set is
    enrolled from the first K photos. Thresholds: FMR 1e-2 to 1e-4 of these strangers, and those that travel with the
    generator. A photo found under two identities is left out and counted.
    """
    numbers = counts(enrol)
    h, way, scorer = prepare(generator, precision, runtime, None)
    from benchmarks.kin import evaluate_kin

    loaded = load(h, faces, split, backbone, threads)
    summary = evaluate_kin(loaded, h.info, way, scorer, numbers)
    result = {**provenance("kin", h, way, scorer, faces), "split": split or None, **summary}
    emit(result, json, lambda: kin_table(result))


@app.command()
def groups(
    faces: Faces,
    negatives: Annotated[
        Path, typer.Option("--negatives", help="Strangers: a Parquet file or a folder of such files, named as UTKFace.")
    ],
    photos: Annotated[int, typer.Option(min=1, help="Enrolment photos.")] = 5,
    people: Annotated[int, typer.Option(min=2, help="How many people of --faces are enrolled, evenly spread.")] = 25,
    split: Split = "",
    precision: EvalPrecision = "fp32",
    runtime: RuntimeName = "auto",
    generator: GeneratorFile = None,
    backbone: BackboneFile = None,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """False matches by age, sex and ethnicity of the stranger, all at one threshold, and the worst group.

    The strangers' file names tell the groups: AGE_SEX_ETHNICITY_…, in UTKFace's coding. --split applies to --faces.
    """
    h, way, scorer = prepare(generator, precision, runtime, None)
    from benchmarks.groups import evaluate_groups

    strangers = load(h, negatives, "", backbone, threads)
    loaded = load(h, faces, split, backbone, threads)
    summary = evaluate_groups(loaded, strangers, h.info, way, scorer, photos, people)
    result = {**provenance("groups", h, way, scorer, faces), "split": split or None,
              "negatives_from": negatives.name, **summary}  # fmt: skip
    emit(result, json, lambda: groups_table(result))


PeerNames = Annotated[
    list[str] | None,
    typer.Option("--peer", help="sface, dlib, mobilefacenet or embedding; may be repeated; default: all here."),
]
EmbeddingFile = Annotated[
    Path | None,
    typer.Option("--embedding", help="What `toolkit train` wrote for configs/embedding.toml; default: shipped."),
]


@app.command()
def flips(
    faces: Faces,
    pairs: PairList = None,
    runtime: RuntimeName = "auto",
    generator: GeneratorFile = None,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """Decisions that int8 files make otherwise than fp32 files, at the thresholds that travel with the generator."""
    check_pairs(faces, pairs)
    h, way, scorer = prepare(generator, "int8", runtime, None)
    from benchmarks.flips import evaluate_flips
    from benchmarks.protocols import pairs_of_pack, read_pairs

    loaded = load(h, faces, "", None, threads)
    protocol = read_pairs(pairs, loaded) if pairs else pairs_of_pack(faces)
    found = evaluate_flips(loaded, protocol, way, scorer, h.info.points_for(1)[1])
    result = {**provenance("flips", h, way, scorer, faces), "pairs": (pairs or faces).name, **found}
    emit(result, json, lambda: flips_table(result))


@app.command()
def peers(
    faces: Faces,
    pairs: PairList = None,
    peer: PeerNames = None,
    embedding: EmbeddingFile = None,
    precision: EvalPrecision = "int8",
    runtime: RuntimeName = "auto",
    generator: GeneratorFile = None,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """The personal verifier beside embedding networks with a cosine, on the same pairs in one run: accuracy and cost.

    `embedding` is a network of the verifier's own size that serves everybody. Parameters, MACs and bytes are counted
    from the files that run; times are of one thread; also from how many enrolled people on one embedding and a search
    cost less than asking everybody's verifier.
    """
    check_pairs(faces, pairs)
    check_one_source(faces)
    h, way, scorer = prepare(generator, precision, runtime, None)
    from benchmarks.peer_latency import EMBEDDINGS
    from benchmarks.peers import evaluate_peers, present
    from benchmarks.protocols import pairs_of_pack, read_pairs
    from benchmarks.tiny_embedding import SHIPPED

    if unknown := set(peer or []) - set(EMBEDDINGS):
        raise UsageError("unknown peer", got=", ".join(sorted(unknown)), expected=", ".join(EMBEDDINGS))
    network = embedding or SHIPPED
    names, missing = (peer, {}) if peer else present(EMBEDDINGS, network)
    for sentence in missing.values():
        note(f"left out: {sentence}")
    loaded = load(h, faces, "", None, threads)
    protocol = read_pairs(pairs, loaded) if pairs else pairs_of_pack(faces)
    systems = evaluate_peers(faces, loaded, protocol, names, way, scorer, threads, network)
    result = {**provenance("peers", h, way, scorer, faces), "pairs": (pairs or faces).name, "systems": systems,
              "missing": sorted(missing)}  # fmt: skip
    emit(result, json, lambda: peers_table(result))


@app.command()
def scores(
    files: Annotated[
        list[Path], typer.Argument(help="Parquet or CSV files with the columns score, mated.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Error rates of any system, from its scores: files may be larger than memory.

    `mated` says whether both photos show one person. Scores keep 17 significant bits, those of int8 files all of them.
    """
    check_packages()
    from benchmarks.score_files import count_scores, summarise

    summary = summarise(count_scores(files))
    result = {"kind": "scores", "command": command_line(), "files": [file.name for file in files], **summary}
    emit(result, json, lambda: scores_table(result))
