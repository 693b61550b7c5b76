"""The live picture in a browser: one page, JPEG frames by long polling, only while somebody looks.

On loopback by default. Frames are held in memory and encoded when asked for; nothing is written anywhere.
"""

from __future__ import annotations

import hmac
import json
import threading
import time
from contextlib import AbstractContextManager
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from device.pipeline import total_ms
from device.watch import Moment
from toolkit.errors import UsageError

PAGE = Path(__file__).parent / "preview.html"
WAIT_S = 5.0  # how long one request waits for a newer frame
JPEG_QUALITY = 80
STATE_HEADER = "X-State"
COOKIE = "hyperverify"


class Preview(AbstractContextManager["Preview"]):
    """Serves the newest moment. Raises UsageError when it cannot listen there."""

    def __init__(self, address: str, port: int, token: str = ""):
        self._changed = threading.Condition()
        self._moment: Moment | None = None
        self._number = 0
        self._fps = 0.0
        self._last_s = time.monotonic()
        try:
            self._server = _Server((address, port), self, token)
        except OSError as error:
            raise UsageError(
                f"the preview cannot listen on {address}:{port}", got=error.strerror, do="choose another port"
            ) from error
        threading.Thread(target=self._server.serve_forever, daemon=True, name="preview").start()

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/"

    def show(self, moment: Moment) -> None:
        """Take the newest moment; costs nothing unless somebody looks."""
        now = time.monotonic()
        with self._changed:
            self._fps = 0.9 * self._fps + 0.1 / max(now - self._last_s, 1e-3)
            self._moment, self._last_s, self._number = moment, now, self._number + 1
            self._changed.notify_all()

    def after(self, number: int) -> tuple[int, bytes, dict[str, Any]]:
        """The newest picture as JPEG, empty during an outage, and what the page says about it.

        Waits until there is a newer one than `number`, at most WAIT_S.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._number != number, WAIT_S)
            newest, moment, fps = self._number, self._moment, self._fps
        if moment is None:
            return newest, b"", {"state": "starting"}
        picture = _jpeg(moment.frame.rgb) if moment.frame else b""
        return newest, picture, describe(moment) | {"fps": round(fps, 1)}

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """What its handlers serve, and the token that they ask for."""

    daemon_threads = True

    def __init__(self, place: tuple[str, int], preview: Preview, token: str):
        self.preview, self.token = preview, token
        super().__init__(place, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 30

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if not self._local_name() or not self._allowed(query):
            self._answer(403, "text/plain", b"open the address with ?token=...\n")
        elif url.path == "/":
            self._answer(200, "text/html; charset=utf-8", PAGE.read_bytes())
        elif url.path == "/frame":
            number, picture, told = self.server.preview.after(_whole(query.get("after", ["-1"])[0]))
            extra = {STATE_HEADER: json.dumps(told | {"number": number})}
            self._answer(200 if picture else 204, "image/jpeg", picture, extra)
        else:
            self._answer(404, "text/plain", b"not here\n")

    def _local_name(self) -> bool:
        """Without a token, only requests to this machine's own names: a web page elsewhere that a browser was
        lured to cannot rebind its name to loopback and read the camera."""
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        return bool(self.server.token) or host in ("127.0.0.1", "localhost", "[::1]")

    def _allowed(self, query: dict[str, list[str]]) -> bool:
        token = self.server.token
        if not token:
            return True
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        offered = [*query.get("token", []), *([cookie.value] if cookie else [])]
        return any(hmac.compare_digest(one.encode(), token.encode()) for one in offered)

    def _answer(self, code: int, kind: str, body: bytes, extra: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("Content-Security-Policy", "default-src 'self' 'unsafe-inline' blob:; frame-ancestors 'none'"),
            *(extra or {}).items(),
        ):
            self.send_header(name, value)
        token = self.server.token
        if token and code == 200 and kind.startswith("text/html"):
            self.send_header("Set-Cookie", f"{COOKIE}={token}; HttpOnly; SameSite=Strict")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: an address may hold the token."""


def _whole(text: str) -> int:
    return int(text) if text.lstrip("-").isdecimal() and len(text) < 12 else -1


def _jpeg(rgb: np.ndarray) -> bytes:
    import cv2

    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


def describe(moment: Moment) -> dict[str, Any]:
    """The moment without its pixels: what the page draws and says."""
    status = moment.status
    faces = [
        {
            "box": [round(v, 1) for v in (seen.face.x, seen.face.y, seen.face.width, seen.face.height)],
            "landmarks": np.round(seen.face.landmarks, 1).tolist(),
        }
        for seen in moment.observations
        if seen.face
    ]
    stages: dict[str, float] = {}
    for seen in moment.observations:
        for name, took_ms in seen.times_ms.items():
            stages[name] = round(stages.get(name, 0.0) + took_ms, 2)
    return {
        "state": status.state,
        "advice": status.advice.encode("ascii", "replace").decode(),
        "user": status.user.encode("ascii", "replace").decode(),
        "share": round(status.share, 3),
        "frames": status.frames,
        "faces": faces,
        "stages_ms": stages,
        "total_ms": round(total_ms(moment.observations), 2),
    }


class Window:
    """The same in a window of this machine, by OpenCV's own widgets. Raises UsageError where there is no display."""

    NAME = "hyperverify"

    def __init__(self) -> None:
        import cv2

        try:
            cv2.namedWindow(self.NAME)
        except cv2.error as error:
            raise UsageError(
                "no window can be opened", do="install opencv-python instead of its headless form, or use --preview web"
            ) from error

    def show(self, moment: Moment) -> None:
        import cv2

        if moment.frame is None:
            return
        bgr = cv2.cvtColor(moment.frame.rgb, cv2.COLOR_RGB2BGR)
        for seen in moment.observations:
            if face := seen.face:
                corner = (round(face.x), round(face.y))
                cv2.rectangle(bgr, corner, (round(face.x + face.width), round(face.y + face.height)), (90, 220, 90), 2)
        text = f"{moment.status.state} {moment.status.user} {moment.status.advice}"
        cv2.putText(bgr, text.strip(), (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 2)
        cv2.imshow(self.NAME, bgr)
        cv2.waitKey(1)

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        import cv2

        cv2.destroyWindow(self.NAME)
