"""`toolkit enroll`: photos of one person to that person's bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.commands.options import GeneratorFile, Json, Threads
from toolkit.errors import ArtifactError, MissingError, UsageError
from toolkit.output import emit, note
from toolkit.progress import track
from toolkit.refiner import BankFile, load_refiner

if TYPE_CHECKING:
    import numpy as np

    from export.bundle import BundleContent
    from models.enrolment import Enrolment
    from models.generator import Generator
    from models.refine import Refinement
    from toolkit.refiner import Refiner


Name = Annotated[str, typer.Argument(help="Whose photos these are; the bundle is NAME.hvb.", show_default=False)]
Photos = Annotated[list[str], typer.Argument(help="Photo files, folders or patterns.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Folder to put the bundle in.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace an existing bundle of that name.")]
BackboneFile = Annotated[
    Path | None, typer.Option("--backbone", help="The backbone's file, or the folder of its files; default: found.")
]
DetectorFile = Annotated[Path | None, typer.Option("--detector", help="YuNet's file; default: found by itself.")]


def enroll(
    name: Name,
    photos: Photos,
    out: Out = Path(),
    replace: Replace = False,
    generator: GeneratorFile = None,
    backbone: BackboneFile = None,
    detector: DetectorFile = None,
    refine: BankFile = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Enrol a person from one or more photos: write NAME.hvb, the verifier that knows only that person.

    Each photo that cannot be used is named with its reason. Exit code 4 if none is left. With --refine the verifier
    also learns from what it sees in two photos or more, against a bank of strangers; not if photos kept apart lose.
    """
    from export.bundle import write_bundle
    from export.manifest import check_name

    path = out / f"{check_name(name)}.hvb"
    _check_target(path, replace)
    _check_packages()
    from models.enrolment import find_photos
    from models.files import find_model
    from models.fold import detector_file
    from models.generator import SHIPPED, Generator

    files = find_photos(photos)
    h = Generator(generator or SHIPPED)
    refiner = load_refiner(h, refine)
    detector_bytes = detector_file(find_model("yunet", detector))
    enrolment = _enrol(files, h, detector_bytes, backbone, threads)
    refinement = _refine(enrolment, refiner) if refiner else None
    theta = refinement.theta if refinement else h.weights(enrolment.template[None])[0]
    content = content_of(name, h, theta, enrolment.accepted, detector_bytes, refinement)
    write_bundle(content, path, replace=replace)
    _report(path, enrolment, content, refinement, json)


def _report(
    path: Path, enrolment: Enrolment, content: BundleContent, refinement: Refinement | None, as_json: bool
) -> None:
    for photo in enrolment.photos:
        if photo.reason:
            note(f"not used: {photo.file}: {photo.message}")
    used, spec = enrolment.accepted, content.spec
    result = {
        "bundle": str(path),
        "photos_used": used,
        "photos": [{"file": p.file, "used": not p.reason, "reason": p.reason or None} for p in enrolment.photos],
        "params": spec.params,
        "operating_points": content.operating_points,
        "refinement": refinement.to_dict() if refinement else None,
    }
    if refinement:
        note(refinement.sentence())
    size = f"{spec.params} parameters, {spec.flops / 1e6:.2f} MFLOPs"
    emit(result, as_json, lambda: f"{path}: {used} of {len(enrolment.photos)} photos used, {size}")


def _enrol(files: list[Path], h: Generator, detector: bytes, backbone: Path | None, threads: int) -> Enrolment:
    """Raises ArtifactError when the backbone is not the one that the generator was trained with."""
    from models.backbone import load_backbone
    from models.enrolment import Enroller

    network = load_backbone(h.info.backbone, backbone, threads)
    if network.sha256 != h.info.backbone_sha256:
        raise ArtifactError(f"the generator was trained with another {h.info.backbone}", do="use matching files")
    return Enroller(detector, network, h.info.spec.framing).enrol(track(files, "photos", len(files)))


def _refine(enrolment: Enrolment, refiner: Refiner) -> Refinement:
    note("refining, some seconds")
    return refiner(*enrolment.used())


def _check_target(path: Path, replace: bool) -> None:
    """Refuse before the work, not after it."""
    if path.exists() and not replace:
        raise UsageError(f"{path} exists already", do="choose another name or pass --replace")


def _check_packages() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("cv2", "onnx", "onnxruntime", "ai_edge_litert") if find_spec(name) is None]
    if missing:
        raise MissingError(f"enrolment needs {', '.join(missing)}", do="run `pip install 'hyperverify[enroll]'`")


def content_of(
    name: str, h: Generator, theta: np.ndarray, accepted: int, detector: bytes, refinement: Refinement | None = None
) -> BundleContent:
    """A bundle's content for θ [P] of a template that `accepted` photos were fused to."""
    from export.bundle import BundleContent
    from models.files import MODEL_FILES

    photos, points = h.info.points_for(accepted)
    yunet = MODEL_FILES["yunet"]
    return BundleContent(
        name=name,
        spec=h.info.spec,
        theta=theta,
        generator={
            "version": h.info.version,
            "sha256": h.sha256,
            "backbone": h.info.backbone,
            "backbone_sha256": h.info.backbone_sha256,
            **({"refinement": refinement.to_dict()} if refinement else {}),
        },
        templates=accepted,
        operating_points={name: vars(point) for name, point in points.items()},
        operating_points_photos=photos,
        visits=h.info.visits_for(accepted),
        detector=detector,
        detector_origin={"name": yunet.name, "sha256": yunet.sha256, "licence": yunet.licence},
    )
