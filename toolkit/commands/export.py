"""`toolkit export`: one model file out of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import Bundle, Json
from toolkit.errors import UsageError
from toolkit.output import emit

FORMATS = {
    "onnx": ("onnx", "fp32"),
    "onnx-int8": ("onnx", "int8"),
    "tflite": ("tflite", "fp32"),
    "tflite-int8": ("tflite", "int8"),
}


def export(
    bundle: Bundle,
    format_: Annotated[str, typer.Option("--format", "-f", help=", ".join(FORMATS))] = "tflite-int8",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default: the bundle's name for it.")
    ] = None,
    json: Json = False,
) -> None:
    """Write one model file from a bundle, checked against the manifest.

    The file is written 0600: a verifier's weights are the biometric template.
    """
    from export.manifest import MODELS, open_bundle
    from toolkit.atomic import write_atomically

    if format_ not in FORMATS:
        raise UsageError("unknown format", got=format_, expected=", ".join(FORMATS))
    opened = open_bundle(bundle)
    kind, precision = FORMATS[format_]
    data = opened.read(MODELS[kind, precision])
    path = out or Path(f"{opened.name}.{MODELS[kind, precision].removeprefix('model.')}")
    write_atomically(path, data)
    emit({"file": str(path), "format": format_, "bytes": len(data)}, json, lambda: f"{path}: {len(data)} bytes")
