"""A door from camera to decision: video made of photographs, through the real pipeline, session and process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import attacks, scenes
from device.liveness import LivenessSettings
from device.session import State
from device.settings import Settings, Timing
from device.sources import Frame, Outage, Source
from device.watch import Equipment, Watch, find_bundles

nobody = scenes.nobody
ROOT = Path(__file__).parents[2]
FPS = scenes.FPS


class Film(Source):
    """Frames, and outages, as a camera would give them."""

    live = True

    def __init__(self, items: list[np.ndarray | str]):
        self._items = items

    def frames(self) -> Iterator[Frame | Outage]:
        for number, item in enumerate(self._items):
            yield Outage(item, number / FPS) if isinstance(item, str) else Frame(item, number / FPS)


@pytest.fixture(scope="module")
def people(photos: Path, detector_bytes: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, scenes.Portrait]:
    from skimage.data import astronaut

    cv2.imwrite(str(stranger := tmp_path_factory.mktemp("stranger") / "astronaut.png"), astronaut()[..., ::-1])
    files = {name: photos / f"{name}.jpg" for name in ("obama", "biden")} | {"astronaut": stranger}
    finder = scenes.portrait_detector(detector_bytes)
    return {name: scenes.portrait(file, finder) for name, file in files.items()}


def visit(subject: scenes.Portrait, seconds: float, seed: int = 1) -> list[np.ndarray]:
    return list(scenes.film(subject, seconds, seed))


def states(bundles: Path, items: list[np.ndarray | str], settings: Settings | None = None) -> list[tuple[str, str]]:
    """The states gone through and the user or reason of each."""
    found: list[tuple[str, str]] = []
    watch = Watch(Equipment(settings or Settings(), find_bundles(bundles)))
    for moment in watch.moments(Film(items)):
        step = (str(moment.status.state), moment.status.user or moment.status.reason)
        if not found or found[-1] != step:
            found.append(step)
    watch.close()
    return found


def test_a_day_at_the_door(bundle: Path, people: dict[str, scenes.Portrait]) -> None:
    """Approach, accept, leave; a stranger, reject; dark; the camera goes and comes back."""
    rng = np.random.default_rng(3)
    afar = [scenes.render(people["obama"], scenes.View(40), rng)] * 5
    day = [
        *nobody(0.5), *afar, *visit(people["obama"], 2.0), *nobody(5.0), *visit(people["astronaut"], 1.5),
        *nobody(4.0), *nobody(0.5, level=4), *["unplugged"] * 5, *visit(people["obama"], 2.0, seed=2),
    ]  # fmt: skip
    gone_through = states(bundle, day)
    order = [step for step in gone_through if step[0] not in ("checking", "hold-still")]
    assert order == [
        ("searching", "no_face"),
        ("accepted", "obama"),
        ("searching", "no_face"),
        ("rejected", "rejected"),
        ("searching", "no_face"),
        ("searching", "dark_scene"),
        ("no-camera", "unplugged"),
        ("accepted", "obama"),
    ]
    assert ("hold-still", "too_small") in gone_through, "from afar, they are asked to come closer"


def two(left: scenes.Portrait, right: scenes.Portrait, seconds: float) -> list[np.ndarray]:
    rng, frames = np.random.default_rng(4), []
    for i in range(round(seconds * FPS)):
        frame = scenes.render(left, scenes.View(150, 170 + i % 3), rng)
        patch = scenes.render(right, scenes.View(120, 480), rng)
        frame[:, 330:] = patch[:, 330:]
        frames.append(frame)
    return frames


def test_two_people_are_kept_apart(bundle: Path, people: dict[str, scenes.Portrait]) -> None:
    from dataclasses import replace

    scene = two(people["biden"], people["obama"], 1.0)
    alone = states(bundle, scene)
    assert "accepted" not in {state for state, _ in alone}, "only the largest face counts"
    everybody = Settings()
    everybody = replace(everybody, detection=replace(everybody.detection, faces="all"))
    assert ("accepted", "obama") in states(bundle, scene, everybody)


def test_screens_and_flat_pictures_do_not_open(bundle: Path, people: dict[str, scenes.Portrait]) -> None:
    from dataclasses import replace

    rng = np.random.default_rng(1)
    replayed = [attacks.screen(people["obama"], attacks.NEAR, rng) for _ in range(20)]
    assert "accepted" not in {state for state, _ in states(bundle, replayed)}
    asked = replace(Settings(), liveness=LivenessSettings(challenge="turn", within_s=3.0))
    still = [scenes.render(people["obama"], attacks.NEAR, rng) for _ in range(70)]
    gone_through = states(bundle, still, asked)
    assert ("rejected", "spoof") in gone_through
    assert "accepted" not in {state for state, _ in gone_through}


def test_a_person_who_turns_as_asked_is_let_in(bundle: Path, people: dict[str, scenes.Portrait]) -> None:
    from dataclasses import replace

    settings = replace(Settings(), liveness=LivenessSettings(challenge="turn"), timing=Timing(decide_within_s=20))
    rng, asked, turn = np.random.default_rng(1), 0, 0.0
    words = {"turn your head to your left": 1, "turn your head to your right": -1}
    with Equipment(settings, find_bundles(bundle)) as door:
        for number in range(200):
            turn += float(np.clip(0.9 * asked - turn, -0.15, 0.15))
            frame = scenes.render(people["obama"], scenes.View(190.0, turn=turn), rng)
            status = door.session.update(door.pipeline.follow(frame), number / FPS, frame)
            asked = words.get(status.advice, 0)
            if status.state in (State.ACCEPTED, State.REJECTED):
                break
    assert status.state == State.ACCEPTED, status


def configure(folder: Path, bundles: Path, video: str, more: str = "") -> Path:
    file = folder / "device.toml"
    file.write_text(f'[camera]\nsource = "{video}"\n[users]\nbundles = "{bundles}"\n{more}')
    return file


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """systemd's end of the socket that `environment` names."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(120)
        yield manager


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": str(tmp_path / "notify")}


