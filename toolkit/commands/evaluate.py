"""`toolkit eval`: error rates of the generator, measured on the model files that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.options import Faces, GeneratorFile, Json, RuntimeName, Threads
from toolkit.errors import MissingError, UsageError
from toolkit.output import emit, note, table
from toolkit.refiner import BankFile, RefineSeconds, load_refiner

if TYPE_CHECKING:
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


@app.command()
def pairs(
    faces: Faces,
    pairs: Annotated[Path, typer.Option("--pairs", help="A pair list in LFW's format.")],
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
    h, scorer = _prepare(generator, precision, runtime, plot)
    from benchmarks.pairs import evaluate_pairs
    from benchmarks.protocols import read_lfw_pairs

    loaded = _load(h, faces, "", backbone, threads)
    protocol = read_lfw_pairs(pairs, loaded.names)
    summary, scores = evaluate_pairs(loaded, protocol, h, scorer)
    result = {**_provenance(h, scorer, faces), "pairs": pairs.name, **summary}
    if plot:
        both = {"one-sided": scores.forward, "both sides": scores.forward + scores.backward}
        sides = {label: (s[protocol.same], s[~protocol.same]) for label, s in both.items()}
        result["plots"] = _plots(sides, f"{pairs.name}, {scorer.precision}", plot, f"pairs-{scorer.precision}")
    emit(result, json, lambda: _pairs_table(result))


@app.command()
def household(
    faces: Faces,
    enrol: Annotated[str, typer.Option("--enrol", help="Numbers of enrolment photos, with commas.")] = "1,3,5",
    split: Annotated[str, typer.Option(help="Only this split of the file, where it has splits; empty: all.")] = "",
    precision: EvalPrecision = "fp32",
    runtime: RuntimeName = "auto",
    generator: GeneratorFile = None,
    backbone: BackboneFile = None,
    refine: BankFile = None,
    refine_seconds: RefineSeconds = 0.0,
    plot: Plot = None,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """Enrol everyone from their first K photos; the rest of theirs are genuine, everyone else's are impostors.

    EER, FNMR at FMR 1e-2, 1e-3 and 1e-4 with intervals and pair counts, the spread over people, and the rates at the
    thresholds that travel with the generator.
    """
    counts = _counts(enrol)
    h, scorer = _prepare(generator, precision, runtime, plot)
    refiner = load_refiner(h, refine, refine_seconds)
    enrol_one = (lambda photos, templates: refiner(photos, templates).theta) if refiner else None
    from benchmarks.household import evaluate_household

    loaded = _load(h, faces, split, backbone, threads)
    summary, trials = evaluate_household(loaded, h, scorer, counts, enrol_one)
    result = {
        **_provenance(h, scorer, faces),
        "split": split or None,
        "refined": refiner is not None,
        "enrolment_photos": summary,
    }
    if plot:
        sides = {f"{n} photos": (t.genuine, t.impostor) for n, t in trials.items()}
        result["plots"] = _plots(sides, f"household, {scorer.precision}", plot, f"household-{scorer.precision}")
    emit(result, json, lambda: _household_table(result))


def _counts(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError("--enrol is not a list of photo counts", got=text, expected="numbers such as 1,3,5")
    return [int(word) for word in words]


def _prepare(generator: Path | None, precision: str, runtime: str, plot: Path | None) -> tuple[Generator, FileScorer]:
    from device.runtimes import check_precision, choose_runtime
    from models.generator import SHIPPED, Generator

    check_precision(name := choose_runtime(runtime), precision)
    if name == "c":
        raise UsageError("evaluation writes too many verifiers to compile each", do="use --runtime litert")
    try:
        import scipy  # noqa: F401  (asked for here so that its absence is told before the work)

        from benchmarks.scoring import FileScorer
    except ImportError as error:
        raise MissingError(f"evaluation needs {error.name}", do="run `pip install 'hyperverify[eval]'`") from error
    if plot:
        from benchmarks.plots import check_plotting

        check_plotting(plot)
    h = Generator(generator or SHIPPED)
    return h, FileScorer(h.info.spec, precision, name)


def _load(h: Generator, faces: Path, split: str, backbone: Path | None, threads: int) -> FaceSet:
    from models.backbone import load_backbone
    from models.faceset import load_faces

    note(f"templates come from {h.info.backbone}; they are computed once and cached")
    return load_faces([faces], split, h.info.spec.input_px, load_backbone(h.info.backbone, backbone, threads))


def _provenance(h: Generator, scorer: FileScorer, faces: Path) -> dict[str, Any]:
    return {
        "generator": {"version": h.info.version, "sha256": h.sha256},
        "precision": scorer.precision,
        "runtime": scorer.runtime,
        "faces": faces.name,
    }


def _plots(sides: Any, title: str, folder: Path, stem: str) -> list[str]:
    from benchmarks.plots import plot_det, plot_histogram

    files = [folder / f"{stem}-det.png", folder / f"{stem}-scores.png"]
    plot_det(sides, title, files[0])
    plot_histogram(sides, title, files[1])
    return [str(file) for file in files]


def _percent(rate: dict[str, Any]) -> str:
    return f"{rate['rate']:.2%} [{rate['low']:.2%}, {rate['high']:.2%}]"


def _pairs_table(result: dict[str, Any]) -> str:
    rows = []
    for side in ("one_sided", "both_sides"):
        r = result[side]
        accuracy = f"{r['accuracy']:.2%} ± {r['standard_error']:.2%}" if "accuracy" in r else "–"
        fnmr = [_percent(r["at_fmr"][n]["fnmr"]) if n in r["at_fmr"] else "–" for n in ("fmr1e-2", "fmr1e-3")]
        rows.append((side, accuracy, f"{r['eer']:.2%}", *fnmr))
    counts = result["one_sided"]
    trials = f"{counts['genuine_pairs']} genuine and {counts['impostor_pairs']} impostor pairs"
    head = f"{result['precision']} files in {result['runtime']}, {trials}"
    return head + "\n" + table(rows, ("", "accuracy", "EER", "FNMR at FMR 1e-2", "FNMR at FMR 1e-3"))


def _household_table(result: dict[str, Any]) -> str:
    rows = []
    for photos, r in result["enrolment_photos"].items():
        for name, at in r["at_fmr"].items():
            shipped = r["at_shipped_threshold"].get(name)
            rows.append((photos, name, _percent(at["fnmr"]), str(r["genuine_pairs"]), str(r["impostor_pairs"]),
                         _percent(shipped["fmr"]) if shipped else "–"))  # fmt: skip
    head = f"{result['precision']} files in {result['runtime']}, {result['faces']}"
    return head + "\n" + table(rows, ("photos", "at", "FNMR", "genuine", "impostor", "FMR at the shipped threshold"))
