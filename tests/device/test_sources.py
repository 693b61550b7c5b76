"""Where frames come from, and what becomes of cameras that fail."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from benchmarks import soak
from device.c_runtime import compiler
from device.sources import FAULTS, Camera, CameraTiming, Frame, Outage, open_source, v4l2
from device.sources.base import CameraError
from device.sources.captures import OpenCvCapture, PicameraCapture, check_device
from device.sources.scripted import ScriptedCapture, Step
from toolkit.errors import InputError, MissingError, UsageError

# As a camera's own, a thousand times faster.
FAST = CameraTiming(open_s=0.1, frame_s=0.05, still_s=0.03, first_retry_s=0.001, last_retry_s=0.002, tick_s=0.001)


def picture(number: int) -> np.ndarray:
    return np.full((48, 64, 3), number % 251, np.uint8)


def watch(steps: list[Step], timing: CameraTiming = FAST, interval_s: float = 0.001) -> tuple[list[str], list[float]]:
    """The outages, in order and each once, and the pictures' brightness until the script is over."""
    outages, seen = [], []
    capture = ScriptedCapture(picture, [*steps, ("frames", 3)], interval_s)
    with Camera(capture, timing, patient=True) as camera:
        for item in camera.frames():
            if isinstance(item, Frame):
                seen.append(float(item.rgb.mean()))
            elif not outages or (item.kind, item.attempts) != outages[-1]:
                outages.append((item.kind, item.attempts))
            if isinstance(item, Outage) and capture.opened > len(steps) + 1:
                camera.stop()
    return [kind for kind, _ in outages], seen


def test_a_video_gives_its_frames_in_order_and_time(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for level in (10, 120, 240):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    with open_source(str(path)) as source:
        frames = list(source.frames())
    assert [f.time_s for f in frames if isinstance(f, Frame)] == [0, 0.2, 0.4]
    assert [round(float(f.rgb.mean()), -1) for f in frames if isinstance(f, Frame)] == [10, 120, 240]


def test_a_folder_gives_its_photos_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1]))
    with open_source(str(tmp_path)) as source:
        assert source.single
        assert [f.name for f in source.frames() if isinstance(f, Frame)] == ["a.jpg", "b.png"]