def test_a_device_waits_for_its_camera_reloads_and_ends(
    bundle: Path, tmp_path: Path, manager: socket.socket, environment: dict[str, str]
) -> None:
    """A camera that is not there: the process lives, says so, serves, reads anew on SIGHUP and ends on SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        preview, metrics = one.getsockname()[1], other.getsockname()[1]
    more = f'[preview]\nkind = "web"\nport = {preview}\n[service]\nmetrics = "{metrics}"\n'
    config = configure(tmp_path, bundle, "97", more)
    log = tmp_path / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "toolkit", "run", "--config", config], env=environment, stderr=errors, cwd=tmp_path
        )
    try:
        assert manager.recv(100) == b"READY=1"
        until(lambda: "state=no-camera there is no such camera" in log.read_text())
        page = urllib.request.urlopen(f"http://127.0.0.1:{preview}/", timeout=10).read()
        assert b"hyperverify" in page
        counted = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10).read().decode()
        assert 'hyperverify_state{state="no-camera"} 1' in counted
        rude = socket.create_connection(("127.0.0.1", preview))
        rude.sendall(b"GET /frame HTTP/1.1\r\nHost: localhost\r\n\r\n")
        rude.close()
        process.send_signal(signal.SIGHUP)
        until(lambda: "reloaded: 1 users" in log.read_text())
        config.write_text("[camrea]")
        process.send_signal(signal.SIGHUP)
        until(lambda: "not reloaded" in log.read_text())
        assert "did you mean camera?" in log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_to_be_stopped_before_a_decision_is_no_acceptance(
    bundle: Path, tmp_path: Path, manager: socket.socket, environment: dict[str, str]
) -> None:
    """`toolkit run --once && echo open` opens on 0 alone."""
    config = configure(tmp_path, bundle, "97")
    command = [sys.executable, "-m", "toolkit", "run", "--config", config, "--once"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, cwd=tmp_path, text=True)
    try:
        assert manager.recv(100) == b"READY=1"
        process.send_signal(signal.SIGTERM)
        assert "stopped before a decision" in process.communicate(timeout=60)[1]
        assert process.returncode == 4
    finally:
        process.kill()


def test_nothing_with_pixels_is_written(bundle: Path, people: dict[str, scenes.Portrait], tmp_path: Path) -> None:
    """Under strace: no file is opened for writing but what the command's own pictures never touch."""
    import shutil

    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    video = scenes.write_video(tmp_path / "v.avi", visit(people["obama"], 1.0))
    config = configure(tmp_path, bundle, str(video), '[preview]\nkind = "web"\nport = 0\n')
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=open,openat,creat,memfd_create", "-o", trace]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, sys.executable, "-m", "toolkit", "run", "--config", config, "--json"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[0])["decision"] == "accepted", done.stderr
    written = re.findall(r'"([^"]+)", [^)]*O_(?:WRONLY|RDWR|CREAT)[^)]*\)\s+= \d', trace.read_text())
    assert str(video) in trace.read_text(), "the trace sees what is opened"
    assert [name for name in written if not name.startswith(("/dev/", "/proc/", "/sys/"))] == []


def test_seconds_of_a_long_day(bundle: Path, people: dict[str, scenes.Portrait], tmp_path: Path) -> None:
    """What `make soak` does for hours of video: nothing is left open, everybody is decided on, the watchdog is fed."""
    video = scenes.write_video(tmp_path / "v.avi", [*visit(people["obama"], 2.0), *nobody(1.0)])
    command = [sys.executable, "-m", "benchmarks.soak", bundle, video, tmp_path / "soak.json", "--seconds", "8"]
    done = subprocess.run(
        [*command, "--faults", "10"], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "soak.json").read_text())
    day = found["replay"]
    assert day["accepted"] >= 1
    assert day["size_px"] == [scenes.WIDTH_PX, scenes.HEIGHT_PX]
    assert day["video_hours"] < day["hours_asked"] == 8
    assert day["open_files"]["most"] <= day["open_files"]["first"] + 2, "but for a reload's own, for a moment"
    assert day["watchdog"]["longest_silence_s"] < day["watchdog"]["limit_s"]
    assert found["camera_faults"]["told"] >= found["camera_faults"]["injected"] == 10
