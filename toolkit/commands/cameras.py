"""`toolkit cameras`: which cameras this machine has, and in which modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.commands.options import Json
from toolkit.errors import MissingError
from toolkit.output import emit, table

if TYPE_CHECKING:
    from device.sources.v4l2 import CameraInfo


def cameras(json: Json = False) -> None:
    """List cameras and their modes: V4L2 devices, and a Raspberry Pi's own by picamera2 where that is installed.

    The first column is what `toolkit run --source` takes. Exit code 3 when there is none.
    """
    from device.sources.captures import picameras
    from device.sources.v4l2 import list_cameras

    found = [*picameras(), *list_cameras()]
    if not found:
        raise MissingError("no camera found", do="connect one, or run on a video file or a folder of photos")
    emit({"cameras": [_row(info) for info in found]}, json, lambda: _human(found))


def _row(info: CameraInfo) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(info) | {"problem": info.problem or None}


def _human(found: list[CameraInfo]) -> str:
    from device.sources import FAULTS

    rows = []
    for info in found:
        modes = info.modes or (None,)
        for number, mode in enumerate(modes):
            head = (info.source, FAULTS[info.problem] if info.problem else info.name) if not number else ("", "")
            size = f"{mode.width_px}×{mode.height_px}" if mode else ""
            rates = " ".join(f"{rate:g}" for rate in mode.fps) if mode else ""
            rows.append((*head, mode.pixels if mode else "", size, rates))
    return table(rows, ("source", "camera", "pixels", "size", "frames a second"))
