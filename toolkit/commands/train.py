"""`toolkit train`: from a configuration and faces to a generator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.options import Json, Threads
from toolkit.errors import EXIT_INTERRUPTED, InputError, MissingError, UsageError
from toolkit.output import emit, note
from toolkit.progress import StepLine

if TYPE_CHECKING:
    from models.config import TrainConfig
    from models.faceset import FaceSet
    from models.training import Trainer


Config = Annotated[Path, typer.Option(help="The configuration, a TOML file.", show_default=False)]
Data = Annotated[
    Path, typer.Option(envvar="HYPERVERIFY_DATA", help="The folder that the configuration's names are in.")
]
Out = Annotated[Path, typer.Option(help="Folder of the run: checkpoint, log, generator.")]
Start = Annotated[Path | None, typer.Option(help="Begin with the network of another run: its checkpoint.pt.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start over instead of resuming a checkpoint.")]
Compile = Annotated[
    bool, typer.Option("--compile", help="Run the trunk through torch.compile: faster, needs a C++ compiler.")
]


def train(
    config: Config,
    data: Data = Path(),
    out: Out = Path("run"),
    start: Start = None,
    fresh: Fresh = False,
    compile_: Compile = False,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """Train the hypernetwork. Ctrl-C stops after the step and saves; the same command goes on from there.

    Writes OUT/h.onnx and OUT/h.json, which `toolkit enroll --generator` takes. Needs 'hyperverify[train]'.
    """
    interrupted = _check_packages(threads)
    from models.config import read_config

    settings = read_config(config)
    paths = _paths(settings, data)
    faces, held_out = _load(settings, paths, threads)
    trainer = _trainer(settings, faces, held_out, out, compile_)
    if start is not None:
        trainer.start_from(start)
    elif settings.shared_epochs == 0 and not trainer.checkpoint.is_file():
        raise UsageError("shared_epochs is 0, so there is nothing to start from", do="pass --start CHECKPOINT")
    note(f"{len(faces)} faces to train on, {len(held_out)} held out; run folder {out}")
    try:
        validation = trainer.run(resume=not fresh)
    except interrupted:
        note(f"stopped; the same command goes on from {trainer.checkpoint}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    result = _finish(trainer, paths, config.name, vars(validation), out)
    emit(result, json, lambda: f"{out / 'h.onnx'}: held-out EER {validation.eer:.2%}")


def _check_packages(threads: int) -> type[Exception]:
    """The exception that a stopped run raises. Raises MissingError."""
    try:
        import torch

        from models.training import Interrupted
    except ImportError as error:
        what = f"training needs {error.name}"
        raise MissingError(what, do="run `pip install 'hyperverify[train]'`") from error
    torch.set_num_threads(threads)
    return Interrupted


def _paths(settings: TrainConfig, data: Path) -> list[Path]:
    paths = [data / name for name in settings.faces]
    missing = [str(p) for p in paths if not p.exists()]
    if missing:
        raise UsageError(f"no such data: {', '.join(missing)}", do="pass --data or set HYPERVERIFY_DATA")
    return paths


def _load(settings: TrainConfig, paths: list[Path], threads: int) -> tuple[FaceSet, FaceSet]:
    """Training and held-out faces. Raises InputError when the latter cannot judge a run or set thresholds."""
    from benchmarks.household import can_enrol
    from models.backbone import load_backbone
    from models.faceset import load_faces, without_lookalikes
    from models.spec import DEFAULT_SPEC

    backbone = load_backbone(settings.backbone, threads=threads)
    side = DEFAULT_SPEC.input_px
    held_out = load_faces(paths, "val", side, backbone)
    if not can_enrol(held_out, 1):
        raise InputError("the held-out faces cannot set thresholds", expected="two people with two photos in `val`")
    every = load_faces(paths, "train", side, backbone)
    faces = without_lookalikes(every, held_out, backbone.name)
    note(f"{len(every) - len(faces)} unknown faces left out: they may show held-out people")
    return faces, held_out


def _trainer(settings: TrainConfig, faces: FaceSet, held_out: FaceSet, out: Path, compiled: bool) -> Trainer:
    from models.training import Trainer

    return Trainer(settings, faces, held_out, out, StepLine(), compiled)


def _finish(trainer: Trainer, paths: list[Path], config: str, validation: dict[str, Any], out: Path) -> dict[str, Any]:
    """Write the generator and its operating points."""
    from benchmarks.calibration import calibrate
    from models.h_onnx import write_generator
    from toolkit.atomic import write_atomically

    settings = trainer.config
    identity = trainer.train.identity
    training = {
        "configuration": config,
        "configuration_hash": settings.hash,
        "faces": len(trainer.train),
        "identities": len(set(identity[identity >= 0].tolist())),
        "held_out_faces": len(trainer.held_out),
        "validation": validation,
        "score_factor": trainer.fit_score_range(),
    }
    write_atomically(out / "h.onnx", write_generator(trainer.averaged), mode=0o644)
    return calibrate(out / "h.onnx", settings.generator, settings.backbone, trainer.network.spec, training, paths)
