"""Actions with real peers: processes, an HTTP server, an MQTT broker, gpiozero's own mock pins."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from device.actions import WAITING, Action, Actions
from device.session import State, Status
from toolkit.errors import MissingError

ACCEPTED = Status(State.ACCEPTED, 1.5, True, user="anna")


def perform(action: Action, status: Status = ACCEPTED, times: int = 1) -> list[str]:
    """What was logged."""
    logged: list[str] = []
    with Actions([action], logged.append) as actions:
        for _ in range(times):
            actions.tell(status)
    return logged


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_a_command_is_told_who_and_only_on_its_states(tmp_path: Path) -> None:
    script = "import os, sys; open(sys.argv[1], 'a').write(sys.argv[2] + os.environ['HYPERVERIFY_STATE'] + '\\n')"
    out = tmp_path / "out"
    action = Action(command=(sys.executable, "-c", script, str(out), "{user};$(id) "), timeout_s=60)
    assert perform(action) == []
    assert perform(action, Status(State.REJECTED, 0.0, True)) == []
    assert out.read_text() == "anna;$(id) accepted\n", "no shell looks at the words"


def test_commands_that_fail_or_hang_are_told_and_ended(tmp_path: Path) -> None:
    assert "exit code 3" in perform(Action(command=(sys.executable, "-c", "raise SystemExit(3)"), timeout_s=60))[0]
    assert "No such file" in perform(Action(command=("no-such-command",)))[0]
    start = time.monotonic()
    child = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {'import time; time.sleep(60)'!r}])"
    logged = perform(Action(command=(sys.executable, "-c", child + "; time.sleep(60)"), timeout_s=1.5))
    assert "no end after 1.5 s" in logged[0]
    assert time.monotonic() - start < 30


def test_a_stuck_action_stalls_nobody() -> None:
    stuck = Action(command=(sys.executable, "-c", "import time; time.sleep(60)"), timeout_s=0.5)
    with Actions([stuck], lambda _: None) as actions:
        start = time.monotonic()
        for _ in range(1000):
            actions.tell(ACCEPTED)
        assert time.monotonic() - start < 0.5, "telling never waits"
        worker = actions.workers[0]
        assert worker.events.qsize() <= WAITING
        assert worker.dropped > 900
        while not worker.events.empty():
            worker.events.get_nowait()


def test_an_acceptance_that_waited_too_long_opens_nothing(tmp_path: Path) -> None:
    script = "import sys, time; time.sleep(0.6); open(sys.argv[1], 'a').write(sys.argv[2])"
    action = Action(command=(sys.executable, "-c", script, str(tmp_path / "out"), "{state} "), timeout_s=60,
                    on=("accepted", "rejected"))  # fmt: skip
    logged: list[str] = []
    with Actions([action], logged.append, in_force_s=0.3) as actions:
        for state in (State.ACCEPTED, State.ACCEPTED, State.REJECTED):
            actions.tell(Status(state, 0.0, True))
        until(lambda: actions.workers[0].events.empty())
    assert (tmp_path / "out").read_text() == "accepted rejected ", "who is rejected is told late rather than never"
    assert ["too late" in line for line in logged] == [True]


@pytest.fixture
def web() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "url", ["http://anna:geheim12@127.0.0.1/hook", "http://127.0.0.1/hook?text=door open&token=geheim12"]
)
def test_an_address_that_cannot_be_sent_to_is_refused_and_never_told(url: str) -> None:
    action = Action(kind="webhook", url=url)
    assert "cannot be sent" in action.problems()[0]
    assert "geheim12" not in "".join(perform(action))
    assert not Action(kind="webhook", url="https://door.example:8443/hook/@token").problems()


def test_a_webhook_posts_the_state_and_no_more(web: tuple[str, list[dict[str, Any]]]) -> None:
    url, got = web
    assert perform(Action(kind="webhook", url=f"{url}/door")) == []
    assert got == [{"state": "accepted", "user": "anna", "reason": "", "advice": "", "time_s": 1.5}]
    assert "500" in perform(Action(kind="webhook", url=f"{url}/broken"))[0]


def test_a_webhook_that_never_answers_ends_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert "timed out" in perform(Action(kind="webhook", url=url, timeout_s=0.3))[0]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    """mosquitto, where it is installed."""
    program = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if program is None:
        pytest.skip("mosquitto is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "m.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    process = subprocess.Popen(
        [program, "-c", tmp_path / "m.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(listens)
    yield port
    process.terminate()
    process.wait(10)


def test_mqtt_publishes_the_state(broker: int) -> None:
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    got: list[bytes] = []
    ready = threading.Event()
    listener = paho.Client(CallbackAPIVersion.VERSION2)
    listener.on_message = lambda *a: got.append(a[2].payload)
    listener.on_subscribe = lambda *_: ready.set()
    listener.connect("127.0.0.1", broker)
    listener.subscribe("home/door", qos=1)
    listener.loop_start()
    assert ready.wait(20)
    assert perform(Action(kind="mqtt", host="127.0.0.1", port=broker, topic="home/door", timeout_s=10)) == []
    until(lambda: bool(got))
    listener.disconnect()
    listener.loop_stop()
    assert json.loads(got[0])["user"] == "anna"


def test_mqtt_without_a_broker_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    logged = perform(Action(kind="mqtt", host="127.0.0.1", port=port, topic="t", timeout_s=1))
    assert "action mqtt on accepted failed" in logged[0]


def test_a_pin_is_on_for_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    from gpiozero import Device
    from gpiozero.pins.mock import MockFactory

    Device.pin_factory = MockFactory()
    try:
        pin = Device.pin_factory.pin(17)
        with Actions([Action(kind="gpio", seconds=0.2)], print) as actions:
            actions.tell(ACCEPTED)
            until(lambda: bool(pin.state))
            until(lambda: not pin.state)
        assert [bool(state.state) for state in pin.states][-2:] == [True, False]
    finally:
        Device.pin_factory.close()
        Device.pin_factory = None


@pytest.mark.parametrize(("kind", "module"), [("mqtt", "paho.mqtt"), ("gpio", "gpiozero")])
def test_an_action_without_its_package_says_so_at_once(kind: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingError, match=f"the action {kind} needs"):
        Actions([Action(kind=kind, host="h", topic="t")], print)
