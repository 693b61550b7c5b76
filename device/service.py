"""What a service manager and a monitoring system need: readiness, watchdog, metrics. Only numbers and states."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import threading
import time
from collections import Counter
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from device.session import State
from device.watch import Moment
from toolkit.errors import UsageError

FRAME_MS = (2, 5, 10, 20, 50, 100, 200, 500)  # upper ends of the histogram's bins


class Notifier:
    """systemd's notification socket, where there is one (sd_notify(3)). Says nothing elsewhere."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        limit_s = int(os.environ.get("WATCHDOG_USEC") or 0) / 1e6
        self._every_s = limit_s / 3
        self._last_s = 0.0

    def tell(self, message: str) -> None:
        """READY=1, RELOADING=1, STOPPING=1 or STATUS=…; a service manager that does not listen is no fault of ours."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.sendto(message.encode(), address)

    def alive(self) -> None:
        """Called after every frame or outage: feeds the watchdog a third of its limit apart."""
        now = time.monotonic()
        if self._every_s and now - self._last_s >= self._every_s:
            self._last_s = now
            self.tell("WATCHDOG=1")


class Metrics:
    """Counters in Prometheus' text format."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames = self._outages = self._dropped = 0
        self._decisions: Counter[str] = Counter()
        self._bins: Counter[int] = Counter()
        self._total_ms = 0.0
        self._state = State.SEARCHING

    def add(self, moment: Moment, took_ms: float, dropped: int) -> None:
        with self._lock:
            self._state, self._dropped = moment.status.state, dropped
            if moment.frame is None:
                self._outages += moment.status.changed
                return
            self._frames += 1
            self._total_ms += took_ms
            for edge in FRAME_MS:
                self._bins[edge] += took_ms <= edge
            if made := moment.status.decision:
                self._decisions[made.outcome] += 1

    def text(self) -> str:
        with self._lock:
            lines = [
                *_counter("frames_total", "Frames looked at.", self._frames),
                *_counter("frames_dropped_total", "Frames that a newer one replaced.", self._dropped),
                *_counter("camera_outages_total", "Times the camera failed.", self._outages),
                "# HELP hyperverify_decisions_total Visits by outcome.",
                "# TYPE hyperverify_decisions_total counter",
            ]
            for outcome in ("accepted", "rejected", "unknown", "spoof"):
                lines.append(f'hyperverify_decisions_total{{outcome="{outcome}"}} {self._decisions[outcome]}')
            lines += ["# HELP hyperverify_state The present state.", "# TYPE hyperverify_state gauge"]
            lines += [f'hyperverify_state{{state="{state}"}} {int(state == self._state)}' for state in State]
            name = "hyperverify_frame_milliseconds"
            lines += [f"# HELP {name} Time from a frame to its state.", f"# TYPE {name} histogram"]
            lines += [f'{name}_bucket{{le="{edge}"}} {self._bins[edge]}' for edge in FRAME_MS]
            lines += [f'{name}_bucket{{le="+Inf"}} {self._frames}']
            lines += [f"{name}_sum {self._total_ms:.3f}", f"{name}_count {self._frames}"]
        return "\n".join(lines) + "\n"


def _counter(name: str, text: str, value: int) -> list[str]:
    return [f"# HELP hyperverify_{name} {text}", f"# TYPE hyperverify_{name} counter", f"hyperverify_{name} {value}"]


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class MetricsServer(AbstractContextManager["MetricsServer"]):
    """GET /metrics on a port of 127.0.0.1 ("9109"), or on a Unix socket ("/run/hyperverify/metrics.sock", 0600)."""

    def __init__(self, metrics: Metrics, where: str):
        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                known = self.path == "/metrics"
                body = metrics.text().encode() if known else b"see /metrics\n"
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def address_string(self) -> str:
                return "local"  # a Unix socket's peer has no address

            def log_message(self, *_: object) -> None:
                """Nothing: the log is for decisions."""

        self._path = None if where.isdecimal() else Path(where)
        try:
            self._server = self._listen(where, Handler)
        except OSError as error:
            raise UsageError(f"metrics cannot be served at {where}", got=error.strerror, do="choose another") from error
        threading.Thread(target=self._server.serve_forever, daemon=True, name="metrics").start()

    def _listen(self, where: str, handler: type[BaseHTTPRequestHandler]) -> socketserver.BaseServer:
        if self._path is None:
            return HTTPServer(("127.0.0.1", int(where)), handler)
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            return _UnixServer(str(self._path), handler)
        finally:
            os.umask(before)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])  # type: ignore[index]

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        if self._path:
            self._path.unlink(missing_ok=True)
