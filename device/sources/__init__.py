"""Where frames come from: cameras that may vanish, videos, folders of photos, all behind one context manager."""

from __future__ import annotations

from pathlib import Path

from device.sources.base import FAULTS, Frame, Outage, Source
from device.sources.camera import Camera, CameraTiming, Capture
from device.sources.captures import OpenCvCapture, PicameraCapture
from device.sources.files import FolderSource, VideoSource
from toolkit.errors import UsageError

__all__ = ["FAULTS", "Camera", "CameraTiming", "Frame", "Outage", "Source", "open_source"]

STREAMS = ("rtsp://", "rtsps://", "http://", "https://")
EXPECTED = "a camera index, /dev/videoN, picamera, rtsp://…, a video file or a folder of photos"


def open_source(
    where: str, *, size_px: tuple[int, int] = (640, 480), fps: float = 15.0, patient: bool = False
) -> Source:
    """A source by its name. `size_px` (width, height) and `fps` are asked of cameras.

    A `patient` camera waits for a device that is not there yet; another raises MissingError when it is first read.
    Raises UsageError, InputError.
    """
    path = Path(where)
    if capture := _capture(where, size_px, fps):
        return Camera(capture, CameraTiming(), patient=patient)
    if path.is_dir():
        return FolderSource(path)
    if path.is_file():
        return VideoSource(path)
    raise UsageError(f"no such source: {where}", expected=EXPECTED)


def _capture(where: str, size_px: tuple[int, int], fps: float) -> Capture | None:
    """The camera that `where` names, or None when it names none. Nothing is opened yet."""
    name = where.removeprefix("/dev/video")
    if name.isdecimal() and len(name) <= 3:
        return OpenCvCapture(f"/dev/video{int(name)}", size_px, fps)
    if where.startswith(STREAMS):
        return OpenCvCapture(where, size_px, fps)
    if where == "picamera" or (where.startswith("picamera:") and where.removeprefix("picamera:").isdecimal()):
        return PicameraCapture(int(where.partition(":")[2] or 0), size_px, fps)
    return None
