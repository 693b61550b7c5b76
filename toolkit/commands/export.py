"""`toolkit export`: one model file out of a bundle, or the verifier as C source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.commands.options import Bundle, Json
from toolkit.errors import MissingError, UsageError
from toolkit.output import emit

if TYPE_CHECKING:
    import numpy as np

    from export.manifest import Bundle as OpenedBundle

FILES = {
    "onnx": ("onnx", "fp32"),
    "onnx-int8": ("onnx", "int8"),
    "tflite": ("tflite", "fp32"),
    "tflite-int8": ("tflite", "int8"),
}
SOURCES = {"c": "int8", "c-fp32": "fp32"}
PIXELS = "tflite-uint8"
FORMATS = (*FILES, PIXELS, *SOURCES)


def export(
    bundle: Bundle,
    format_: Annotated[str, typer.Option("--format", "-f", help=", ".join(FORMATS))] = "tflite-int8",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write, for C the folder; default: the bundle's name for it."),
    ] = None,
    json: Json = False,
) -> None:
    """Write one model file from a bundle, checked against the manifest, or verifier.h and verifier.c.

    tflite-uint8 is tflite-int8 with the pixels themselves as its input; bundles do not carry it.

    What is written is 0600: a verifier's weights are the biometric template.
    """
    from export.manifest import open_bundle
    from toolkit.atomic import write_atomically

    if format_ not in FORMATS:
        raise UsageError("unknown format", got=format_, expected=", ".join(FORMATS))
    opened = open_bundle(bundle)
    write = _sources if format_ in SOURCES else _pixels if format_ == PIXELS else _file
    files = write(opened, format_, out)
    for path, data in files.items():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, data)
    rows = [{"file": str(path), "format": format_, "bytes": len(data)} for path, data in files.items()]
    emit({"files": rows}, json, lambda: "\n".join(f"{row['file']}: {row['bytes']} bytes" for row in rows))


def _file(opened: OpenedBundle, format_: str, out: Path | None) -> dict[Path, bytes]:
    from export.manifest import MODELS

    file = MODELS[FILES[format_]]
    return {out or Path(f"{opened.name}.{file.removeprefix('model.')}"): opened.read(file)}


def _pixels(opened: OpenedBundle, format_: str, out: Path | None) -> dict[Path, bytes]:
    from export.bundle import write_model

    theta = _theta(opened, format_)
    return {out or Path(f"{opened.name}.uint8.tflite"): write_model(opened.spec, theta, "tflite", "uint8")}


def _sources(opened: OpenedBundle, format_: str, out: Path | None) -> dict[Path, bytes]:
    from export.c_writer import write_c

    theta = _theta(opened, format_)
    thresholds = {name: float(point["threshold"]) for name, point in opened.manifest["operating_points"].items()}
    folder = out or Path(f"{opened.name}-{format_}")
    return {folder / name: data for name, data in write_c(opened.spec, theta, SOURCES[format_], thresholds).items()}


def _theta(opened: OpenedBundle, format_: str) -> np.ndarray:
    """The weights in the bundle's fp32 ONNX file. Raises MissingError, ArtifactError."""
    from export.manifest import MODELS

    try:
        from export.onnx_writer import read_theta
    except ImportError as error:
        raise MissingError(
            f"writing {format_} needs {error.name}",
            do="run `pip install 'hyperverify[enroll]'` or use the files in the bundle",
        ) from error
    return read_theta(opened.spec, opened.read(MODELS["onnx", "fp32"]))