def test_sources_that_cannot_be_used_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no photos"):
        open_source(str(tmp_path))
    (tmp_path / "v.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(InputError, match="not a readable video"):
        open_source(str(tmp_path / "v.mp4"))
    with pytest.raises(UsageError, match="no such source"):
        open_source("nowhere")
    with (
        open_source("97") as camera,
        pytest.raises(MissingError, match=r"camera /dev/video97 cannot be used.*connect it"),
    ):
        next(camera.frames())


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_each_fault_is_told_and_survived(fault: str) -> None:
    outages, seen = watch([("frames", 5), (fault, 0), ("frames", 5)])
    assert outages[0] == fault
    assert len(seen) > 5, "frames came again after the fault"


@pytest.mark.parametrize(
    ("step", "kind"),
    [(("still", 200), "frozen"), (("hang", 0.2), "frozen"), (("grey", 1), "format"), (("crash", 0), "unplugged")],
)
def test_what_a_driver_does_not_say_is_found_out(step: Step, kind: str) -> None:
    outages, seen = watch([("frames", 5), step, ("frames", 5)])
    assert outages[0] == kind
    assert len(seen) > 5


def test_only_the_newest_frame_is_kept() -> None:
    capture = ScriptedCapture(picture, [("frames", 1000)], interval_s=0.001)
    with Camera(capture, CameraTiming()) as camera:
        frames = camera.frames()
        next(frames)
        time.sleep(0.1)
        newest = next(frames)
        assert isinstance(newest, Frame)
        assert newest.rgb[0, 0, 0] > 10, "older frames are not worth a look"
        assert camera.dropped > 10


def test_a_camera_that_was_never_there_ends_an_impatient_run_only() -> None:
    with Camera(ScriptedCapture(picture, []), FAST) as camera, pytest.raises(MissingError, match="connect it"):
        next(camera.frames())
    with Camera(ScriptedCapture(picture, []), FAST, patient=True) as camera:
        frames = camera.frames()
        assert [next(frames).kind for _ in range(3)] == ["missing"] * 3  # type: ignore[union-attr]


def test_a_driver_that_hangs_again_and_again_ends_the_process_not_the_patience_of_people() -> None:
    timing = CameraTiming(open_s=0.02, frame_s=0.01, first_retry_s=0.001, last_retry_s=0.001, tick_s=0.001)
    capture = ScriptedCapture(picture, [("hang", 1.0)] * 9)
    with (
        Camera(capture, timing, patient=True) as camera,
        pytest.raises(MissingError, match="the driver of camera script hangs"),
    ):
        for _ in camera.frames():
            pass


def test_a_reader_that_was_left_behind_closes_its_own_camera_alone() -> None:
    handles: list[Handle] = []

    class Handle:
        closed = False

    class Slow:
        """Hangs in its first opening, and is opened again meanwhile."""

        name, handle = "slow", None

        def open(self) -> None:
            self.handle = Handle()
            handles.append(self.handle)

        def read(self) -> tuple[np.ndarray, None]:
            assert self.handle is not None
            if self.handle is handles[0]:
                time.sleep(0.5)
            assert not self.handle.closed, "read from a camera that another thread has closed"
            time.sleep(0.01)
            return picture(int(time.monotonic() * 1000)), None

        def close(self) -> None:
            assert self.handle is not None
            self.handle.closed = True

    timing = CameraTiming(open_s=0.05, frame_s=0.2, first_retry_s=0.01, last_retry_s=0.01, tick_s=0.01)
    with Camera(Slow(), timing, patient=True) as camera:
        start, faults = time.monotonic(), set()
        for item in camera.frames():
            faults |= {item.kind} if isinstance(item, Outage) else set()
            if time.monotonic() - start > 1.5:
                break
    assert faults == {"frozen"}
    assert len(handles) == 2


def test_a_stop_from_elsewhere_ends_the_frames_at_once() -> None:
    with Camera(ScriptedCapture(picture, []), CameraTiming(), patient=True) as camera:
        threading.Timer(0.05, camera.stop).start()
        start = time.monotonic()
        assert all(isinstance(item, Outage) for item in camera.frames())
        assert time.monotonic() - start < 5


def test_faults_at_random_are_all_told_and_recovered_from() -> None:
    found = soak.faults(60)
    assert found["told"] >= found["injected"] == 60
    assert found["frames"] > 1
    assert found["threads_left"] <= 0
    assert found["files_left"] <= 0


def test_devices_that_cannot_be_opened_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, kind in ((tmp_path / "video0", "missing"), (tmp_path, "missing")):
        with pytest.raises(CameraError) as caught:
            check_device(path)
        assert caught.value.kind == kind
    check_device(Path("/dev/null"))
    for error, kind in (
        (PermissionError(13, "x"), "permission"),
        (OSError(16, "x"), "busy"),
        (OSError(19, "x"), "missing"),
    ):

        def fail(*_: object, e: OSError = error) -> int:
            raise e

        monkeypatch.setattr("os.open", fail)
        with pytest.raises(CameraError) as caught:
            check_device(Path("/dev/null"))
        assert caught.value.kind == kind


def test_an_unreachable_stream_says_so_and_never_its_password() -> None:
    capture = OpenCvCapture("rtsp://anna:secret@127.0.0.1:1/x", (640, 480), 15)
    assert "secret" not in capture.name
    with pytest.raises(CameraError, match="unreachable"):
        capture.open()
    capture.close()


@pytest.fixture
def picamera(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The part of picamera2 that is used, as its documentation describes it."""
    said = SimpleNamespace(closed=0, released=0, configuration={})

    class Request:
        def make_array(self, stream: str) -> np.ndarray:
            if stream == "main":
                return np.full((480, 640, 3), (200, 30, 30), np.uint8)
            return np.full((360, 384), 128, np.uint8)  # 320 wide, rows padded to 384

        def release(self) -> None:
            said.released += 1

    class Picamera2:
        def __init__(self, number: int):
            if number:
                raise IndexError
            self.start = lambda: None

        def create_video_configuration(self, **configuration: object) -> dict[str, object]:
            return configuration

        def configure(self, configuration: dict[str, object]) -> None:
            said.configuration = configuration

        def capture_request(self) -> Request:
            return Request()

        def close(self) -> None:
            said.closed += 1

    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=Picamera2))
    return said


def test_picamera_gives_both_streams(picamera: SimpleNamespace) -> None:
    capture = PicameraCapture(0, (640, 480), 15)
    capture.open()
    rgb, small = capture.read()
    assert rgb[0, 0].tolist() == [200, 30, 30]
    assert small is not None
    assert small.shape == (240, 320, 3)
    capture.close()
    assert picamera.released == picamera.closed == 1
    assert picamera.configuration["lores"] == {"size": (320, 240), "format": "YUV420"}
    with pytest.raises(CameraError, match="missing"):
        PicameraCapture(1, (640, 480), 15).open()


def test_a_missing_picamera2_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with open_source("picamera") as camera, pytest.raises(MissingError, match="apt install python3-picamera2"):
        next(camera.frames())


HEADER = """
#include <linux/videodev2.h>
#include <stdio.h>
#include <stddef.h>
int main(void) {
    printf("%zu %zu %zu %zu ", sizeof(struct v4l2_capability), sizeof(struct v4l2_fmtdesc),
           sizeof(struct v4l2_frmsizeenum), sizeof(struct v4l2_frmivalenum));
    printf("%lu %lu %lu %lu ", (long)VIDIOC_QUERYCAP, (long)VIDIOC_ENUM_FMT, (long)VIDIOC_ENUM_FRAMESIZES,
           (long)VIDIOC_ENUM_FRAMEINTERVALS);
    printf("%zu %zu %zu %zu", offsetof(struct v4l2_capability, device_caps), offsetof(struct v4l2_fmtdesc, pixelformat),
           offsetof(struct v4l2_frmsizeenum, discrete), offsetof(struct v4l2_frmivalenum, discrete));
}
"""


@pytest.mark.skipif(
    compiler() is None or not Path("/usr/include/linux/videodev2.h").exists(), reason="no kernel headers"
)
def test_the_kernel_is_asked_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text(HEADER)
    subprocess.run(["cc", tmp_path / "a.c", "-o", tmp_path / "a"], check=True)
    told = subprocess.run([tmp_path / "a"], check=True, capture_output=True, text=True).stdout
    layouts = (v4l2.CAPABILITY, v4l2.FORMAT, v4l2.FRAME_SIZE, v4l2.FRAME_INTERVAL)
    requests = (v4l2.QUERYCAP, v4l2.ENUM_FMT, v4l2.ENUM_FRAMESIZES, v4l2.ENUM_FRAMEINTERVALS)
    assert [int(n) for n in told.split()] == [*(s.size for s in layouts), *requests, 88, 44, 12, 20]


class Kernel:
    """Answers as a webcam's driver does: two formats, the second with a range of sizes."""

    def __call__(self, handle: int, request: int, argument: bytes) -> bytes:
        number = int.from_bytes(argument[:4], "little")
        if request == v4l2.QUERYCAP:
            return v4l2.CAPABILITY.pack(b"uvc", b"A webcam", b"usb", 6, v4l2.CAP_DEVICE_CAPS, 0x04200001)
        if request == v4l2.ENUM_FMT and number < 2:
            return v4l2.FORMAT.pack(number, 1, 0, b"", (b"MJPG", b"YUYV")[number], 0)
        if request == v4l2.ENUM_FRAMESIZES:
            if int.from_bytes(argument[4:8], "little") == int.from_bytes(b"YUYV", "little"):
                return v4l2.FRAME_SIZE.pack(number, 0, 3, 16, 16)
            if number < 1:
                return v4l2.FRAME_SIZE.pack(number, 0, 1, 640, 480)
        if request == v4l2.ENUM_FRAMEINTERVALS and number < 2:
            return v4l2.FRAME_INTERVAL.pack(number, 0, 640, 480, 1, 1, (30, 15)[number])
        raise OSError(22, "Invalid argument")


def test_cameras_are_listed_with_their_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("video10", "video2", "videodev", "null"):
        (tmp_path / name).touch()
    monkeypatch.setattr("fcntl.ioctl", Kernel())
    found = v4l2.list_cameras(tmp_path)
    assert [Path(info.source).name for info in found] == ["video2", "video10"]
    assert found[0].name == "A webcam"
    assert found[0].modes == (v4l2.Mode("MJPG", 640, 480, (30.0, 15.0)),)
    monkeypatch.undo()
    assert v4l2.list_cameras(tmp_path) == [], "plain files are no cameras"
