"""What a service manager and a monitoring system see."""

from __future__ import annotations

import http.client
import socket
import stat
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from device.decision import Decision
from device.pipeline import Observation
from device.service import Metrics, MetricsServer, Notifier
from device.session import State, Status
from device.sources import Frame
from device.watch import Moment
from toolkit.errors import UsageError

FRAME = Frame(np.zeros((48, 64, 3), np.uint8), 0.0)


def moment(state: State = State.SEARCHING, decision: Decision | None = None, frame: Frame | None = FRAME) -> Moment:
    return Moment(frame, [Observation(reason="no_face")], Status(state, 0.0, True, decision=decision))


def test_metrics_count_frames_decisions_and_outages() -> None:
    metrics = Metrics()
    metrics.add(moment(), 3.0, dropped=0)
    metrics.add(moment(State.ACCEPTED, Decision("accepted", "anna", 9, 5, 0.6, 2)), 30.0, dropped=7)
    metrics.add(moment(State.NO_CAMERA, frame=None), 0.0, dropped=7)
    lines = metrics.text().splitlines()
    for line in (
        "hyperverify_frames_total 2",
        "hyperverify_frames_dropped_total 7",
        "hyperverify_camera_outages_total 1",
        'hyperverify_decisions_total{outcome="accepted"} 1',
        'hyperverify_state{state="no-camera"} 1',
        'hyperverify_frame_milliseconds_bucket{le="5"} 1',
        "hyperverify_frame_milliseconds_sum 33.000",
    ):
        assert line in lines
    assert "anna" not in metrics.text()
    for line in lines:
        assert line.startswith("#") or len(line.rsplit(" ", 1)) == 2


def test_metrics_are_served_on_loopback_or_a_private_socket(tmp_path: Path) -> None:
    with MetricsServer(Metrics(), "0") as server:
        text = urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10).read().decode()
        assert "hyperverify_frames_total 0" in text
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=10)
    path = tmp_path / "metrics.sock"
    with MetricsServer(Metrics(), str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        link = http.client.HTTPConnection("localhost")
        link.sock = socket.socket(socket.AF_UNIX)
        link.sock.connect(str(path))
        link.request("GET", "/metrics")
        assert b"hyperverify_state" in link.getresponse().read()
        link.close()
    assert not path.exists()
    with pytest.raises(UsageError, match="metrics cannot be served"):
        MetricsServer(Metrics(), str(tmp_path / "no" / "metrics.sock"))


def test_systemd_is_told_and_its_watchdog_fed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "3000000")
        notifier = Notifier()
        notifier.tell("READY=1")
        for _ in range(100):
            notifier.alive()
        assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"WATCHDOG=1"]
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Notifier().tell("READY=1")
