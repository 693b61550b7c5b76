"""What happens when the state changes: a command, a webhook, MQTT or a pin. None of it can hold up the pipeline.

Each action has a thread, a short queue and a timeout of its own. It is told the state and the user's name, no face.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from device.session import State, Status, Timing
from toolkit.errors import MissingError

WAITING = 8  # events of one action that may wait; beyond, the oldest is dropped
NEEDS = {"command": ("command",), "webhook": ("url",), "mqtt": ("host", "topic"), "gpio": ()}

Log = Callable[[str], None]


@dataclass(frozen=True)
class Action:
    """One [[action]] of the configuration. Which of the fields count depends on `kind`."""

    kind: str = "command"
    on: tuple[str, ...] = ("accepted",)
    timeout_s: float = 5.0
    command: tuple[str, ...] = ()
    url: str = ""
    host: str = ""
    port: int = 1883
    topic: str = ""
    username: str = ""
    password: str = ""
    pin: int = 17
    seconds: float = 3.0
    active_high: bool = True

    def problems(self) -> list[str]:
        """What is missing or cannot be, in words."""
        found = [f"the kind {self.kind} needs {name}" for name in NEEDS[self.kind] if not getattr(self, name)]
        if self.url and not self.url.startswith(("http://", "https://")):
            found.append("url must begin with http:// or https://")
        if "@" in self.url.partition("://")[2].partition("/")[0] or any(c <= " " for c in self.url):
            found.append(
                "url holds a user, a blank or a control character, which cannot be sent; put a token in its path"
            )
        if any(c in self.topic for c in "+#"):
            found.append("a topic to publish to cannot hold + or #")
        return found


def message(status: Status) -> dict[str, Any]:
    """What the outside is told of a state change."""
    return {
        "state": str(status.state),
        "user": status.user,
        "reason": status.reason,
        "advice": status.advice,
        "time_s": round(status.time_s, 3),
    }


class Worker(threading.Thread):
    """Runs one action's events in order, away from the pipeline.

    An acceptance that waited for longer than it is in force, `in_force_s`, opens nothing: somebody else may be there.
    """

    def __init__(self, action: Action, perform: Callable[[dict[str, Any]], None], log: Log, in_force_s: float):
        super().__init__(daemon=True, name=f"action {action.kind}")
        self.action, self._perform, self._log, self._in_force_s = action, perform, log, in_force_s
        self.events: queue.Queue[tuple[dict[str, Any], float] | None] = queue.Queue(WAITING)
        self.done = self.failed = self.dropped = 0

    def offer(self, event: dict[str, Any] | None) -> None:
        """Never blocks: the oldest event gives way. None ends the thread."""
        while True:
            try:
                return self.events.put_nowait(None if event is None else (event, time.monotonic()))
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self.events.get_nowait()
                    self.dropped += 1

    def run(self) -> None:
        while (offered := self.events.get()) is not None:
            event, since_s = offered
            if event["state"] == State.ACCEPTED and time.monotonic() - since_s > self._in_force_s:
                self.dropped += 1
                self._log(f"action {self.action.kind} on {event['state']} came too late: the one before took so long")
                continue
            try:
                self._perform(event)
                self.done += 1
            except Exception as error:  # whatever a peer or a driver does, the next event gets its chance
                self.failed += 1
                self._log(f"action {self.action.kind} on {event['state']} failed: {_reason(error)}")


def _reason(error: Exception) -> str:
    """In one line, without the address, which may hold a password."""
    tells_it = isinstance(error, ValueError | http.client.HTTPException)
    return type(error).__name__ if tells_it else f"{type(error).__name__}: {error}"[:200]


class Actions(AbstractContextManager["Actions"]):
    """All actions of a device. Raises MissingError at once when one needs a package that is not installed."""

    def __init__(self, actions: Iterable[Action], log: Log, in_force_s: float = Timing.hold_s):
        self.workers = [Worker(action, PERFORM[action.kind](action), log, in_force_s) for action in actions]
        for worker in self.workers:
            worker.start()

    def tell(self, status: Status) -> None:
        """Start every action that waits for this state; returns at once."""
        event = message(status)
        for worker in self.workers:
            if status.state in worker.action.on:
                worker.offer(event)

    def __exit__(self, *_: object) -> None:
        """Let each end what it has begun, within its own timeout."""
        for worker in self.workers:
            worker.offer(None)
        for worker in self.workers:
            worker.join(worker.action.timeout_s + worker.action.seconds + 1)


def _command(action: Action) -> Callable[[dict[str, Any]], None]:
    """No shell; {state}, {user} and {reason} are filled in, and stand in HYPERVERIFY_STATE and so on as well."""

    def perform(event: dict[str, Any]) -> None:
        told = {key: str(event[key]) for key in ("state", "user", "reason")}
        words = [_filled(word, told) for word in action.command]
        variables = {f"HYPERVERIFY_{key.upper()}": value for key, value in told.items()}
        process = subprocess.Popen(
            words, env=os.environ | variables, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            code = process.wait(action.timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise TimeoutError(f"no end after {action.timeout_s:g} s") from None
        if code:
            raise RuntimeError(f"exit code {code}")

    return perform


def _filled(word: str, told: dict[str, str]) -> str:
    for key, value in told.items():
        word = word.replace("{" + key + "}", value)
    return word


def _webhook(action: Action) -> Callable[[dict[str, Any]], None]:
    def perform(event: dict[str, Any]) -> None:
        request = urllib.request.Request(
            action.url, json.dumps(event).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=action.timeout_s):
            pass

    return perform


def _mqtt(action: Action) -> Callable[[dict[str, Any]], None]:
    """A connection for each event: state changes are rare, and a broker that went away is no concern in between."""
    try:
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as error:
        raise MissingError("the action mqtt needs paho-mqtt", do="run `pip install paho-mqtt`") from error

    def perform(event: dict[str, Any]) -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2)
        if action.username:
            client.username_pw_set(action.username, action.password)
        client.connect_timeout = action.timeout_s
        client.connect(action.host, action.port)
        client.loop_start()
        try:
            sent = client.publish(action.topic, json.dumps(event), qos=1)
            sent.wait_for_publish(action.timeout_s)
            if not sent.is_published():
                raise TimeoutError(f"not delivered within {action.timeout_s:g} s")
        finally:
            client.disconnect()
            client.loop_stop()

    return perform


def _gpio(action: Action) -> Callable[[dict[str, Any]], None]:
    """The pin is on for `seconds`: a relay, a lamp or a buzzer."""
    try:
        from gpiozero import DigitalOutputDevice
        from gpiozero.exc import GPIOZeroError
    except ImportError as error:
        raise MissingError("the action gpio needs gpiozero", do="run `sudo apt install python3-gpiozero`") from error
    try:
        device: Any = DigitalOutputDevice(action.pin, active_high=action.active_high, initial_value=False)
    except GPIOZeroError as error:
        raise MissingError(f"pin {action.pin} cannot be used", got=str(error), do="run on a Raspberry Pi") from error

    def perform(_: dict[str, Any]) -> None:
        device.on()
        try:
            threading.Event().wait(action.seconds)
        finally:
            device.off()

    return perform


PERFORM: dict[str, Callable[[Action], Callable[[dict[str, Any]], None]]] = {
    "command": _command,
    "webhook": _webhook,
    "mqtt": _mqtt,
    "gpio": _gpio,
}
