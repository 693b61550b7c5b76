"""`toolkit eval`: error rates of the generator, measured on the model files that it makes."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.evaluate_tables import (
    groups_table,
    household_table,
    kin_table,
    pairs_table,
    peers_table,
    scores_table,
)
from toolkit.commands.options import Faces, GeneratorFile, Json, RuntimeName, Threads
from toolkit.errors import MissingError, UsageError
from toolkit.output import command_line, emit, note
from toolkit.refiner import BankFile, RefineSeconds, load_refiner

if TYPE_CHECKING:
    from benchmarks.enrolling import Enrol
    from benchmarks.scoring import FileScorer
    from models.faceset import FaceSet
    from models.generator import Generator

app = typer.Typer(
    help="Error rates: every enrolled photo becomes a real model file, and that file scores the probes.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EvalPrecision = Annotated[str, typer.Option("--precision", help="Which file is evaluated: fp32 or int8.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Folder for the DET curve and the score histogram (PNG).")]
BackboneFile = Annotated[
    Path | None, typer.Option("--backbone", help="The backbone's file, or the folder of its files; default: found.")
]
EnrolCounts = Annotated[str, typer.Option("--enrol", help="Numbers of enrolment photos, with commas.")]
Mirror = Annotated[
    bool, typer.Option("--mirror", help="Score each face and its mirror image, and take the mean: f runs twice.")
]
Split = Annotated[str, typer.Option(help="Only this split of the file, where it has splits; empty: all.")]


@app.command()
def pairs(
    faces: Faces,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="LFW's list, or lines `photo photo 0|1`; a .bin pack brings its own."),
    ] = None,
    precision: EvalPrecision = "fp32",
    runtime: RuntimeName = "auto",
    generator: GeneratorFile = None,
    backbone: BackboneFile = None,
    mirror: Mirror = False,
    plot: Plot = None,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """Pair verification: one photo enrolled, one photo shown (`one_sided`), and both directions added (`both_sides`).

    Accuracy by the list's folds (threshold from the other folds), EER, and FNMR at FMR 1e-2 and 1e-3 with
    Clopper-Pearson 95 % intervals; those thresholds are set on the same impostor pairs.
    """
    _check_pairs(faces, pairs)
    h, enrol, scorer = _prepare(generator, precision, runtime, plot, mirror)
    from benchmarks.pairs import evaluate_pairs
    from benchmarks.protocols import pairs_of_pack, read_pairs

    loaded = _load(h, faces, "", backbone, threads)
    protocol = read_pairs(pairs, loaded) if pairs else pairs_of_pack(faces)
    summary, scores = evaluate_pairs(loaded, protocol, enrol, scorer)
    result = {**_provenance("pairs", h, enrol, scorer, faces), "pairs": (pairs or faces).name, **summary}
    if plot:
        both = {"one-sided": scores.forward, "both sides": scores.forward + scores.backward}
        sides = {label: (s[protocol.same], s[~protocol.same]) for label, s in both.items()}
        result["plots"] = _plots(
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
    refine_seconds: RefineSeconds = 0.0,
    mirror: Mirror = False,
    plot: Plot = None,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """Enrol everyone from their first K photos; the rest of theirs are genuine, everyone else's are impostors.

    EER, FNMR at FMR 1e-2, 1e-3 and 1e-4 with intervals and pair counts, the spread over people, the rates at the
    thresholds that travel with the generator; and all that for decisions on several photos of one person, fused by
    likelihood ratio (fitted on other people) and by mean, as `toolkit run` does.
    """
    counts = _counts(enrol)
    h, way, scorer = _prepare(generator, precision, runtime, plot, mirror)
    refiner = load_refiner(h, refine, refine_seconds)
    from benchmarks.enrolling import Refined
    from benchmarks.household import evaluate_household

    if refiner:
        way = Refined(refiner)
    loaded = _load(h, faces, split, backbone, threads)
    summary, trials = evaluate_household(loaded, h.info, way, scorer, counts, fuse)
    result = {**_provenance("household", h, way, scorer, faces), "split": split or None, "enrolment_photos": summary}
    if plot:
        sides = {f"{n} photos": (t.genuine, t.impostor) for n, t in trials.items()}
        result["plots"] = _plots(sides, f"household, {scorer.precision}", plot, f"household-{scorer.precision}")
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
    counts = _counts(enrol)
    h, way, scorer = _prepare(generator, precision, runtime, None)
    from benchmarks.kin import evaluate_kin

    loaded = _load(h, faces, split, backbone, threads)
    summary = evaluate_kin(loaded, h.info, way, scorer, counts)
    result = {**_provenance("kin", h, way, scorer, faces), "split": split or None, **summary}
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
    h, way, scorer = _prepare(generator, precision, runtime, None)
    from benchmarks.groups import evaluate_groups

    strangers = _load(h, negatives, "", backbone, threads)
    loaded = _load(h, faces, split, backbone, threads)
    summary = evaluate_groups(loaded, strangers, h.info, way, scorer, photos, people)
    result = {**_provenance("groups", h, way, scorer, faces), "split": split or None,
              "negatives_from": negatives.name, **summary}  # fmt: skip
    emit(result, json, lambda: groups_table(result))


@app.command()
def peers(
    faces: Faces,
    pairs: Annotated[Path | None, typer.Option("--pairs", help="As for `eval pairs`.")] = None,
    peer: Annotated[
        list[str] | None, typer.Option("--peer", help="sface or dlib; may be repeated; default: all.")
    ] = None,
    precision: EvalPrecision = "int8",
    runtime: RuntimeName = "auto",
    generator: GeneratorFile = None,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """The personal verifier beside embedding networks with a cosine, on the same pairs in one run: accuracy and cost.

    Parameters, MACs and bytes are counted from the files that run; also from how many enrolled people on one embedding
    and a search cost less than asking everybody's verifier.
    """
    from models.backbone import GRAPHS

    names = peer or list(GRAPHS)
    if unknown := set(names) - set(GRAPHS):
        raise UsageError("unknown peer", got=", ".join(sorted(unknown)), expected=", ".join(GRAPHS))
    _check_pairs(faces, pairs)
    h, way, scorer = _prepare(generator, precision, runtime, None)
    from benchmarks.peers import evaluate_peers
    from benchmarks.protocols import pairs_of_pack, read_pairs

    loaded = _load(h, faces, "", None, threads)
    protocol = read_pairs(pairs, loaded) if pairs else pairs_of_pack(faces)
    systems = evaluate_peers(faces, loaded, protocol, names, way, scorer, threads)
    result = {**_provenance("peers", h, way, scorer, faces), "pairs": (pairs or faces).name, "systems": systems}
    emit(result, json, lambda: peers_table(result))


def _check_pairs(faces: Path, pairs: Path | None) -> None:
    """Raises UsageError unless there is one list of pairs."""
    pack = faces.suffix.lower() == ".bin"
    if pack == (pairs is not None):
        what = "a .bin pack brings its own pairs" if pack else "--pairs is missing"
        raise UsageError(what, do="leave --pairs out" if pack else "name a pair list")


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
    _check_packages()
    from benchmarks.score_files import count_scores, summarise

    summary = summarise(count_scores(files))
    result = {"kind": "scores", "command": command_line(), "files": [file.name for file in files], **summary}
    emit(result, json, lambda: scores_table(result))


def _counts(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError("--enrol is not a list of photo counts", got=text, expected="numbers such as 1,3,5")
    return [int(word) for word in words]


def _prepare(
    generator: Path | None, precision: str, runtime: str, plot: Path | None, mirror: bool = False
) -> tuple[Generator, Enrol, FileScorer]:
    """The generator, the way to enrol with it, and what scores. Raises UsageError or MissingError before any work."""
    from device.runtimes import check_precision, choose_runtime
    from models.generator import SHIPPED, Generator

    check_precision(name := choose_runtime(runtime), precision)
    if name == "c":
        raise UsageError("evaluation writes too many verifiers to compile each", do="use --runtime litert")
    _check_packages()
    from benchmarks.enrolling import Generated
    from benchmarks.scoring import FileScorer

    if plot:
        from benchmarks.plots import check_plotting

        check_plotting(plot)
    h = Generator(generator or SHIPPED)
    return h, Generated(h), FileScorer(h.info.spec, precision, name, mirror)


def _check_packages() -> None:
    """Their absence is told before the work."""
    try:
        import onnx  # noqa: F401
        import scipy  # noqa: F401
    except ImportError as error:
        raise MissingError(f"evaluation needs {error.name}", do="run `pip install 'hyperverify[eval]'`") from error


def _load(h: Generator, faces: Path, split: str, backbone: Path | None, threads: int) -> FaceSet:
    from models.backbone import load_backbone
    from models.faceset import load_faces

    note(f"templates come from {h.info.backbone}; they are computed once and cached")
    return load_faces([faces], split, h.info.spec.input_px, load_backbone(h.info.backbone, backbone, threads))


def _provenance(kind: str, h: Generator, enrol: Enrol, scorer: FileScorer, faces: Path) -> dict[str, Any]:
    from benchmarks.resampling import SEED

    return {
        "kind": kind,
        "command": command_line(),
        "seed": SEED,
        "generator": {"version": h.info.version, "sha256": h.sha256},
        "enrolment": enrol.method,
        "precision": scorer.precision,
        "runtime": scorer.runtime,
        "mirrored": scorer.mirrored,
        "faces": faces.name,
        "faces_sha256": _digest(faces),
    }


def _digest(faces: Path) -> str:
    """Of a file; of a folder, that of its files' digests in order."""
    from models.facedata import digest_of
    from models.facestream import face_files
    from models.files import sha256_of

    files = face_files([faces])
    if files == [faces]:
        return digest_of(faces)
    return sha256(" ".join(map(sha256_of, files)).encode()).hexdigest()


def _plots(sides: Any, title: str, folder: Path, stem: str) -> list[str]:
    from benchmarks.plots import plot_det, plot_histogram

    files = [folder / f"{stem}-det.png", folder / f"{stem}-scores.png"]
    plot_det(sides, title, files[0])
    plot_histogram(sides, title, files[1])
    return [str(file) for file in files]
