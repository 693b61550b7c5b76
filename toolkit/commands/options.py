"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Threads = Annotated[int, typer.Option(min=1, max=64, help="CPU threads.")]
Bundle = Annotated[Path, typer.Argument(help="A bundle folder, NAME.hvb.", show_default=False)]
GeneratorFile = Annotated[
    Path | None, typer.Option("--generator", help="A generator's .onnx file; default: the shipped one.")
]
RuntimeName = Annotated[
    str,
    typer.Option("--runtime", help="onnxruntime, litert, tflite-runtime, c (compiled here), or auto: the first found."),
]
Precision = Annotated[str, typer.Option(help="int8 or fp32.")]
Point = Annotated[str, typer.Option("--operating-point", help="fmr1e-2, fmr1e-3 or fmr1e-4.")]
Faces = Annotated[
    Path,
    typer.Option(
        "--faces", help="Aligned crops: Parquet, .rec, .tar or .bin, or a folder with one sub-folder a person."
    ),
]
Plain = Annotated[
    bool, typer.Option("--plain", help="Neither sign nor seal; only devices provisioned --development take that.")
]
