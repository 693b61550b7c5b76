"""The configuration of a device: TOML, checked as a whole, every problem told at once."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from device.actions import Action
from device.decision import Rates
from device.liveness import LivenessSettings
from device.quality import QualityLimits
from device.session import State, Timing
from toolkit.errors import UsageError

TEMPLATE = Path(__file__).parent / "device.toml"
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class CameraSettings:
    source: str = "0"
    width_px: int = 640
    height_px: int = 480
    fps: float = 15.0


@dataclass(frozen=True)
class UserSettings:
    bundles: str = "/var/lib/hyperverify/bundles"  # a bundle, or a folder of bundles


@dataclass(frozen=True)
class VerifierSettings:
    runtime: str = "auto"
    precision: str = "int8"
    threads: int = 1


@dataclass(frozen=True)
class DetectionSettings:
    long_side_px: int = 320
    every: int = 10
    faces: str = "largest"


@dataclass(frozen=True)
class PreviewSettings:
    kind: str = "off"
    address: str = "127.0.0.1"
    port: int = 8089
    token: str = ""


@dataclass(frozen=True)
class ServiceSettings:
    metrics: str = ""  # a port of this machine, or the path of a Unix socket


@dataclass(frozen=True)
class Settings:
    """Everything that `toolkit run` needs to know."""

    camera: CameraSettings = field(default_factory=CameraSettings)
    users: UserSettings = field(default_factory=UserSettings)
    verifier: VerifierSettings = field(default_factory=VerifierSettings)
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    quality: QualityLimits = field(default_factory=QualityLimits)
    decision: Rates = field(default_factory=Rates)
    timing: Timing = field(default_factory=Timing)
    liveness: LivenessSettings = field(default_factory=LivenessSettings)
    preview: PreviewSettings = field(default_factory=PreviewSettings)
    service: ServiceSettings = field(default_factory=ServiceSettings)
    action: tuple[Action, ...] = ()


# Numbers outside are mistakes: rates that no data supports, times that no visitor would wait for.
RANGES: dict[str, tuple[float, float]] = {
    "camera.width_px": (64, 8192),
    "camera.height_px": (64, 8192),
    "camera.fps": (0.1, 240),
    "verifier.threads": (1, 64),
    "detection.long_side_px": (96, 1280),
    "detection.every": (1, 1000),
    "decision.false_accept": (1e-6, 0.5),
    "decision.false_reject": (1e-4, 0.5),
    "decision.frames": (1, 300),
    "timing.decide_within_s": (0.1, 600),
    "timing.lockout_after": (0, 1000),
    "preview.port": (0, 65535),
    "liveness.within_s": (1, 120),
    "liveness.steps": (1, 8),
    "liveness.network_threshold": (0, 1),
    "action.timeout_s": (0.05, 300),
    "action.seconds": (0, 3600),
    "action.port": (1, 65535),
    "action.pin": (0, 64),
}
CHOICES: dict[str, tuple[str, ...]] = {
    "verifier.runtime": ("auto", "litert", "onnxruntime", "tflite-runtime", "c"),
    "verifier.precision": ("int8", "fp32"),
    "detection.faces": ("largest", "all"),
    "preview.kind": ("off", "web", "window"),
    "liveness.challenge": ("off", "turn"),
    "action.kind": ("command", "webhook", "mqtt", "gpio"),
    "action.on": tuple(State),
}
LONGEST_S = 86_400.0  # of every other time

T = TypeVar("T")


def read_settings(path: Path) -> Settings:
    """Settings from a TOML file. Raises UsageError naming every problem."""
    try:
        data = path.read_bytes()
    except OSError as error:
        problem = error.strerror or "unreadable"
        raise UsageError(f"cannot read {path}", got=problem, do="write one with `toolkit init-device`") from error
    return parse_settings(data, str(path))


def parse_settings(data: bytes, origin: str) -> Settings:
    """Settings from the bytes of a TOML document. Raises UsageError naming every problem."""
    try:
        if len(data) > MAX_BYTES:
            raise UsageError(f"{origin} is too large", got=f"{len(data)} bytes", expected=f"at most {MAX_BYTES}")
        tables = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{origin} is not TOML", got=str(error).splitlines()[0][:200]) from error
    problems: list[str] = []
    settings = _settings(tables, problems)
    refuse(problems or combinations(settings), f"{origin} cannot be used")
    return settings


def refuse(problems: list[str], what: str) -> None:
    """Raises UsageError that says `what` is wrong and names every one of the problems, if there are any."""
    if problems:
        raise UsageError("\n  ".join([f"{what}:", *problems]))


def _settings(tables: dict[str, Any], problems: list[str]) -> Settings:
    sections: dict[str, Any] = {}
    known = {f.name: f for f in dataclasses.fields(Settings)}
    for name, table in tables.items():
        if name not in known:
            problems.append(_unknown(name, list(known), "section "))
        elif name == "action":
            rows = table if isinstance(table, list) else [table]
            sections[name] = tuple(_fill(Action, row, name, problems) for row in rows)
        else:
            sections[name] = _fill(known[name].default_factory, table, name, problems)  # type: ignore[arg-type]
    return Settings() if problems else Settings(**sections)


def _fill(kind: type[T], table: object, section: str, problems: list[str]) -> T:
    """One section's dataclass; a wrong value is told, and its default stands in for it."""
    if not isinstance(table, dict):
        problems.append(f"[{section}] is not a section")
        return kind()
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    default, values = kind(), {}
    for key, value in table.items():
        if key not in fields:
            problems.append(_unknown(key, list(fields), f"[{section}] "))
            continue
        converted = _convert(value, getattr(default, key))
        where = f"{section}.{key}"
        if converted is None:
            problems.append(f"{where} = {value!r}: expected {_wording(getattr(default, key))}")
        elif problem := _outside(where, converted):
            problems.append(f"{where} = {value!r}: {problem}")
        else:
            values[key] = converted
    return dataclasses.replace(default, **values)  # type: ignore[type-var]


