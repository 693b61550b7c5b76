"""`toolkit wheelhouse`: every package that a device needs, in one folder, for devices without internet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import Json
from toolkit.output import emit

HERE = Path(__file__).parents[2]


def wheelhouse(
    target: Annotated[str, typer.Option(help="Board and Python: pi5-py311, pi4-py313, zero2w-py311, pc-py311, …")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to make.")],
    runtime: Annotated[str, typer.Option(help="litert or onnxruntime.")] = "litert",
    source: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The project's source tree; default: the one this runs from.")
    ] = HERE,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing wheelhouse.")] = False,
    json: Json = False,
) -> None:
    """Collect the device part and all it needs as wheels, pinned and hashed, for a device that is offline.

    The project's own wheel is built from the source tree; the others are fetched with pip for the target's machine and
    Python, at the versions of constraints.txt. `toolkit deploy --wheelhouse FOLDER` installs them.
    """
    from device.link.wheelhouse import build_wheelhouse

    house = build_wheelhouse(out, target, runtime, source, replace=replace)
    result = {"folder": str(out), "target": target, "id": house.id, "bytes": house.size_bytes,
              "files": [vars(file) for file in house.files]}  # fmt: skip
    emit(
        result,
        json,
        lambda: (
            f"{out}: {len(house.files)} files, {house.size_bytes / 1e6:.0f} MB, for {target}\n"
            f"next: toolkit deploy --wheelhouse {out} --to HOST"
        ),
    )
