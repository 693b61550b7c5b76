"""The drivers: V4L2 and RTSP by OpenCV, a Raspberry Pi's own camera by picamera2."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np

from device.sources.base import CameraError
from device.sources.v4l2 import CameraInfo

SMALL_PX = (320, 240)  # picamera2's second stream: what the detector wants
STREAM_TIMEOUT_MS = 5000


class OpenCvCapture:
    """A V4L2 device ("/dev/video0") or a stream ("rtsp://…")."""

    def __init__(self, address: str, size_px: tuple[int, int], fps: float):
        self.is_device = address.startswith("/dev/")
        # An address may hold a password: it is used, and never told.
        self.name = address if self.is_device else address.partition("://")[0] + " stream"
        self._address, self._size_px, self._fps = address, size_px, fps
        self._capture: Any = None

    def open(self) -> None:
        import cv2

        if self.is_device:
            check_device(Path(self._address))
            self._capture = cv2.VideoCapture(self._address, cv2.CAP_V4L2)
            for what, value in zip(
                (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS),
                (*self._size_px, self._fps),
                strict=True,
            ):
                self._capture.set(what, value)
        else:
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, STREAM_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
            self._capture = cv2.VideoCapture(self._address, cv2.CAP_FFMPEG, [*limits, STREAM_TIMEOUT_MS])
        if not self._capture.isOpened():
            raise CameraError("busy" if self.is_device else "unreachable")

    def read(self) -> tuple[np.ndarray, np.ndarray | None]:
        import cv2

        ok, bgr = self._capture.read()
        if not ok:
            raise CameraError("unplugged" if self.is_device else "unreachable")
        if bgr.ndim != 3:
            raise CameraError("format", f"{bgr.dtype} {bgr.shape}")
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)), None

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def check_device(path: Path) -> None:
    """Raises CameraError when the device node is missing, closed to this user, no camera, or in use."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        kinds = {errno.EACCES: "permission", errno.EPERM: "permission", errno.EBUSY: "busy"}
        raise CameraError(kinds.get(error.errno or 0, "missing"), os.strerror(error.errno or 0)) from error
    try:
        if not stat.S_ISCHR(os.fstat(handle).st_mode):
            raise CameraError("missing", "not a device")
    finally:
        os.close(handle)


class PicameraCapture:
    """A Raspberry Pi's camera: the main stream for crops, the sensor's second, small one for detection."""

    def __init__(self, number: int, size_px: tuple[int, int], fps: float):
        self.name = f"picamera {number}"
        self._number, self._size_px, self._fps = number, size_px, fps
        self._camera: Any = None

    def open(self) -> None:
        try:
            from picamera2 import Picamera2
        except ImportError as error:
            raise CameraError("package") from error
        try:
            self._camera = Picamera2(self._number)
        except IndexError as error:
            raise CameraError("missing") from error
        except RuntimeError as error:
            raise CameraError("busy", str(error)) from error
        # libcamera names formats by the order of bits: its BGR888 is R, G, B in memory.
        configuration = self._camera.create_video_configuration(
            main={"size": self._size_px, "format": "BGR888"},
            lores={"size": SMALL_PX, "format": "YUV420"},
            controls={"FrameRate": self._fps},
        )
        self._camera.configure(configuration)
        self._camera.start()

    def read(self) -> tuple[np.ndarray, np.ndarray | None]:
        import cv2

        request = self._camera.capture_request()
        try:
            rgb = np.ascontiguousarray(request.make_array("main"))
            planes = request.make_array("lores")  # Y, then U and V, each row padded
        finally:
            request.release()
        width, height = SMALL_PX
        small = cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420)[:height, :width]
        return rgb, np.ascontiguousarray(small)

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()
            self._camera = None


def picameras() -> list[CameraInfo]:
    """A Raspberry Pi's cameras; none where picamera2 is not installed."""
    try:
        from picamera2 import Picamera2
    except ImportError:
        return []
    found = Picamera2.global_camera_info()
    return [CameraInfo(f"picamera:{info['Num']}", str(info.get("Model", ""))) for info in found]