def _convert(value: object, default: object) -> object:
    """The value as the type of its default, or None when it has another."""
    if isinstance(default, bool) or isinstance(value, bool):
        return value if isinstance(default, bool) and isinstance(value, bool) else None
    if isinstance(default, float):
        return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else None
    if isinstance(default, tuple):
        kind = float if default and isinstance(default[0], float) else str
        if not isinstance(value, list) or (kind is float and len(value) != len(default)):
            return None
        items = [float(v) if kind is float and isinstance(v, int) else v for v in value]
        return tuple(items) if all(isinstance(v, kind) for v in items) else None
    return value if isinstance(value, type(default)) else None


def _wording(default: object) -> str:
    if isinstance(default, tuple):
        return f"a list of {len(default)} numbers" if default and isinstance(default[0], float) else "a list of texts"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[type(default)]


def _outside(where: str, value: Any) -> str:
    """What is wrong with a value of the right type."""
    if where in CHOICES:
        wrong = [v for v in (value if isinstance(value, tuple) else (value,)) if v not in CHOICES[where]]
        return f"expected {' or '.join(CHOICES[where])}" if wrong else ""
    numbers = value if isinstance(value, tuple) else (value,)
    low, high = RANGES.get(where, (0.0, LONGEST_S))
    if all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers) and numbers:
        return "" if all(low <= n <= high for n in numbers) else f"expected {low:g} to {high:g}"
    return "a text cannot hold a NUL" if any(isinstance(n, str) and "\0" in n for n in numbers) else ""


def _unknown(name: str, known: list[str], prefix: str) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"{prefix}{name} is unknown; did you mean {near[0]}?" if near else f"{prefix}{name} is unknown"


def combinations(settings: Settings) -> list[str]:
    """What is wrong between values that are right on their own, in words."""
    problems = []
    limits, preview = settings.quality, settings.preview
    if limits.min_brightness >= limits.max_brightness or limits.pitch[0] >= limits.pitch[1]:
        problems.append("[quality] a lower limit is above its upper one")
    if settings.timing.lockout_longest_s < settings.timing.lockout_s:
        problems.append("[timing] lockout_longest_s is shorter than lockout_s")
    if preview.kind == "web" and not preview.address.startswith("127.") and len(preview.token) < 16:
        problems.append("[preview] an address that others can reach needs a token of at least 16 characters")
    if not re.fullmatch(r"[\w-]*", preview.token, re.ASCII):
        problems.append("[preview] a token may hold letters, digits, - and _")
    for number, action in enumerate(settings.action, 1):
        problems += [f"[[action]] {number}: {problem}" for problem in action.problems()]
    return problems
