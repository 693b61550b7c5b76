"""What cameras there are and which modes they have, asked of the kernel (linux/videodev2.h)."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# From linux/videodev2.h: request numbers and layouts are part of the kernel's stable interface, and a test compares
# them with the header.
QUERYCAP, ENUM_FMT, ENUM_FRAMESIZES, ENUM_FRAMEINTERVALS = 0x80685600, 0xC0405602, 0xC02C564A, 0xC034564B
CAPABILITY = struct.Struct("16s32s32sIII12x")
FORMAT = struct.Struct("III32s4sI12x")
FRAME_SIZE = struct.Struct("IIIII16x8x")
FRAME_INTERVAL = struct.Struct("IIIIIII16x8x")
CAPTURE_TYPE = 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE
CAP_VIDEO_CAPTURE, CAP_STREAMING, CAP_DEVICE_CAPS = 0x1, 0x04000000, 0x80000000
DISCRETE = 1
MOST = 64  # entries asked of a list; a driver that never ends its list would hold us for ever


@dataclass(frozen=True)
class Mode:
    """A pixel format and a size, with the frame rates it has (none when the driver gives a range)."""

    pixels: str
    width_px: int
    height_px: int
    fps: tuple[float, ...] = ()


@dataclass(frozen=True)
class CameraInfo:
    """One device. `problem` is a name of FAULTS when it cannot be asked."""

    source: str
    name: str
    problem: str = ""
    modes: tuple[Mode, ...] = field(default=())


def list_cameras(folder: Path = Path("/dev")) -> list[CameraInfo]:
    """Cameras of V4L2, in order of their numbers; metadata and encoder nodes are left out."""
    nodes = sorted(
        (p for p in folder.glob("video*") if p.name.removeprefix("video").isdecimal()), key=lambda p: int(p.name[5:])
    )
    return [info for node in nodes if (info := _examine(node))]


def _examine(node: Path) -> CameraInfo | None:
    try:
        handle = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    except PermissionError:
        return CameraInfo(str(node), "", "permission")
    except OSError:
        return CameraInfo(str(node), "", "missing")
    try:
        _, card, _, _, everything, here = CAPABILITY.unpack(_ask(handle, QUERYCAP, bytes(CAPABILITY.size)))
        abilities = here if everything & CAP_DEVICE_CAPS else everything
        if not abilities & CAP_VIDEO_CAPTURE or not abilities & CAP_STREAMING:
            return None
        return CameraInfo(str(node), _text(card), "", tuple(_modes(handle)))
    except OSError:
        return None  # not a V4L2 device
    finally:
        os.close(handle)


def _modes(handle: int) -> Iterator[Mode]:
    for number in range(MOST):
        request = FORMAT.pack(number, CAPTURE_TYPE, 0, b"", b"", 0)
        if (answer := _maybe(handle, ENUM_FMT, request)) is None:
            return
        code = FORMAT.unpack(answer)[4]
        pixels = int.from_bytes(code, "little")
        for width, height in _sizes(handle, pixels):
            yield Mode(_text(code), width, height, tuple(_rates(handle, pixels, width, height)))


def _sizes(handle: int, pixels: int) -> Iterator[tuple[int, int]]:
    for number in range(MOST):
        answer = _maybe(handle, ENUM_FRAMESIZES, FRAME_SIZE.pack(number, pixels, 0, 0, 0))
        if answer is None:
            return
        _, _, kind, width, height = FRAME_SIZE.unpack(answer)
        if kind != DISCRETE:
            return  # a range: the driver scales to what it is asked for
        yield width, height


def _rates(handle: int, pixels: int, width: int, height: int) -> Iterator[float]:
    for number in range(MOST):
        request = FRAME_INTERVAL.pack(number, pixels, width, height, 0, 0, 0)
        answer = _maybe(handle, ENUM_FRAMEINTERVALS, request)
        if answer is None:
            return
        *_, kind, numerator, denominator = FRAME_INTERVAL.unpack(answer)
        if kind != DISCRETE or not numerator:
            return
        yield round(denominator / numerator, 2)


def _ask(handle: int, request: int, argument: bytes) -> bytes:
    return fcntl.ioctl(handle, request, argument)


def _maybe(handle: int, request: int, argument: bytes) -> bytes | None:
    """The answer, or None where the list ends."""
    try:
        return _ask(handle, request, argument)
    except OSError:
        return None


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("ascii", "replace").strip()
