"""`toolkit train`: from a configuration and faces to a generator."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.options import Json, Threads
from toolkit.errors import EXIT_INTERRUPTED, InputError, MissingError, UsageError
from toolkit.output import emit, note
from toolkit.progress import StepLine

if TYPE_CHECKING:
    from models.ablation import Variant
    from models.config import TrainConfig
    from models.distributed import Group
    from models.faceset import FaceSet
    from models.training import Trainer
    from models.validate import Validation


Config = Annotated[Path | None, typer.Option(help="The configuration, a TOML file.", show_default=False)]
Ablate = Annotated[
    Path | None, typer.Option(help="Train each variant of an ablation file instead, and compare them in a table.")
]
Data = Annotated[
    Path, typer.Option(envvar="HYPERVERIFY_DATA", help="The folder that the configuration's names are in.")
]
Out = Annotated[Path, typer.Option(help="Folder of the run: checkpoint, log, generator.")]
Start = Annotated[
    list[Path] | None,
    typer.Option(
        help="Begin with the network of another run: its checkpoint.pt, or a generator's h.onnx. Several times: with "
        "their mean."
    ),
]
Grow = Annotated[
    Path | None,
    typer.Option(
        help="Begin with what fits of a generator's h.onnx whose verifier has another form.", show_default=False
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start over instead of resuming a checkpoint.")]
Compile = Annotated[
    bool, typer.Option("--compile", help="Run the trunk through torch.compile: faster, needs a C++ compiler.")
]


def train(
    config: Config = None,
    ablate: Ablate = None,
    data: Data = Path(),
    out: Out = Path("run"),
    start: Start = None,
    grow: Grow = None,
    fresh: Fresh = False,
    compile_: Compile = False,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """Train the hypernetwork. Ctrl-C stops after the step and saves; the same command goes on from there.

    Writes OUT/h.onnx and OUT/h.json, which `toolkit enroll --generator` takes. With generator = "embedding",
    OUT/embedding.onnx, which `toolkit eval peers --embedding` takes. With --ablate, OUT/ablation.json, a table, a
    picture and a folder for each variant. Under torchrun, its processes share every batch. Needs 'hyperverify[train]'.
    """
    if (config is None) == (ablate is None):
        raise UsageError("train needs one of --config and --ablate", got="both" if config else "neither")
    if grow is not None and (start or ablate is not None or grow.suffix != ".onnx"):
        raise UsageError("--grow takes a generator's h.onnx, in the place of --start and without --ablate", got=grow)
    interrupted = _check_packages(threads)
    if ablate is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("--ablate is for one process", do="start it without torchrun")
    asked = Asked(data, out, start or [], grow, fresh, compile_, threads, json)
    try:
        if ablate is not None:
            _ablate(ablate, asked)
        elif config is not None:
            _train(config, asked)
    except interrupted:
        note(f"stopped; the same command{' without --fresh' if fresh else ''} goes on from {out}")
        raise typer.Exit(EXIT_INTERRUPTED) from None


@dataclass(frozen=True)
class Asked:
    """What one run and an ablation are told alike."""

    data: Path
    out: Path
    start: list[Path]
    grow: Path | None
    fresh: bool
    compiled: bool
    threads: int
    json: bool


def _train(config: Path, asked: Asked) -> None:
    from models.config import read_config
    from models.distributed import joined_processes

    settings = read_config(config)
    with joined_processes() as group:
        trainer = _prepared(settings, asked, group)
        validation = trainer.run(resume=not asked.fresh)
    if not group.first:
        return
    embedding = settings.generator == "embedding"
    finish, file = (_finish_embedding, "embedding.onnx") if embedding else (_finish, "h.onnx")
    result = finish(trainer, config.name, vars(validation), asked.out)
    emit(result, asked.json, lambda: f"{asked.out / file}: held-out EER {validation.eer:.2%}")


def _prepared(settings: TrainConfig, asked: Asked, group: Group) -> Trainer:
    faces, held_out = _load(settings, _paths(settings, asked.data), asked.threads)
    trainer = _trainer(settings, faces, held_out, asked.out, asked.compiled, group)
    if asked.grow:
        trainer.start_from(asked.grow, grow=True)
    elif asked.start:
        trainer.start_from(*asked.start)
    elif settings.shared_epochs == 0 and (asked.fresh or not trainer.checkpoint.is_file()):
        raise UsageError("shared_epochs is 0, so there is nothing to start from", do="pass --start CHECKPOINT")
    blends = f" and {faces.blends} blends" if faces.blends else ""
    note(f"{len(faces.photos)} faces{blends} to train on, {len(held_out)} held out; run folder {asked.out}")
    return trainer


def _ablate(file: Path, asked: Asked) -> None:
    from benchmarks.plots import plot_ablation
    from models.ablation import read_ablation, run_ablation, table
    from models.facemap import sources_key
    from models.files import sha256_of

    variants = read_ablation(file)
    loaded: dict[tuple[Any, ...], tuple[FaceSet, FaceSet]] = {}  # the last variant's faces: most share them

    def train_one(variant: Variant, folder: Path) -> tuple[Validation, int]:
        settings = variant.config
        key = (settings.faces, settings.held_out_share, settings.blends, settings.verifier.framing, settings.backbone)
        if key not in loaded:
            loaded.clear()
            loaded[key] = _load(settings, _paths(settings, asked.data), asked.threads)
        faces, held_out = loaded[key]
        note(f"variant {variant.name}: {settings.verifier.params} parameters, run folder {folder}")
        trainer = _trainer(settings, faces, held_out, folder, asked.compiled, validations=0)
        if asked.start:
            trainer.start_from(*asked.start)
        shown = settings.personal_steps * settings.users * (settings.genuine + settings.impostors)
        return trainer.run(resume=not asked.fresh), round(settings.shared_epochs * len(faces)) + shown

    if not asked.start and not all(variant.config.shared_epochs for variant in variants):
        raise UsageError("shared_epochs is 0, so there is nothing to start from", do="pass --start CHECKPOINT")
    beginning = "".join(sha256_of(path) for path in asked.start if path.is_file())

    def of_what(variant: Variant) -> str:
        return beginning + sources_key(_paths(variant.config, asked.data))

    results = run_ablation(variants, asked.out, train_one, asked.fresh, of_what)
    if find_spec("matplotlib") is None:
        note(f"no {asked.out / 'ablation.png'}: plots need `pip install 'hyperverify[eval]'`")
    else:
        plot_ablation(results, f"{file.stem}, held-out people", asked.out / "ablation.png")
    emit({"variants": results}, asked.json, lambda: table(results))


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
    from models.facemap import map_faces

    backbone = load_backbone(settings.backbone, threads=threads)
    found = map_faces(paths, settings.verifier.framing, backbone, settings.held_out_share, settings.blends)
    if not can_enrol(found.held_out, 1):
        raise InputError("the held-out faces cannot set thresholds", expected="two people with two photos in `val`",
                         do="set held_out_share where the sets have no splits")  # fmt: skip
    note(f"{found.left_out} unknown faces left out: they may show held-out people")
    return found.train, found.held_out


def _trainer(
    settings: TrainConfig,
    faces: FaceSet,
    held_out: FaceSet,
    out: Path,
    compiled: bool,
    group: Group | None = None,
    validations: int | None = None,
) -> Trainer:
    from models.embedding import EmbeddingTrainer
    from models.training import ALONE, VALIDATIONS, Trainer

    group = group or ALONE
    if settings.generator == "embedding" and group.size > 1:
        raise UsageError("an embedding network is trained by one process", got=group.size)
    kind = EmbeddingTrainer if settings.generator == "embedding" else Trainer
    number = VALIDATIONS if validations is None else validations
    return kind(settings, faces, held_out, out, StepLine(), compiled, group, number)


def _about(trainer: Trainer, config: str, validation: dict[str, Any]) -> dict[str, Any]:
    """What was trained on what, and how well it did."""
    identity = trainer.train.identity
    return {
        "configuration": config,
        "configuration_hash": trainer.config.hash,
        "cohort_targets": trainer.config.cohort_targets,
        "faces": len(trainer.train.photos),
        "blends": trainer.train.blends,
        "identities": int(identity.max(initial=-1)) + 1,
        "held_out_faces": len(trainer.held_out),
        "held_out_share": trainer.config.held_out_share,
        "validation": validation,
    }


def _finish_embedding(trainer: Trainer, config: str, validation: dict[str, Any], out: Path) -> dict[str, Any]:
    from benchmarks.tiny_embedding import write_embedding
    from toolkit.atomic import write_atomically

    epochs = {"epochs": trainer.config.shared_epochs, "start_steps": trainer.start_steps or 0}
    about = _about(trainer, config, validation) | epochs
    network = trainer.averaged
    data = write_embedding(network.spec, network.trunk.fold().detach().numpy(), about)
    write_atomically(out / "embedding.onnx", data, mode=0o644)
    return about


def _finish(trainer: Trainer, config: str, validation: dict[str, Any], out: Path) -> dict[str, Any]:
    """Write the generator and its operating points."""
    from benchmarks.calibration import calibrate, finished
    from models.h_onnx import write_generator
    from toolkit.atomic import write_atomically

    settings, spec = trainer.config, trainer.network.spec
    training = _about(trainer, config, validation) | trainer.fit_int8()
    plain, kind = write_generator(trainer.averaged), (settings.generator, settings.backbone, spec)
    write_atomically(out / "h.onnx", finished(plain, *kind, trainer.train.photos, settings.seed), mode=0o644)
    return calibrate(out / "h.onnx", *kind, training, trainer.held_out)
