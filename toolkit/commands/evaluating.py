"""What the commands of `toolkit eval` share: options, preparation, and where a result came from."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.errors import MissingError, UsageError
from toolkit.output import command_line, note

if TYPE_CHECKING:
    from benchmarks.enrolling import Enrol
    from benchmarks.scoring import FileScorer
    from models.faceset import FaceSet
    from models.generator import Generator
    from toolkit.refiner import Refiner

EvalPrecision = Annotated[str, typer.Option("--precision", help="Which file is evaluated: fp32 or int8.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Folder for the DET curve and the score histogram (PNG).")]
BackboneFile = Annotated[
    Path | None, typer.Option("--backbone", help="The backbone's file, or the folder of its files; default: found.")
]
EnrolCounts = Annotated[str, typer.Option("--enrol", help="Numbers of enrolment photos, with commas.")]
Split = Annotated[str, typer.Option(help="Only this split of the file, where it has splits; empty: all.")]
PairList = Annotated[
    Path | None,
    typer.Option("--pairs", help="LFW's list, or lines `photo photo 0|1`; a .bin pack brings its own."),
]


def check_pairs(faces: Path, pairs: Path | None) -> None:
    """Raises UsageError unless there is one list of pairs."""
    pack = faces.suffix.lower() == ".bin"
    if pack == (pairs is not None):
        what = "a .bin pack brings its own pairs" if pack else "--pairs is missing"
        raise UsageError(what, do="leave --pairs out" if pack else "name a pair list")


def check_one_source(faces: Path) -> None:
    """Raises UsageError for a folder of packed files, whose crops are not read as one."""
    from models.facestream import packed_files

    if faces.is_dir() and packed_files(faces):
        raise UsageError(
            f"{faces} holds several files of crops", expected="one file, or a folder with one sub-folder a person"
        )


def counts(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError("--enrol is not a list of photo counts", got=text, expected="numbers such as 1,3,5")
    return [int(word) for word in words]


def prepare(
    generator: Path | None, precision: str, runtime: str, plot: Path | None
) -> tuple[Generator, Enrol, FileScorer]:
    """The generator, the way to enrol with it, and what scores. Raises UsageError or MissingError before any work."""
    from device.runtimes import check_precision, choose_runtime
    from models.generator import SHIPPED, Generator

    check_precision(name := choose_runtime(runtime), precision)
    if name == "c":
        raise UsageError("evaluation writes too many verifiers to compile each", do="use --runtime litert")
    check_packages()
    from benchmarks.enrolling import Generated
    from benchmarks.scoring import FileScorer

    if plot:
        from benchmarks.plots import check_plotting

        check_plotting(plot)
    h = Generator(generator or SHIPPED)
    return h, Generated(h), FileScorer(h.info.spec, precision, name)


def refined_or_generated(h: Generator, refiner: Refiner | None, plain_mean: bool) -> Enrol:
    """The way of `household` to enrol: with a refiner, else with h alone."""
    from benchmarks.enrolling import Generated, Refined

    return Refined(refiner) if refiner else Generated(h, weighted=not plain_mean)


def check_packages() -> None:
    """Their absence is told before the work."""
    try:
        import onnx  # noqa: F401
        import scipy  # noqa: F401
    except ImportError as error:
        raise MissingError(f"evaluation needs {error.name}", do="run `pip install 'hyperverify[eval]'`") from error


def load(h: Generator, faces: Path, split: str, backbone: Path | None, threads: int) -> FaceSet:
    from models.backbone import load_backbone
    from models.faceset import load_faces

    note(f"templates come from {h.info.backbone}; they are computed once and cached")
    return load_faces([faces], split, h.info.spec.framing, load_backbone(h.info.backbone, backbone, threads))


def provenance(kind: str, h: Generator, enrol: Enrol, scorer: FileScorer, faces: Path) -> dict[str, Any]:
    """Where a result came from."""
    facts = generator_facts(kind, h, enrol, scorer)
    return {**facts, "faces": faces.name, "faces_sha256": _digest(faces)}


def generator_facts(kind: str, h: Generator, enrol: Enrol, scorer: FileScorer) -> dict[str, Any]:
    """The part of it that knows nothing of the data."""
    from benchmarks.facts import packages
    from benchmarks.resampling import SEED

    return {
        "kind": kind,
        "command": command_line(),
        "seed": SEED,
        "generator": {"version": h.info.version, "sha256": h.sha256},
        "enrolment": enrol.method,
        "precision": scorer.precision,
        "runtime": scorer.runtime,
        "packages": packages(),
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


def plots(sides: Any, title: str, folder: Path, stem: str) -> list[str]:
    from benchmarks.plots import plot_det, plot_histogram

    files = [folder / f"{stem}-det.png", folder / f"{stem}-scores.png"]
    plot_det(sides, title, files[0])
    plot_histogram(sides, title, files[1])
    return [str(file) for file in files]
