"""The preview in a real browser, and what it refuses."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from browser import Browser

from device.detector import FaceDetector
from device.pipeline import Observation
from device.preview import Preview
from device.session import State, Status
from device.sources import Frame
from device.watch import Moment
from toolkit.errors import UsageError


@pytest.fixture(scope="module")
def astronaut(detector_bytes: bytes) -> Moment:
    """A public-domain portrait, as the device would see it."""
    import cv2
    from skimage.data import astronaut as portrait

    picture = np.ascontiguousarray(cv2.resize(portrait(), (640, 640))[:480])
    (face, *_) = FaceDetector(detector_bytes).detect(picture)
    seen = Observation({"anna": 0.5}, "", face, times_ms={"detect": 0.9, "align": 0.3, "verify": 0.1})
    status = Status(State.CHECKING, 3.2, True, advice="turn your head to your left", share=0.8, frames=6)
    return Moment(Frame(picture, 3.2), [seen], status)


@pytest.fixture
def shown(astronaut: Moment) -> Iterator[Preview]:
    """A preview that is shown one moment again and again, as a camera would."""
    with Preview("127.0.0.1", 0) as preview:
        over = threading.Event()

        def show() -> None:
            while not over.wait(0.05):
                preview.show(astronaut)

        thread = threading.Thread(target=show)
        thread.start()
        yield preview
        over.set()
        thread.join()


def ask(preview: Preview, path: str, **headers: str) -> http.client.HTTPResponse:
    link = http.client.HTTPConnection(urlsplit(preview.url).netloc, timeout=20)
    link.request("GET", path, headers=headers)
    answer = link.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    link.close()
    return answer


def test_frames_come_as_jpeg_with_what_was_seen(shown: Preview) -> None:
    answer = ask(shown, "/frame?after=0")
    assert answer.status == 200
    assert answer.body[:2] == b"\xff\xd8"  # type: ignore[attr-defined]
    told = json.loads(answer.headers["X-State"])
    assert told["state"] == "checking"
    assert told["stages_ms"] == {"detect": 0.9, "align": 0.3, "verify": 0.1}
    assert len(told["faces"][0]["landmarks"]) == 5
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_foreign_name_for_this_machine_is_refused(shown: Preview) -> None:
    """A page of another site whose name was rebound to 127.0.0.1 sends its own name."""
    assert ask(shown, "/frame", Host="evil.example:8089").status == 403
    assert ask(shown, "/", Host="localhost:8089").status == 200


def test_a_token_is_asked_for_and_remembered(astronaut: Moment) -> None:
    with Preview("127.0.0.1", 0, "a-token-of-16-chars") as preview:
        preview.show(astronaut)
        assert ask(preview, "/").status == 403
        assert ask(preview, "/frame?token=wrong").status == 403
        first = ask(preview, "/?token=a-token-of-16-chars")
        assert first.status == 200
        cookie = first.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert ask(preview, "/frame", Cookie=cookie.split(";")[0]).status == 200
        assert ask(preview, "/frame", Cookie="hyperverify=wrong").status == 403


def test_an_outage_shows_no_old_picture(astronaut: Moment) -> None:
    with Preview("127.0.0.1", 0) as preview:
        preview.show(astronaut)
        preview.show(Moment(None, [], Status(State.NO_CAMERA, 4.0, True, "unplugged", "check its cable")))
        answer = ask(preview, "/frame")
        assert answer.status == 204
        assert json.loads(answer.headers["X-State"])["advice"] == "check its cable"
        with pytest.raises(UsageError, match="choose another port"):
            Preview("127.0.0.1", urlsplit(preview.url).port or 0)


def test_a_browser_shows_the_live_picture(shown: Preview, tmp_path: Path) -> None:
    import cv2

    with Browser(tmp_path) as browser:
        browser.open(shown.url)
        browser.until("document.getElementById('numbers')?.children.length > 3")
        text, picture = browser.text(), browser.screenshot()
        assert browser.evaluate("parseFloat(document.getElementById('share').style.width)") == pytest.approx(60)
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "fits its width"
    for expected in ("checking", "turn your head to your left", "detect", "frames a second"):
        assert expected in text
    page = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert page is not None
    assert page[20:500].std() > 40, "the canvas shows the picture"
    if wanted := os.environ.get("HYPERVERIFY_SCREENSHOT"):
        Path(wanted).write_bytes(picture)


def test_the_page_fits_a_phone_and_says_when_the_device_is_gone(astronaut: Moment, tmp_path: Path) -> None:
    with Browser(tmp_path, 500, 800) as browser:
        with Preview("127.0.0.1", 0) as preview:
            preview.show(astronaut)
            browser.open(preview.url)
            browser.until("document.getElementById('state')?.textContent == 'checking'")
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.until("document.getElementById('state').textContent == 'no connection'")
