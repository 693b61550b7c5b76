"""A camera that runs all day: read on a thread of its own, watched, and opened again after every fault."""

from __future__ import annotations

import copy
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from device.sources.base import FAULTS, CameraError, Frame, Outage, Source
from toolkit.errors import MissingError

MAX_STUCK = 3  # threads that never came back from the driver before the process asks to be started anew


class Capture(Protocol):
    """One camera's driver. All three calls come from one thread, and may block; `read` and `open` raise CameraError."""

    name: str

    def open(self) -> None: ...
    def read(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The next picture, uint8 RGB [H, W, 3], and the camera's own reduced picture of it or None."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class CameraTiming:
    """When a camera counts as faulty, and how soon it is tried again."""

    open_s: float = 15.0  # RTSP handshakes and Pi sensors take seconds
    frame_s: float = 3.0
    still_s: float = 3.0  # sensors have noise: the same pixels for so long are a driver that repeats itself
    first_retry_s: float = 0.5
    last_retry_s: float = 30.0  # each attempt waits twice as long as the one before, up to here
    tick_s: float = 0.5  # how often an outage is told again


class _Reader(threading.Thread):
    """Opens a capture and keeps its newest picture until told to stop or a fault ends it."""

    def __init__(self, capture: Capture):
        super().__init__(daemon=True, name=f"camera {capture.name}")
        self.capture, self.changed = capture, threading.Condition()
        self.newest: tuple[np.ndarray, np.ndarray | None, float] | None = None
        self.fault: CameraError | None = None
        self.stopped, self.dropped = False, 0

    def run(self) -> None:
        try:
            self.capture.open()
            while not self.stopped:
                self._offer(*self.capture.read())
        except CameraError as fault:
            self._end(fault)
        except Exception as error:  # a driver's own exception is a fault of the camera, not of this program
            self._end(CameraError("unplugged", f"{type(error).__name__}: {error}"))
        finally:
            self.capture.close()

    def _offer(self, rgb: np.ndarray, small: np.ndarray | None) -> None:
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or min(rgb.shape[:2]) < 32:
            raise CameraError("format", f"{rgb.dtype} {rgb.shape}")
        with self.changed:
            self.dropped += self.newest is not None  # nobody took the older one: it is of no use any more
            self.newest = rgb, small, time.monotonic()
            self.changed.notify()

    def _end(self, fault: CameraError) -> None:
        with self.changed:
            self.fault = fault
            self.changed.notify()

    def take(self, timeout_s: float) -> tuple[np.ndarray, np.ndarray | None, float] | None:
        """The newest picture, once; None after the timeout. Raises CameraError when the reader has ended by one."""
        with self.changed:
            self.changed.wait_for(lambda: self.newest or self.fault or self.stopped, timeout_s)
            found, self.newest = self.newest, None
            if found is None and self.fault:
                raise self.fault
            return found

    def stop(self) -> None:
        self.stopped = True
        with self.changed:
            self.changed.notify()


class Camera(Source):
    """The newest frame of a camera, and an Outage for as long as there is none.

    A driver that hangs cannot hang the process: its thread is left behind and the camera opened anew, MAX_STUCK times.
    """

    live = True

    def __init__(self, capture: Capture, timing: CameraTiming, *, patient: bool = False):
        self._capture, self._timing, self._patient = capture, timing, patient
        self._stop = threading.Event()
        self._reader: _Reader | None = None
        self._stuck: list[_Reader] = []
        self._seen_any = False
        self._dropped = 0
        self._start = time.monotonic()

    @property
    def dropped(self) -> int:  # type: ignore[override]
        return self._dropped + (self._reader.dropped if self._reader else 0)

    def frames(self) -> Iterator[Frame | Outage]:
        """Raises MissingError when the first attempt fails and the camera is not patient, or when the driver hangs."""
        attempts = 0
        while not self._stop.is_set():
            try:
                for frame in self._watch():
                    attempts, self._seen_any = 0, True
                    yield frame
            except CameraError as fault:
                if not (self._patient or self._seen_any):
                    raise self._missing(fault) from fault
                attempts += 1
                yield from self._outage(fault, attempts)
            finally:
                self._leave_reader()

    def _missing(self, fault: CameraError) -> MissingError:
        what = f"camera {self._capture.name} cannot be used"
        return MissingError(what, got=fault.detail or fault.kind, do=FAULTS[fault.kind])

    def _watch(self) -> Iterator[Frame]:
        """Frames of one opening. Raises CameraError; a camera that is silent or repeats itself is one."""
        # A capture of its own: a reader that was left behind closes its own when it comes back, not the next one's.
        reader = self._reader = _Reader(copy.copy(self._capture))
        reader.start()
        limit_s, picture, changed_s = self._timing.open_s, 0, time.monotonic()
        while not self._stop.is_set():
            taken = reader.take(limit_s)
            if self._stop.is_set():
                return
            if taken is None:
                raise CameraError("frozen", f"no picture for {limit_s:g} s")
            rgb, small, time_s = taken
            limit_s = self._timing.frame_s
            digest = zlib.adler32(rgb[::8, ::8].tobytes())
            if digest != picture:
                picture, changed_s = digest, time_s
            elif time_s - changed_s > self._timing.still_s:
                raise CameraError("frozen", f"the same picture for {self._timing.still_s:g} s")
            yield Frame(rgb, time_s - self._start, small=small)

    def _outage(self, fault: CameraError, attempts: int) -> Iterator[Outage]:
        """Tell the fault until it is time for the next attempt."""
        timing = self._timing
        until = time.monotonic() + min(timing.last_retry_s, timing.first_retry_s * 2.0 ** min(attempts - 1, 20))
        while not self._stop.is_set():
            now = time.monotonic()
            yield Outage(fault.kind, now - self._start, fault.detail, attempts)
            if now >= until or self._stop.wait(min(timing.tick_s, until - now)):
                return

    def _leave_reader(self) -> None:
        """Let the reader end. One that hangs in the driver is left behind, and counted."""
        reader, self._reader = self._reader, None
        if reader is None:
            return
        reader.stop()
        reader.join(timeout=min(1.0, self._timing.frame_s))
        self._dropped += reader.dropped
        self._stuck = [left for left in [*self._stuck, reader] if left.is_alive()]
        if len(self._stuck) >= MAX_STUCK and not self._stop.is_set():
            raise MissingError(
                f"the driver of camera {self._capture.name} hangs", do="start the program again, or the device"
            )

    def stop(self) -> None:
        self._stop.set()
        if reader := self._reader:
            reader.stopped = True

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._leave_reader()
